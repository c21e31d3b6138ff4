//! The controllers and the scheduler against an API server in memory, with nodes that are only objects.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod cluster;
mod faults;
mod leaders;
mod places;
mod workloads;
