//! The runtime side of CNI 1.1: configuration lists, chaining, result cache, GC.
//!
//! ```text
//! conf_dir/*.conflist ──load──> NetworkList ──add──> plugin, plugin, … ──> AddResult
//!                                              └──> cache_dir/results/<network>-<container>-<ifname>
//! ```
//! Everything here blocks: async callers use `spawn_blocking`. An attachment's configuration is written to the
//! cache before its first plugin runs and DEL works from there, so a runtime that dies at any instant, or a
//! configuration that changes meanwhile, leaves nothing that DEL does not find.
#![forbid(unsafe_code)]

mod cache;
mod chain;
mod conf;
mod install;
mod plugin;
mod turn;

pub use chain::{Attachment, Dirs, NetworkError, Networks};
pub use conf::{ConfError, NetworkList};
pub use install::{BridgeNetwork, PLUGINS, conflist, default_conflist, install};
pub use plugin::{PluginError, delegate};
pub use proto_node::cni::{AddResult, Bandwidth, Capabilities, CapabilityDns, GcAttachment, PortMapping};
