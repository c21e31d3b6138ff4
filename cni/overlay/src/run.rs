//! The loop: Nodes and the kernel are watched, and what differs is put right.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{ClientError, Event, Patch, Query};
use netlink::route::{Changed, Monitor};
use proto_kube::view::View;
use proto_kube::{GroupResource, Resource, object, resource};
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::kernel::{Kernel, PROTOCOL, chain};
use crate::lease::Facts;
use crate::masquerade::Masquerade;
use crate::nodes::{Nodes, Setup};
use crate::plan::{self, End, Links};
use crate::{Config, Error, conf, lease, nodes, sysctl};

/// Changes within this time are put right together.
const GATHER: Duration = Duration::from_millis(20);
/// Everything is looked at again after this time, whatever was heard.
const AUDIT: Duration = Duration::from_secs(60);
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// MTU of pods while no link has this node's address.
const MTU_UNKNOWN: u32 = 1400;
/// Said once while it is so.
const WAITING: &str = "waiting for a pod range of the Node";

/// Keeps this node's part of the network until `shutdown`, and leaves it as it is then: packets go on.
///
/// Nothing is touched before all Nodes are known; from then on whatever somebody else changes is put back.
///
/// # Errors
/// When the kernel cannot be talked to at all. What it refuses later is logged and tried again.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let nodes = nodes_resource();
    // the newer constructor is unsafe: it trusts the descriptor to stay the same, which the monitor's does
    #[allow(deprecated)]
    let mut monitor = AsyncFd::new(Monitor::open()?).map_err(Error::Listen)?;
    let mut events = config.cache.subscribe(nodes);
    let mut overlay = Overlay::new(config)?;
    let resources = [nodes];
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = overlay.config.cache.synced(&resources) => {}
    }
    let mut due = Instant::now();
    loop {
        let concerned = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            event = events.recv() => match event {
                Some(event) => overlay.is_concerned_by(&event),
                None => return Ok(()),
            },
            ready = monitor.readable_mut() => {
                let mut ready = ready.map_err(Error::Listen)?;
                let changes = ready.get_inner_mut().changes()?;
                ready.clear_ready();
                changes.into_iter().any(|change| overlay.ours.has(change))
            }
            () = sleep_until(due) => {
                due = Instant::now() + overlay.step().await;
                false
            }
        };
        if concerned {
            due = due.min(Instant::now() + GATHER);
        }
    }
}

fn nodes_resource() -> &'static Resource {
    let nodes = GroupResource { group: "", resource: "nodes" };
    resource::preferred(nodes).expect("the catalogue has nodes")
}

/// Numbers of the links whose changes are to be looked at.
#[derive(Default)]
struct Ours {
    links: BTreeSet<u32>,
    /// This node's address is on no link yet: it may appear on any.
    any_address: bool,
}

impl Ours {
    fn has(&self, change: Changed) -> bool {
        match change {
            Changed::Link(index) | Changed::Neighbour(index) => self.links.contains(&index),
            Changed::Address(index) => self.any_address || self.links.contains(&index),
            Changed::Route { protocol, .. } => protocol == PROTOCOL,
            Changed::Much => true,
        }
    }
}

/// What became of one look at everything.
struct Seen {
    links: Links,
    ours: Ours,
    /// Something was refused: again soon.
    failed: bool,
}

struct Overlay {
    config: Config,
    /// Away while a thread works with it.
    kernel: Option<Kernel>,
    ours: Ours,
    backoff: Duration,
    /// What has been said in the log, so as not to repeat it.
    said: BTreeSet<String>,
    mtu: Option<u32>,
}

impl Overlay {
    fn new(config: Config) -> Result<Overlay, Error> {
        Ok(Overlay {
            config,
            kernel: Some(Kernel::open()?),
            ours: Ours { links: BTreeSet::new(), any_address: true },
            backoff: BACKOFF_MIN,
            said: BTreeSet::new(),
            mtu: None,
        })
    }

