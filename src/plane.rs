//! The control plane of a cluster: API server, controllers and scheduler in one process, on one watch cache.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use apiserver::{Bound, Config, Server, front};
use client::{Cache, Client};
use ipnet::IpNet;

use crate::args;
use crate::parts::Parts;
use crate::paths::Paths;

/// What everybody in this process calls itself towards the API server.
const AGENT: &str = concat!("cleat/", env!("CARGO_PKG_VERSION"));
/// The pods' range of a cluster that was told nothing else.
const POD_CIDR: &str = "10.244.0.0/16";

/// A control plane that has its addresses and is not running yet.
pub(crate) struct ControlPlane {
    bound: Bound,
    cache: Cache,
    /// Where the administrator's kubeconfig is.
    pub(crate) kubeconfig: PathBuf,
    /// The ranges of service addresses.
    pub(crate) service_cidrs: Vec<IpNet>,
}

impl ControlPlane {
    /// Opens the store and takes the addresses.
    pub(crate) async fn open(plane: &args::Plane, paths: &Paths) -> anyhow::Result<Self> {
        let config = config(plane, paths)?;
        let kubeconfig = config.kubeconfig.clone().unwrap_or_default();
        let service_cidrs = config.service_cidrs.clone();
        allow_many_files();
        let bound = Bound::new(Server::open(config).await?).await?;
        let cache = Cache::new(local(bound.server(), "system:apiserver", &["system:masters"]));
        Ok(Self { bound, cache, kubeconfig, service_cidrs })
    }

    /// The API server.
    pub(crate) fn server(&self) -> &Arc<Server> {
        self.bound.server()
    }

    /// Where it listens, for people.
    pub(crate) fn addresses(&self) -> String {
        let all: Vec<String> = self.bound.addresses().iter().map(|a| format!("https://{a}")).collect();
        all.join(", ")
    }

    /// The watch cache of this process, for one who asks and writes as `user`.
    pub(crate) fn cache(&self, user: &str, groups: &[&str]) -> Cache {
        self.cache.with_client(local(self.server(), user, groups))
    }

    /// Adds its daemons to those of this process.
    pub(crate) fn start(self, parts: &mut Parts) {
        let Self { bound, .. } = self;
        parts.add("API server", |stop| async move {
            bound.run(stop).await;
            anyhow::Ok(())
        });
    }
}

fn local(server: &Arc<Server>, user: &str, groups: &[&str]) -> Client {
    Client::local(front::local(server, user, groups), AGENT)
}

fn config(plane: &args::Plane, paths: &Paths) -> anyhow::Result<Config> {
    let absolute = |path: &PathBuf| std::path::absolute(path);
    let mut config = Config::in_memory();
    config.etcd = plane.store.as_deref().map(|url| etcd(url, plane)).transpose()?;
    config.listen.clone_from(&plane.listen);
    config.advertise = plane.advertise_address.unwrap_or_else(own_address);
    config.names.clone_from(&plane.tls_san);
    config.names.extend(rustix::system::uname().nodename().to_str().map(str::to_owned).ok());
    config.service_cidrs.clone_from(&plane.service_cidr);
    config.issuer.clone_from(&plane.service_account_issuer);
    config.audit_log = plane.audit_log.as_ref().map(absolute).transpose()?;
    config.kubeconfig = Some(match &plane.kubeconfig {
        Some(path) => absolute(path)?,
        None => paths.admin_kubeconfig(),
    });
    config.socket = Some(paths.control_socket());
    config.data = Some(paths.data.clone());
    Ok(config)
}

/// Each connection is an open file, and shells allow few of those unless asked.
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the number of open files stays limited");
    }
}

/// Reads `etcd://HOST:PORT[,HOST:PORT]`.
fn etcd(url: &str, plane: &args::Plane) -> anyhow::Result<store::Etcd> {
    let hosts = url.strip_prefix("etcd://").map(|hosts| hosts.split(',').collect::<Vec<_>>());
    let Some(hosts) = hosts.filter(|hosts| hosts.iter().all(|host| host.contains(':'))) else {
        bail!("--store {url}: expected etcd://HOST:PORT[,HOST:PORT]");
    };
    let tls = match (&plane.store_ca, &plane.store_cert, &plane.store_key) {
        (Some(ca), Some(certificate), Some(key)) => {
            Some(store::Tls { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoints = hosts.iter().map(|host| format!("{scheme}://{host}")).collect();
    Ok(store::Etcd { endpoints, tls })
}

/// The address from which the default route would be taken; the loopback's where there is none. Nothing is sent.
pub(crate) fn own_address() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address of the documentation's range: never anybody's.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
