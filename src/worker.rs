//! The node's half of a cluster: CRI server, agent, service proxy, name service and the network between nodes, in one
//! process, on one watch cache.

use std::path::Path;

use agent::{NodeIdentity, ServingCertificate};
use anyhow::Context;
use client::Cache;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::cluster::Cluster;
use crate::daemon;
use crate::parts::Parts;
use crate::paths::Paths;

/// A node that is not running yet.
pub(crate) struct Worker {
    /// None where another's is used.
    cri: Option<cri::Server>,
    agent: agent::Config,
    proxy: proxy::Config,
    overlay: Option<overlay::Config>,
    dns: dns::Config,
}

/// The port of the kubelet's API.
const KUBELET_PORT: u16 = 10250;

/// What the command line says of a node.
pub(crate) struct Orders<'a> {
    pub(crate) node: &'a args::Node,
    pub(crate) network: &'a args::Network,
    pub(crate) runtime: &'a args::Runtime,
    pub(crate) manifests: Option<&'a Path>,
}

impl Worker {
    /// Opens the CRI server, and makes up everybody's configuration.
    pub(crate) async fn open(
        orders: &Orders<'_>,
        paths: &Paths,
        cluster: &Cluster,
        membership: Membership,
    ) -> anyhow::Result<Self> {
        let agent = agent(orders.node, orders.manifests, paths, cluster, &membership)?;
        let node = agent.node_name.clone();
        let mut cri = daemon::cri_config(paths, orders.runtime)?;
        let mut overlay = None;
        if orders.runtime.cni_conf_dir.is_none() {
            cri.cni_conf_dir = paths.data.join("cni/net.d");
            let leases = paths.data.join("cni/networks");
            let mut config = overlay::Config::new(
                membership.agent,
                &node,
                cri.cni_conf_dir.clone(),
                leases,
                paths.run.clone(),
            );
            config.network.clone_from(&cluster.pods);
            config.services.clone_from(&cluster.services);
            config.bridge.clone_from(&orders.network.bridge);
            config.node_ips.extend(orders.node.node_ip);
            overlay = Some(config);
        }
        let dns_cache = membership.proxy.clone();
        let mut proxy = proxy(orders.node.proxy_config.as_deref(), membership.proxy, &node)?;
        if proxy.node_ips.is_empty() {
            proxy.node_ips.extend(orders.node.node_ip);
        }
        if proxy.pod_cidrs.is_empty() {
            proxy.pod_cidrs.clone_from(&cluster.pods);
        }
        proxy.service_cidrs.clone_from(&cluster.services);
        proxy.exempt = cluster.dns();
        let mut dns = dns::Config::new(dns_cache, cluster.dns(), paths.run.clone());
        dns.domain.clone_from(&cluster.domain);
        let cri = match links_to(&agent.cri_socket, paths).context("the CRI server's socket")? {
            true => None,
            false => Some(cri::Server::open(cri).await.context("starting the CRI server")?),
        };
        Ok(Self { cri, agent, proxy, overlay, dns })
    }

    /// Its name in the cluster.
    pub(crate) fn name(&self) -> &str {
        &self.agent.node_name
    }

    /// The images that it has, for those who watch them come; none where another has them.
    pub(crate) fn images(&self) -> Option<image::Store> {
        self.cri.as_ref().map(|cri| cri.images().clone())
    }

    /// Adds its daemons to those of this process.
    pub(crate) fn start(self, parts: &mut Parts) {
        let Self { cri, agent, proxy, overlay, dns } = self;
        if let Some(cri) = cri {
            parts.add("CRI server", |stop| cri.run(stop));
        }
        if let Some(overlay) = overlay {
            let named = agent.api.as_ref().map(|api| api.named.subscribe());
            parts.add("overlay", |stop| async move {
                // Two machines of one name would tell the others two ways to it.
                if let Some(mut named) = named
                    && stop.run_until_cancelled(named.wait_for(|named| *named)).await.is_none()
                {
                    return Ok(());
                }
                overlay::run(overlay, stop).await
            });
        }
        parts.add("service proxy", |stop| proxy::run(proxy, stop));
        parts.add("name service", |stop| dns::run(dns, stop));
        parts.add("agent", |stop: CancellationToken| agent::run(agent, stop));
    }
}

