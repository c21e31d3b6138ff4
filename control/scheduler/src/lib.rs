//! Which node a pod goes to, and why not to the others: a pure function of the cluster as it is.
#![forbid(unsafe_code)]
