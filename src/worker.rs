//! The node's half of a cluster: CRI server, agent, service proxy, name service and the network between nodes, in one
//! process, on one watch cache.

use std::path::Path;

use anyhow::{Context, bail};
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
    cri: cri::Server,
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
        let mut agent = daemon::agent_config(paths, orders.node, orders.manifests)?;
        let node = agent.node_name.clone();
        let mut api = agent::Api::new(membership.agent.clone());
        api.identity = membership.identity;
        for label in &orders.node.node_labels {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            api.labels.insert(key.to_owned(), value.to_owned());
        }
        let taints = orders.node.register_with_taints.iter().map(|text| taint(text));
        api.taints = taints.collect::<anyhow::Result<_>>()?;
        agent.api = Some(api);
        agent.cluster_dns = cluster.dns();
        agent.cluster_domain.clone_from(&cluster.domain);
        agent.serving = Some(agent::Serving::new(KUBELET_PORT, membership.serving, membership.authority));
        if let Some(file) = &orders.node.config {
            for unsupported in agent.read_kubelet_configuration(file)? {
                tracing::warn!("{}: {unsupported}", file.display());
            }
        }
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
        let cri = cri::Server::open(cri).await.context("starting the CRI server")?;
        Ok(Self { cri, agent, proxy, overlay, dns })
    }

    /// Its name in the cluster.
    pub(crate) fn name(&self) -> &str {
        &self.agent.node_name
    }

    /// The images that it has, for those who watch them come.
    pub(crate) fn images(&self) -> image::Store {
        self.cri.images().clone()
    }

    /// Adds its daemons to those of this process.
    pub(crate) fn start(self, parts: &mut Parts) {
        let Self { cri, agent, proxy, overlay, dns } = self;
        parts.add("CRI server", |stop| cri.run(stop));
        if let Some(overlay) = overlay {
            parts.add("overlay", |stop| overlay::run(overlay, stop));
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
    pub(crate) serving: watch::Receiver<Option<pki::Identity>>,
    /// The cluster's authorities, in PEM.
    pub(crate) authority: watch::Receiver<String>,
    /// What is renewed in time; none where the control plane is in this process.
    pub(crate) identity: Option<agent::NodeIdentity>,
}

/// The service proxy's configuration, from upstream's file where there is one.
fn proxy(file: Option<&Path>, cache: Cache, node: &str) -> anyhow::Result<proxy::Config> {
    let Some(path) = file else { return Ok(proxy::Config::new(cache, node)) };
    let read = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(read)?;
    let file: Value = serde_saphyr::from_str(&text).with_context(read)?;
    let (config, beside) = proxy::Config::read(&file, cache, node).with_context(read)?;
    beside.apply();
    for note in beside.notes {
        tracing::warn!("{}: {note}", path.display());
    }
    Ok(config)
}

/// Reads `KEY=VALUE:EFFECT`, `KEY:EFFECT`.
fn taint(text: &str) -> anyhow::Result<Value> {
    let parsed = text
        .rsplit_once(':')
        .filter(|(_, effect)| matches!(*effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute"));
    let Some((key, effect)) = parsed else {
        bail!(
            "--register-with-taints {text}: expected KEY=VALUE:EFFECT, with NoSchedule, PreferNoSchedule or NoExecute"
        );
    };
    let (key, value) = key.split_once('=').unwrap_or((key, ""));
    Ok(match value {
        "" => json!({ "key": key, "effect": effect }),
        value => json!({ "key": key, "value": value, "effect": effect }),
    })
}
