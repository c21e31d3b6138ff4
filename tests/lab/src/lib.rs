//! What tests and benchmarks of a whole node stand on: throw-away machines made of namespaces, images assembled
//! from Debian packages, registries that behave and registries that do not, and a list of all that a leak leaves.
//!
//! ```text
//! Machine ── own net, mount, pid, uts, ipc and cgroup namespaces; gone, with all its processes, on drop
//!    ├── Node ── a built `cleat up` in it, with its manifests, its state, and ways to hurt it
//!    ├── Registry ── serves images on the machine's loopback; can stall, lie and corrupt
//!    └── Snapshot ── mounts, links, cgroups, processes, leases, rules, directories: before and after
//! ```
#![forbid(unsafe_code)]

pub mod cluster;
pub mod control;
pub mod debian;
pub mod demo;
pub mod elf;
pub mod etcd;
pub mod http;
pub mod image;
pub mod machine;
pub mod node;
pub mod objects;
pub mod peer;
pub mod plane;
pub mod programs;
pub mod pypi;
pub mod registry;
pub mod snapshot;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod vm;
pub mod wait;

pub use cluster::Cluster;
pub use control::Control;
pub use etcd::Etcd;
pub use machine::{Machine, Process};
pub use node::Node;
pub use objects::Objects;
pub use registry::Registry;
pub use snapshot::Snapshot;
pub use terminal::Terminal;
