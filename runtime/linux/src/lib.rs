//! All unsafe code and raw system calls of cleat, behind safe functions.
#![allow(unsafe_code)]

pub mod bpf;
pub mod cgroup;
pub mod clone;
pub mod crash;
pub mod fork;
pub mod interface;
pub mod mount;
pub mod packet;
pub mod process;
pub mod remove;
pub mod sealed;
pub mod seccomp;
pub mod signalfd;
pub mod socket;
pub mod stat;
