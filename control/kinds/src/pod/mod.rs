//! The pod: as a kind, and as the template that workloads hold.