    /// Of all that happens to Nodes, most is heartbeats.
    fn is_concerned_by(&self, event: &Event) -> bool {
        let unavailable = |node: &Value| is_unavailable(node) && self.is_own(node);
        match (&event.old, &event.new) {
            (Some(old), Some(new)) => {
                Facts::of(old) != Facts::of(new) || unavailable(old) != unavailable(new)
            }
            (None, None) => false,
            _ => true,
        }
    }

    fn is_own(&self, node: &Value) -> bool {
        object::name(node) == self.config.node_name
    }

    /// Puts right what differs. Gives how long to wait until the next look.
    async fn step(&mut self) -> Duration {
        match self.try_step().await {
            Ok(true) => {
                self.backoff = BACKOFF_MIN;
                return AUDIT;
            }
            Ok(false) => {}
            Err(error) => warn!(error = chain(&error), "the overlay is not as it should be"),
        }
        let wait = self.backoff;
        self.backoff = (wait * 2).min(BACKOFF_MAX);
        wait
    }

    async fn try_step(&mut self) -> Result<bool, Error> {
        let all = self.config.cache.list(nodes_resource().group_resource(), "");
        let setup = Setup {
            name: &self.config.node_name,
            ips: &self.config.node_ips,
            backend: self.config.backend,
            device: &self.config.device,
            mtu: self.config.mtu,
            services: &self.config.services,
        };
        let (nodes, refused) = nodes::read(&setup, &all);
        let own = all.iter().find(|node| self.is_own(node));
        let (Some(nodes), Some(own)) = (nodes, own) else {
            self.wait_for_range();
            return Ok(true);
        };
        let seen = self.put_right(&nodes).await?;
        let unreachable = plan::unreachable(&nodes, &seen.links);
        let mut news: Vec<String> = refused.iter().chain(&unreachable).map(ToString::to_string).collect();
        if seen.ours.any_address {
            news.push(format!("no link has this node's addresses {:?}: it reaches no other node", nodes.ips));
        }
        self.say(&news);
        self.ours = seen.ours;
        self.write_files(&nodes, &seen.links)?;
        let told = self.tell(own, &plan::ends(&nodes, &seen.links)).await;
        Ok(!seen.failed && told)
    }

    /// At every first start the range comes a moment after the Node: no fault, and said once.
    fn wait_for_range(&mut self) {
        if self.said.insert(WAITING.to_owned()) {
            info!(node = self.config.node_name, "{WAITING}");
        }
    }

    /// Warns of what is new.
    fn say(&mut self, news: &[String]) {
        for text in news.iter().filter(|text| !self.said.contains(*text)) {
            warn!("{text}");
        }
        self.said = news.iter().cloned().collect();
    }

    /// Plans and applies, on a thread that may block.
    async fn put_right(&mut self, nodes: &Nodes) -> Result<Seen, Error> {
        let mut kernel = match self.kernel.take() {
            Some(kernel) => kernel,
            None => Kernel::open()?,
        };
        let nodes = nodes.clone();
        let inside = self.config.network.iter().copied().chain(nodes.peers.iter().map(|peer| peer.subnet));
        let masquerade = self.config.masquerade.then(|| Masquerade::new(&nodes.subnets, inside));
        let work = move || {
            let seen = put_right(&mut kernel, &nodes, masquerade.as_ref());
            (kernel, seen)
        };
        let lost = |_| Error::Listen(std::io::Error::other("the thread that talks to the kernel ended"));
        let (kernel, seen) = tokio::task::spawn_blocking(work).await.map_err(lost)?;
        self.kernel = Some(kernel);
        Ok(seen?)
    }

