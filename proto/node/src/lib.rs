//! What crosses a process boundary on the node and is not CRI: the dialogue between the CRI server and
//! its pod monitors ([`monitor`]), and CNI configuration and results ([`cni`]). Data only.
#![forbid(unsafe_code)]

pub mod cni;
pub mod monitor;
