//! A whole cluster in one thread, under a seed and virtual time, with faults as events.
#![forbid(unsafe_code)]
