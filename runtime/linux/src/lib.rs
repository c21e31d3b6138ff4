//! All unsafe code and raw system calls of cleat, behind safe functions.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod crash;
