//! The cluster's name service, on every node: the node's pods ask it, and nobody else.
//!
//! ```text
//! Services, EndpointSlices, Namespaces (watch) ──> zone ─┐
//! question, UDP or TCP ──> message ──────────────> answer ──> reply
//!                                                    └──> forward: cache, then upstream servers
//! ```
//! [`name`], [`message`], [`zone`], [`answer`](mod@answer) and [`cache`] are pure.
#![forbid(unsafe_code)]

mod address;
pub mod answer;
pub mod cache;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod http;
pub mod message;
mod metrics;
pub mod name;
mod resolv;
mod server;
pub mod zone;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use client::Cache;

pub use address::cleanup;
pub use forward::Upstreams;
pub use server::{Server, run};

/// What a node's name service needs to know.
#[derive(Clone)]
pub struct Config {
    /// The cluster, of which Services, EndpointSlices and Namespaces are watched.
    pub cache: Cache,
    /// Where pods find it: the addresses of the Service `kube-dns`. They are put on the link `lo` of the node, so that
    /// each node answers its own pods.
    pub addresses: Vec<IpAddr>,
    /// 53. In tests 0, for any that is free.
    pub port: u16,
    /// The cluster's domain.
    pub domain: String,
    /// Who knows all other names.
    pub upstreams: Upstreams,
    /// For how many seconds a client may remember an answer about the cluster.
    pub ttl: u32,
    /// How much memory answers of upstream servers may take, in bytes.
    pub cache_bytes: usize,
    /// Put the addresses on `lo`, and remember in this directory that they are ours. `None`: they are there already.
    pub run_dir: Option<PathBuf>,
    /// Where `/metrics`, `/health` and `/ready` are answered over HTTP, as CoreDNS does at `:9153`, `:8080`, `:8181`.
    pub http: Option<SocketAddr>,
}

impl Config {
    /// For the usual domain and port; upstream servers are the machine's own.
    #[must_use]
    pub fn new(cache: Cache, addresses: Vec<IpAddr>, run_dir: PathBuf) -> Config {
        Config {
            cache,
            addresses,
            port: 53,
            domain: "cluster.local".to_owned(),
            upstreams: Upstreams::default(),
            ttl: 5,
            cache_bytes: 4 << 20,
            run_dir: Some(run_dir),
            http: None,
        }
    }
}

/// Why names cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The domain is no name.
    #[error("{0:?} is no domain")]
    Domain(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused an address for `lo`.
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
