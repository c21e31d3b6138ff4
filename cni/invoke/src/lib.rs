//! The runtime side of CNI: configuration lists, chaining, result cache, GC.
