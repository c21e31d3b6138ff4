//! The network between nodes: a pod on one reaches a pod on another with its own address.
//!
//! ```text
//! Nodes (watch) ──> nodes: leases, peers, conflicts ─┐
//! links, routes, neighbours (rtnetlink) ──> Links ───┴─> plan ──> RouteOp ──> kernel
//!                                                    └─> the node's CNI list · subnet.env · its lease as annotations
//! ```
//! The scheme is flannel's third: a VXLAN device that learns nothing, and for each other node one route, one permanent
//! neighbour, one forwarding entry. The lease is flannel's too, so that nodes of both share a cluster. Where nodes are
//! on one link they may route to each other without VXLAN.
//!
//! [`run`] takes nothing away when it ends; [`cleanup`] does.
#![forbid(unsafe_code)]

mod conf;
mod kernel;
mod lease;
mod masquerade;
mod nodes;
pub mod plan;
mod run;
mod sysctl;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use client::Cache;
use ipnet::IpNet;

pub use kernel::{Cleanup, cleanup};
pub use run::run;

/// How packets get to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// In UDP.
    Vxlan {
        /// Number of the network.
        vni: u32,
        /// UDP port, of all nodes.
        port: u16,
        /// Without VXLAN to nodes on the same link.
        direct_routing: bool,
    },
    /// As they are: all nodes are on one link.
    HostGw,
}

impl Default for Backend {
    /// As flannel's on Linux.
    fn default() -> Backend {
        Backend::Vxlan { vni: 1, port: 8472, direct_routing: false }
    }
}

/// What a node's part of the network needs to know.
#[derive(Clone)]
pub struct Config {
    /// The cluster, of which Nodes are watched; its client writes this Node's annotations.
    pub cache: Cache,
    /// This node's name.
    pub node_name: String,
    /// Where other nodes reach this one, at most one of a family. Of a family without one: what its Node has as
    /// `InternalIP`.
    pub node_ips: Vec<IpAddr>,
    /// The ranges that all nodes' ranges are from. Pods' packets that leave them are masqueraded.
    pub network: Vec<IpNet>,
    /// The ranges of services. A machine without a default route gets routes to them: it would not reach any itself.
    pub services: Vec<IpNet>,
    /// How packets get to another node.
    pub backend: Backend,
    /// MTU of pods, in bytes. `None`: what the link to other nodes carries, less what VXLAN adds.
    pub mtu: Option<u32>,
    /// Give packets of pods that leave the cluster the node's address.
    pub masquerade: bool,
    /// The bridge that pods are attached to, and the name of the CNI network.
    pub bridge: String,
    /// The VXLAN devices are named `<device>.<vni>` and `<device>-v6.<vni>`.
    pub device: String,
    /// Where the CNI list goes, as `10-cleat.conflist`.
    pub cni_conf_dir: PathBuf,
    /// Where `host-local` keeps the addresses it gave.
    pub lease_dir: PathBuf,
    /// Where `subnet.env` goes, for those who use flannel's own CNI plugin.
    pub run_dir: PathBuf,
}

impl Config {
    /// VXLAN as flannel's, pods masqueraded outside `10.244.0.0/16`, all else found out.
    #[must_use]
    pub fn new(
        cache: Cache,
        node_name: &str,
        cni_conf_dir: PathBuf,
        lease_dir: PathBuf,
        run_dir: PathBuf,
    ) -> Config {
        Config {
            cache,
            node_name: node_name.to_owned(),
            node_ips: Vec::new(),
            network: vec!["10.244.0.0/16".parse().expect("it is a network")],
            services: Vec::new(),
            backend: Backend::default(),
            mtu: None,
            masquerade: true,
            bridge: "cleat0".to_owned(),
            device: "cleat".to_owned(),
            cni_conf_dir,
            lease_dir,
            run_dir,
        }
    }
}

/// Why the network cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel cannot be listened to.
    #[error("cannot listen to the kernel's network")]
    Listen(#[source] io::Error),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] netlink::NetlinkError),
    /// A file cannot be written or removed.
    #[error("cannot {what}")]
    File {
        /// What was tried, with the path.
        what: String,
        /// Why.
        source: io::Error,
    },
}
