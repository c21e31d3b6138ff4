//! The control plane of a cluster: API server, controllers and scheduler in one process, on one watch cache.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use apiserver::{Bound, Config, Server, front};
use client::{Cache, Client};
use ipnet::IpNet;

use crate::args;
use crate::cluster::Cluster;
use crate::parts::Parts;
use crate::paths::Paths;

/// What everybody in this process calls itself towards the API server.
const AGENT: &str = concat!("cleat/", env!("CARGO_PKG_VERSION"));
/// How large a node's part of the pods' range is, as upstream's.
const IPV4_NODE_PREFIX: u8 = 24;
const IPV6_NODE_PREFIX: u8 = 64;

/// A control plane that has its addresses and is not running yet.
pub(crate) struct ControlPlane {
    bound: Bound,
    cache: Cache,
    controllers: control::Config,
    /// Where the administrator's kubeconfig is.
    pub(crate) kubeconfig: PathBuf,
    cluster: Cluster,
}

impl ControlPlane {
    /// Opens the store and takes the addresses.
    ///
    /// `identity` tells this process from others that serve the same cluster.
    pub(crate) async fn open(
        plane: &args::Plane,
        identity: Option<&str>,
        paths: &Paths,
    ) -> anyhow::Result<Self> {
        let mut config = config(plane, paths)?;
        let shared = config.etcd.is_some();
        let kubeconfig = config.kubeconfig.clone().unwrap_or_default();
        let cluster = Cluster::new(plane.pod_cidr.clone(), config.service_cidrs.clone());
        cluster.check()?;
        config.dns = cluster.dns();
        allow_many_files();
        let bound = Bound::new(Server::open(config).await?).await?;
        let cache = Cache::new(local(bound.server(), "system:apiserver", &["system:masters"]));
        let mut controllers = controllers(bound.server(), &cache, &cluster, (plane, identity))?;
        controllers.leader_election = shared;
        let metrics = controllers.metrics.clone();
        bound.server().beside.get_or_init(|| Box::new(move || metrics.text()));
        // `--controllers=` names nobody.
        controllers.workers = plane.controllers.iter().filter(|name| !name.is_empty()).cloned().collect();
        cluster
            .publish(cache.client())
            .await
            .context("telling nodes of the cluster's ranges of addresses")?;
        Ok(Self { bound, cache, controllers, kubeconfig, cluster })
    }

    /// The API server.
    pub(crate) fn server(&self) -> &Arc<Server> {
        self.bound.server()
    }

    /// Where it is reached, for people.
    pub(crate) fn addresses(&self) -> String {
        let advertised = self.server().config.advertise;
        let reached = |address: SocketAddr| match address.ip().is_unspecified() {
            true => SocketAddr::new(advertised, address.port()),
            false => address,
        };
        let all: BTreeSet<SocketAddr> = self.bound.addresses().into_iter().map(reached).collect();
        all.iter().map(|address| format!("https://{address}")).collect::<Vec<_>>().join(", ")
    }

    /// The watch cache of this process, for one who asks and writes as `user`.
    pub(crate) fn cache(&self, user: &str, groups: &[&str]) -> Cache {
        self.cache.with_client(local(self.server(), user, groups))
    }

    /// Its ranges and names.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Adds its daemons to those of this process.
    pub(crate) fn start(self, parts: &mut Parts) {
        let Self { bound, controllers, .. } = self;
        parts.add("API server", |stop| async move {
            bound.run(stop).await;
            anyhow::Ok(())
        });
        parts.add("controllers", |stop| control::run(controllers, stop));
    }
}

fn local(server: &Arc<Server>, user: &str, groups: &[&str]) -> Client {
    Client::local(front::local(server, user, groups), AGENT)
}

/// What the controllers and the scheduler are told.
fn controllers(
    server: &Arc<Server>,
    cache: &Cache,
    cluster: &Cluster,
    (plane, identity): (&args::Plane, Option<&str>),
) -> anyhow::Result<control::Config> {
    let of = server.clone();
    let client_of = move |component: &'static str| match component {
        "kube-controller-manager" | "kube-scheduler" => local(&of, &format!("system:{component}"), &[]),
        controller => {
            let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
            local(&of, &format!("system:serviceaccount:kube-system:{controller}"), &groups)
        }
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let identity = identity.map_or_else(|| format!("{host}_{}", std::process::id()), str::to_owned);
    let mut config = control::Config::new(cache.clone(), Arc::new(client_of), identity);
    let part = |range: &IpNet| if range.addr().is_ipv4() { IPV4_NODE_PREFIX } else { IPV6_NODE_PREFIX };
    if let Some(small) = cluster.pods.iter().find(|range| range.prefix_len() > part(range)) {
        bail!("--pod-cidr {small}: too small to give a node a /{} of it", part(small));
    }
    config.facts.pod_cidrs = cluster.pods.iter().map(|range| (range.to_string(), part(range))).collect();
    config.facts.root_ca = server.pki.bundle();
    config.signer =
        Some(control::Signing { pki: server.pki.clone(), duration: plane.cluster_signing_duration });
    Ok(config)
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
