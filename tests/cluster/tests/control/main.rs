//! The controllers and the scheduler against an API server in memory, with nodes that are only objects.

mod cluster;
mod faults;
mod leaders;
mod places;
mod workloads;