    fn write_files(&mut self, nodes: &Nodes, links: &Links) -> Result<(), Error> {
        let mtu = plan::mtu(nodes, links).or(self.mtu).unwrap_or(MTU_UNKNOWN);
        self.mtu = Some(mtu);
        let Config { bridge, network, .. } = &self.config;
        let list = cni_invoke::conflist(&cni_invoke::BridgeNetwork {
            name: bridge,
            bridge,
            subnets: &nodes.subnets,
            data_dir: &self.config.lease_dir,
            mtu: Some(mtu),
            // the bridge knows nothing of the other nodes' ranges
            masquerade: false,
        });
        let env = conf::subnet_env(network, &nodes.subnets, mtu, self.config.masquerade);
        let files =
            [(conf::list_path(&self.config.cni_conf_dir), list), (conf::env_path(&self.config.run_dir), env)];
        for (path, text) in files {
            if conf::write(&path, &text)? {
                let subnets: Vec<String> = nodes.subnets.iter().map(ToString::to_string).collect();
                info!(path = %path.display(), subnets = subnets.join(","), mtu, "written");
            }
        }
        Ok(())
    }

    /// Writes the lease, and that the network is available where the Node says that it is not. Tells whether the API
    /// server took it.
    async fn tell(&self, own: &Value, ends: &[End]) -> bool {
        let ends: Vec<End> = ends.iter().map(|end| End { ip: lease::public(own, end.ip), ..*end }).collect();
        let mut done = Ok(());
        if let Some(patch) = lease::patch(own, self.config.backend, &ends) {
            done = self.patch(None, Patch::Merge, &patch).await;
            if done.is_ok() {
                info!(lease = %patch["metadata"]["annotations"], "told the other nodes");
            }
        }
        if is_unavailable(own) {
            let condition = json!({
                "type": "NetworkUnavailable", "status": "False", "reason": "OverlayIsUp",
                "message": "the overlay has routes to the other nodes", "lastTransitionTime": proto_kube::decode::time(jiff::Timestamp::now()),
            });
            let patch = json!({ "status": { "conditions": [condition] } });
            done = done.and(self.patch(Some("status"), Patch::Strategic, &patch).await);
        }
        if let Err(error) = &done {
            warn!(error = chain(error), "the API server does not take this node's lease; trying again");
        }
        done.is_ok()
    }

    async fn patch(&self, subresource: Option<&str>, kind: Patch, body: &Value) -> Result<(), ClientError> {
        let node = (nodes_resource(), "", self.config.node_name.as_str());
        self.config.cache.client().patch(node, subresource, (kind, body), Query::default()).await.map(drop)
    }
}

fn is_unavailable(node: &Value) -> bool {
    object::items(node, &["status", "conditions"]).any(|condition| {
        object::text(condition, &["type"]) == "NetworkUnavailable"
            && object::text(condition, &["status"]) == "True"
    })
}

fn put_right(
    kernel: &mut Kernel,
    nodes: &Nodes,
    masquerade: Option<&Masquerade>,
) -> Result<Seen, netlink::NetlinkError> {
    let mut links = kernel.see()?;
    let unders = || nodes.ips.iter().filter_map(|ip| links.with_address(*ip));
    let under = unders().next().map(|(name, ..)| name.to_owned());
    sysctl::prepare([true, false].map(|v4| nodes.subnet(v4).is_some()), under.as_deref());
    let mut failed = false;
    // what one change brings about, as the kernel's own removals, is seen by looking again
    for _ in 0..3 {
        let ops = plan::plan(nodes, &links);
        if ops.is_empty() {
            break;
        }
        info!(changes = ops.len(), ?ops, "putting the network right");
        failed = kernel.apply(&ops).is_err();
        links = kernel.see()?;
        if failed {
            break;
        }
    }
    if kernel.masquerade(masquerade)? {
        info!(rules = ?masquerade, "wrote the table of masquerade");
    }
    let names = [nodes.device(true), nodes.device(false)];
    let unders: Vec<&str> = nodes.ips.iter().filter_map(|ip| links.with_address(*ip)).map(|u| u.0).collect();
    let all = names.iter().map(String::as_str).chain(unders.iter().copied());
    let ours = Ours {
        links: all.filter_map(|name| kernel.index(name)).collect(),
        any_address: unders.len() < nodes.ips.len() || unders.is_empty(),
    };
    Ok(Seen { ours, failed, links })
}
