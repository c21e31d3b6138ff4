//! What the server is started with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::reply::Budget;

/// Tells the time; tests give their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the server is started with.
#[derive(Clone)]
pub struct Config {
    /// Directory of all lasting state; `None` keeps everything in memory, for tests.
    pub data: Option<PathBuf>,
    /// etcd's endpoints and how to reach them; `None` for the embedded store.
    pub etcd: Option<store::Etcd>,
    /// Where to listen; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The address that the `kubernetes` Service leads to.
    pub advertise: IpAddr,
    /// Further names and addresses of the serving certificate.
    pub names: Vec<String>,
    /// The ranges of service addresses, the primary first.
    pub service_cidrs: Vec<IpNet>,
    /// The addresses, in those ranges, of the cluster's name service: the `kube-system/kube-dns` Service has them. Without
    /// any there is none.
    pub dns: Vec<IpAddr>,
    /// Where to write the administrator's kubeconfig, now and whenever its certificate is renewed.
    pub kubeconfig: Option<PathBuf>,
    /// The socket that takes orders to back up and restore.
    pub socket: Option<PathBuf>,
    /// Where to write the audit log.
    pub audit_log: Option<PathBuf>,
    /// The issuer of service-account tokens, and their first audience.
    pub issuer: String,
    /// How long a request may take that is neither a watch nor a stream.
    pub request_timeout: Duration,
    /// How long a connection may be open without a request, and one of HTTP/1.1 besides be idle between two or take for
    /// a head. One of HTTP/2 that has had a request stays for as long as its peer answers pings.
    pub idle: Duration,
    /// How many requests run at once.
    pub seats: usize,
    /// How many requests of each client wait when all seats are taken.
    pub queue: usize,
    /// How many connections are open at once; further ones wait to be accepted.
    pub connections: usize,
    /// The largest body of a request, in bytes.
    pub body_limit: usize,
    /// How much of all such bodies is held at once; clones of the configuration share it.
    pub bodies: Budget,
    /// How often certificates and keys are looked at.
    pub renewal: Duration,
    /// The time.
    pub clock: Clock,
}

impl Config {
    /// Everything in memory, on a free port of the loopback.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            data: None,
            etcd: None,
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            advertise: IpAddr::V4(Ipv4Addr::LOCALHOST),
            names: Vec::new(),
            service_cidrs: vec![IpNet::new_assert(Ipv4Addr::new(10, 96, 0, 0).into(), 12)],
            dns: Vec::new(),
            kubeconfig: None,
            socket: None,
            audit_log: None,
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            request_timeout: Duration::from_secs(60),
            idle: Duration::from_secs(90),
            seats: 64,
            queue: 128,
            connections: 16_384,
            body_limit: 3 << 20,
            bodies: Budget::new(64 << 20, 256 << 20),
            renewal: Duration::from_secs(600),
            clock: Arc::new(Timestamp::now),
        }
    }
}
