//! All CNI plugins in one small program, chosen by argv[0].
