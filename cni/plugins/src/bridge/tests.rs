//! The plan against a model of the kernel: what it does, and that doing it leaves nothing to do.