/// A node's place in its cluster: the watch cache in everybody's name, and what it shows and trusts.
pub(crate) struct Membership {
    /// As `system:node:NAME`.
    pub(crate) agent: Cache,
    /// As one who may read services and their endpoints.
    pub(crate) proxy: Cache,
    /// The certificate that the kubelet's API is served with.
    pub(crate) serving: ServingCertificate,
    /// The cluster's authorities, in PEM.
    pub(crate) authority: watch::Receiver<String>,
    /// What is renewed in time; none where the control plane is in this process.
    pub(crate) identity: Option<NodeIdentity>,
}

impl Membership {
    /// That of a node that reaches its cluster as `config` says.
    pub(crate) fn of(
        paths: &Paths,
        cache: Cache,
        config: &client::Config,
        identity: Option<NodeIdentity>,
    ) -> Self {
        let authority = String::from_utf8_lossy(config.authority.as_deref().unwrap_or_default()).into_owned();
        Self {
            agent: cache.clone(),
            proxy: cache,
            serving: ServingCertificate::open(&paths.node()),
            authority: identity.as_ref().map_or_else(|| watch::channel(authority).1, NodeIdentity::authority),
            identity,
        }
    }
}

/// The agent's configuration as a member of a cluster.
pub(crate) fn agent(
    node: &args::Node,
    manifests: Option<&Path>,
    paths: &Paths,
    cluster: &Cluster,
    member: &Membership,
) -> anyhow::Result<agent::Config> {
    let mut config = daemon::agent_config(paths, node, manifests)?;
    let mut api = agent::Api::new(member.agent.clone());
    api.identity.clone_from(&member.identity);
    api.serving = Some(member.serving.clone());
    let labels = node.node_labels.iter().map(|label| (label.key.clone(), label.value.clone()));
    api.labels.extend(labels);
    api.taints = node.register_with_taints.iter().map(taint).collect();
    config.api = Some(api);
    config.cluster_dns = cluster.dns();
    config.cluster_domain.clone_from(&cluster.domain);
    config.serving =
        Some(agent::Serving::new(KUBELET_PORT, member.serving.watch(), member.authority.clone()));
    daemon::obey(&mut config, node)?;
    Ok(config)
}

/// Whether `socket` is another CRI server's than ours; it is then found where ours would be, by whoever asks this node.
fn links_to(socket: &Path, paths: &Paths) -> std::io::Result<bool> {
    let own = paths.cri_socket();
    if own.is_symlink() {
        std::fs::remove_file(&own)?;
    }
    if socket == own {
        return Ok(false);
    }
    if let Err(error) = std::fs::remove_file(&own)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    std::os::unix::fs::symlink(socket, own).map(|()| true)
}

/// The service proxy's configuration, from upstream's file where there is one.
fn proxy(file: Option<&Path>, cache: Cache, node: &str) -> anyhow::Result<proxy::Config> {
    let Some(path) = file else { return Ok(proxy::Config::new(cache, node)) };
    let read = || format!("--proxy-config {}", path.display());
    let text = std::fs::read_to_string(path).with_context(read)?;
    let file: Value = serde_saphyr::from_str(&text).with_context(read)?;
    let (config, beside) = proxy::Config::read(&file, cache, node).with_context(read)?;
    beside.apply();
    for note in beside.notes {
        tracing::warn!("{}: {note}", path.display());
    }
    Ok(config)
}

fn taint(taint: &args::Taint) -> Value {
    let args::Taint { label, effect } = taint;
    let mut object = json!({ "key": label.key, "effect": effect });
    if !label.value.is_empty() {
        object["value"] = label.value.clone().into();
    }
    object
}
