//! The service proxy: watches Services and EndpointSlices, and keeps the node's nf_tables as `proxy-rules` compiles them.
#![forbid(unsafe_code)]

mod encode;
mod health;
mod kernel;
mod kubeproxy;
mod metrics;
mod sync;

pub use kernel::{Applied, Kernel};
pub use kubeproxy::{Beside, ConfigurationError};
pub use proxy_rules::NodePorts;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use client::Cache;
use ipnet::IpNet;
use proxy_rules::Family;
use tokio_util::sync::CancellationToken;

use health::Health;

/// The ports of upstream's proxy.
const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

/// What the proxy of one node needs. [`Config::new`] has defaults for all but the node's name and the cache.
#[derive(Clone)]
pub struct Config {
    /// Services, EndpointSlices, ServiceCIDRs and the node, of this cluster.
    pub cache: Cache,
    /// The node's name: its own endpoints are those of this `nodeName`.
    pub node_name: String,
    /// The node's addresses. Empty: those of the Node object.
    pub node_ips: Vec<IpAddr>,
    /// On which addresses node ports are open; by default on `node_ips`.
    pub node_ports: NodePorts,
    /// How pods are told from others: what does not come from a pod is masqueraded on its way to a cluster IP.
    pub detect_local: DetectLocal,
    /// For [`DetectLocal::ClusterCidr`]: where pods live. Empty: nothing is masqueraded for coming from elsewhere.
    pub pod_cidrs: Vec<IpNet>,
    /// What goes to a cluster IP is masqueraded, wherever it comes from.
    pub masquerade_all: bool,
    /// Where cluster IPs are taken from, beside those of ServiceCIDR objects: an address of these without a service is
    /// dropped.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses within `service_cidrs` that somebody else answers: the cluster DNS.
    pub exempt: Vec<IpAddr>,
    /// Where `/healthz` and `/livez` are served; upstream's 0.0.0.0:10256. While the port is another's it is waited for.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` is served; upstream's 127.0.0.1:10249. While the port is another's it is waited for.
    pub metrics: Option<SocketAddr>,
}

/// How pods are told from others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DetectLocal {
    /// By the cluster's networks of pods.
    #[default]
    ClusterCidr,
    /// By the networks of pods that the Node object has.
    NodeCidr,
    /// By the bridge that their packets come from.
    Bridge(String),
    /// By the beginning of the name of the link that their packets come from.
    LinkPrefix(String),
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(cache: Cache, node_name: &str) -> Config {
        Config {
            cache,
            node_name: node_name.to_owned(),
            node_ips: Vec::new(),
            node_ports: NodePorts::default(),
            detect_local: DetectLocal::default(),
            pod_cidrs: Vec::new(),
            masquerade_all: false,
            service_cidrs: Vec::new(),
            exempt: Vec::new(),
            healthz: Some((Ipv4Addr::UNSPECIFIED, HEALTHZ_PORT).into()),
            metrics: Some((Ipv4Addr::LOCALHOST, METRICS_PORT).into()),
        }
    }
}

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel.
    #[error("the service proxy cannot work on nf_tables")]
    Kernel(#[from] netlink::NetlinkError),
}

/// Keeps the rules until `shutdown`; they stay when it ends, so that connections go on. In the network namespace of the
/// thread that the runtime was made by.
///
/// # Errors
/// [`Error`]; what goes wrong later is logged and tried again.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let health = Health::new();
    let shutdown = shutdown.child_token();
    let _ends = shutdown.clone().drop_guard();
    if let Some(address) = config.healthz {
        tokio::spawn(health::serve_healthz(health.clone(), address, shutdown.clone()));
    }
    if let Some(address) = config.metrics {
        tokio::spawn(health::serve_metrics(health.clone(), address, shutdown.clone()));
    }
    tokio::spawn(health::serve_ports(health.clone(), shutdown.clone()));
    Ok(sync::run(Arc::new(config), health, shutdown).await?)
}

/// Removes all that the proxy ever did to the kernel of the calling thread's network namespace. Connections that are
/// translated go on.
///
/// # Errors
/// The kernel's.
pub fn cleanup() -> Result<(), Error> {
    for family in Family::ALL {
        Kernel::open(family)?.remove()?;
    }
    Ok(())
}
