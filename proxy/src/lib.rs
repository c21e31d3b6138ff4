//! The service proxy: watches Services and EndpointSlices, and keeps the node's nf_tables as `proxy-rules` compiles them.
#![forbid(unsafe_code)]

mod encode;
mod kernel;

pub use kernel::{Applied, Kernel};

use std::net::{IpAddr, SocketAddr};

use client::Cache;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

/// What the proxy of one node needs. [`Config::new`] has defaults for all but the node's name and the cache.
#[derive(Clone)]
pub struct Config {
    /// Services, EndpointSlices, ServiceCIDRs and the node, of this cluster.
    pub cache: Cache,
    /// The node's name: its own endpoints are those of this `nodeName`.
    pub node_name: String,
    /// The node's addresses, on which node ports are open by default. Empty: those of the Node object.
    pub node_ips: Vec<IpAddr>,
    /// Where pods live: what comes from elsewhere to a cluster IP is masqueraded. Empty: nothing is.
    pub pod_cidrs: Vec<IpNet>,
    /// Where cluster IPs are taken from, beside those of ServiceCIDR objects: an address of these without a service is
    /// dropped.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses within `service_cidrs` that somebody else answers: the cluster DNS.
    pub exempt: Vec<IpAddr>,
    /// Where `/healthz` and `/livez` are served.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` is served.
    pub metrics: Option<SocketAddr>,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(cache: Cache, node_name: &str) -> Config {
        Config {
            cache,
            node_name: node_name.to_owned(),
            node_ips: Vec::new(),
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            exempt: Vec::new(),
            healthz: None,
            metrics: None,
        }
    }
}

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel.
    #[error("the service proxy cannot work on nf_tables")]
    Kernel(#[from] netlink::NetlinkError),
    /// A server of the proxy.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Keeps the rules until `shutdown`; they stay when it ends, so that connections go on. In the network namespace of the
/// calling thread's process.
///
/// # Errors
/// [`Error`]; what goes wrong later is logged and tried again.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let _ = config;
    shutdown.cancelled().await;
    Ok(())
}
