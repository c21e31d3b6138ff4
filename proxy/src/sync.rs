//! The loop: changes of objects in, changes of the kernel's tables out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Event;
use ipnet::IpNet;
use netlink::NetlinkError;
use netlink::conntrack::{Conntrack, UDP};
use proto_kube::object::{items, text};
use proto_kube::{GroupResource, Resource, object, resource};
use proxy_rules::{
    Claim, Family, Flow, LocalTraffic, Node, Ruleset, ServiceMap, ServiceName, Stays, Tables, UdpServices,
};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::health::{Eligible, Health};
use crate::kernel::{Applied, Kernel};
use crate::{Config, DetectLocal};

/// Changes that come within this time after others are made together.
const GATHER: Duration = Duration::from_millis(10);
/// How often the table is looked after: that it is ours still, and that nothing lies idle in it.
const LOOK: Duration = Duration::from_secs(5);
/// How long the node itself is waited for at the start.
const NODE_LIMIT: Duration = Duration::from_secs(5);
/// After this time all of the table is read and compared.
const COMPARE: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(1);
/// The label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// A node with this taint is about to be removed: load balancers should look elsewhere.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

fn known(group: &'static str, plural: &'static str) -> &'static Resource {
    resource::preferred(GroupResource { group, resource: plural }).expect("it is in the catalogue")
}

/// One family's table.
struct Half {
    tables: Tables,
    kernel: Kernel,
    /// The kernel has what the tables say.
    equal: bool,
    /// Where UDP flows may be stale since the rules have changed.
    unclean: BTreeSet<Claim>,
}

/// What the proxy knows, and what it has told the kernel.
struct Sync {
    config: Arc<Config>,
    map: ServiceMap,
    node: Option<Arc<Value>>,
    cidrs: BTreeMap<String, Vec<IpNet>>,
    halves: Vec<Half>,
    compared: Instant,
    /// Stale flows could not be forgotten, and that is told.
    stuck: bool,
    health: Arc<Health>,
}

/// What has changed since the kernel was told.
#[derive(Default)]
struct Changes {
    names: BTreeSet<ServiceName>,
    slices: bool,
    node: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.node
    }
}

/// All changes of what a proxy needs, in one row, for as long as the tasks live.
fn watch(config: &Config) -> (JoinSet<()>, UnboundedReceiver<Event>) {
    let sources = [
        known("", "services"),
        known("discovery.k8s.io", "endpointslices"),
        known("", "nodes"),
        known("networking.k8s.io", "servicecidrs"),
    ];
    let (sender, events) = unbounded_channel();
    let mut feeds = JoinSet::new();
    for source in sources {
        let (mut feed, sender) = (config.cache.subscribe(source), sender.clone());
        feeds.spawn(async move {
            while let Some(event) = feed.recv().await {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
    }
    (feeds, events)
}

/// Watches and applies until `shutdown`.
pub(crate) async fn run(
    config: Arc<Config>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> Result<(), NetlinkError> {
    let (_feeds, mut events) = watch(&config);
    let mut sync = Sync {
        map: ServiceMap::default(),
        node: None,
        cidrs: BTreeMap::new(),
        halves: Vec::new(),
        compared: Instant::now(),
        stuck: false,
        health,
        config,
    };
    let all = shutdown.run_until_cancelled(sync.gather_all(&mut events)).await;
    if all.is_none() {
        return Ok(());
    }
    let started = spawn_blocking(move || sync.start().map(|()| sync)).await;
    let sync = started.expect("it does not panic")?;
    shutdown.run_until_cancelled(sync.follow(&mut events)).await;
    Ok(())
}

impl Sync {
    /// Applies what comes, for ever.
    async fn follow(mut self, events: &mut UnboundedReceiver<Event>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let health = self.health.clone();
        loop {
            let mut changes = Changes::default();
            tokio::select! {
                _ = look.tick() => {}
                event = events.recv() => match event {
                    Some(event) => self.take(&event, &mut changes),
                    None => return,
                },
            }
            while let Ok(event) = events.try_recv() {
                self.take(&event, &mut changes);
            }
            let idle = changes.is_empty();
            health.queued(!idle);
            let work = spawn_blocking(move || {
                let done = if idle { self.look() } else { self.apply(&changes) };
                (self, done)
            });
            let (back, done) = work.await.expect("it does not panic");
            self = back;
            if let Err(error) = done {
                health.failed();
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot bring the service rules up to date; will try again"
                );
                drop(error);
                tokio::time::sleep(RETRY).await;
                look.reset_immediately();
            } else {
                health.synced();
                tokio::time::sleep(if idle { Duration::ZERO } else { GATHER }).await;
            }
        }
    }
}

impl Sync {
    /// Takes in all that is there at the start.
    async fn gather_all(&mut self, events: &mut UnboundedReceiver<Event>) {
        let (mut waiting, mut changes) = (BTreeSet::from(["services", "endpointslices"]), Changes::default());
        let mut late = BTreeSet::from(["nodes", "servicecidrs"]);
        let limit = tokio::time::sleep(NODE_LIMIT);
        tokio::pin!(limit);
        let mut patient = true;
        while !waiting.is_empty() || patient && !late.is_empty() {
            tokio::select! {
                () = &mut limit, if patient => patient = false,
                event = events.recv() => {
                    let Some(event) = event else { return };
                    if event.object().is_none() {
                        waiting.remove(event.resource.plural);
                        late.remove(event.resource.plural);
                    }
                    self.take(&event, &mut changes);
                }
            }
        }
    }

    fn take(&mut self, event: &Event, changes: &mut Changes) {
        let (old, new) = (event.old.as_deref(), event.new.as_deref());
        let Some(object) = event.object() else { return };
        match event.resource.plural {
            "services" => changes.names.extend(self.map.change_service(old, new)),
            "endpointslices" => {
                let names = self.map.change_slice(old, new);
                changes.slices |= !names.is_empty();
                changes.names.extend(names);
            }
            "nodes" if object::name(object) == self.config.node_name => {
                self.node.clone_from(&event.new);
                changes.node = true;
            }
            "servicecidrs" => {
                let cidrs = items(object, &["spec", "cidrs"]).filter_map(|c| c.as_str()?.parse().ok());
                match new {
                    Some(_) => drop(self.cidrs.insert(object::name(object).to_owned(), cidrs.collect())),
                    None => drop(self.cidrs.remove(object::name(object))),
                }
                changes.node = true;
            }
            _ => {}
        }
    }

    /// The node as the rules see it.
    fn node(&self) -> Node {
        let (config, object) = (&self.config, self.node.as_deref());
        let mut ips = config.node_ips.clone();
        if let Some(object) = object.filter(|_| ips.is_empty()) {
            let addresses = items(object, &["status", "addresses"]);
            let internal = addresses.filter(|a| text(a, &["type"]) == "InternalIP");
            let mut all: Vec<IpAddr> = internal.filter_map(|a| text(a, &["address"]).parse().ok()).collect();
            // the first of each family is the node's primary one
            let (mut v4, mut v6) = (0, 0);
            all.retain(|ip| {
                let seen = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
                *seen += 1;
                *seen == 1
            });
            ips = all;
        }
        let node_cidrs = || {
            let cidrs = object.into_iter().flat_map(|o| items(o, &["spec", "podCIDRs"]));
            cidrs.filter_map(|c| c.as_str()?.parse().ok()).collect()
        };
        let mut service_cidrs = config.service_cidrs.clone();
        service_cidrs.extend(self.cidrs.values().flatten());
        Node {
            name: config.node_name.clone(),
            zone: object
                .and_then(|o| object::labels(o).find(|(label, _)| *label == ZONE))
                .map(|(_, z)| z.to_owned())
                .unwrap_or_default(),
            ips,
            local_traffic: match &config.detect_local {
                DetectLocal::ClusterCidr => LocalTraffic::Networks(config.pod_cidrs.clone()),
                DetectLocal::NodeCidr => LocalTraffic::Networks(node_cidrs()),
                DetectLocal::Bridge(link) => LocalTraffic::Bridge(link.clone()),
                DetectLocal::LinkPrefix(prefix) => LocalTraffic::LinkPrefix(prefix.clone()),
            },
            masquerade_all: config.masquerade_all,
            node_ports: config.node_ports.clone(),
            service_cidrs,
            exempt: config.exempt.clone(),
        }
    }

    /// Whether load balancers should send to this node.
    fn eligible(&self) -> Eligible {
        let Some(node) = &self.node else { return Eligible::Yes };
        let tainted = items(node, &["spec", "taints"]).any(|t| text(t, &["key"]) == TO_BE_DELETED);
        if tainted || object::is_terminating(node) { Eligible::No } else { Eligible::Yes }
    }

    /// Opens the kernel's side and makes it equal to what should be, whatever it is.
    fn start(&mut self) -> Result<(), NetlinkError> {
        let node = self.node();
        for family in Family::ALL {
            let started = Instant::now();
            let (tables, rules) = Tables::start(&self.map, node.clone(), family);
            let mut half = Half::new(tables, Kernel::open(family)?);
            match half.replace_by(&rules, started, &self.health) {
                Ok(()) => self.halves.push(half),
                // a kernel without IPv6
                Err(error) if family == Family::V6 && !self.halves.is_empty() => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no services over IPv6");
                }
                Err(error) => return Err(error),
            }
        }
        self.clean_flows();
        self.report(true);
        self.health.synced();
        tracing::info!(services = self.map.names().count(), "service rules are in place");
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), NetlinkError> {
        let node = changes.node.then(|| self.node());
        let started = Instant::now();
        let mut outcome = Ok(());
        for half in &mut self.halves {
            if let Err(error) = half.apply(&self.map, node.as_ref(), &changes.names, &self.health) {
                half.equal = false;
                outcome = Err(error);
            }
        }
        self.health.metrics.partial.observe(started.elapsed());
        self.health.metrics.sync.observe(started.elapsed());
        self.clean_flows();
        self.report(changes.node || !changes.names.is_empty());
        outcome
    }

    /// Between changes: is the table still ours, is it what it should be?
    fn look(&mut self) -> Result<(), NetlinkError> {
        let compare = self.compared.elapsed() > COMPARE;
        let (halves, health) = (&mut self.halves, &self.health);
        let outcome = halves.iter_mut().try_for_each(|half| half.look(compare, health));
        if compare && outcome.is_ok() {
            self.compared = Instant::now();
        }
        // what was made again needs that even if something failed thereafter
        self.clean_flows();
        outcome
    }

    /// Makes the kernel forget UDP flows that lead to endpoints that are no more. Not before the rules are in place that
    /// send the next packet elsewhere; what cannot be done now is done later.
    fn clean_flows(&mut self) {
        let (done, map) = (|half: &&mut Half| half.equal && !half.unclean.is_empty(), &self.map);
        let mut halves: Vec<&mut Half> = self.halves.iter_mut().filter(done).collect();
        if halves.is_empty() {
            return;
        }
        let services: Vec<UdpServices> = halves.iter().map(|h| h.tables.udp(map, &h.unclean)).collect();
        let stale = |flow: &Flow| services.iter().any(|s| s.is_stale(flow));
        let forgotten = Conntrack::open().and_then(|mut tracked| {
            tracked.forget(|c| {
                c.original.protocol == UDP
                    && stale(&Flow {
                        destination: c.original.destination,
                        port: c.original.destination_port,
                        answers: (c.reply.source, c.reply.source_port),
                    })
            })
        });
        match forgotten {
            Ok(count) => {
                halves.iter_mut().for_each(|half| half.unclean.clear());
                self.stuck = false;
                if count > 0 {
                    self.health.metrics.flows.add(count);
                    tracing::debug!(count, "forgot UDP flows to endpoints that are no more");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.stuck, true) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot forget UDP flows to endpoints that are no more; will try again"
                    );
                }
            }
        }
    }

    fn report(&self, changed: bool) {
        if changed {
            self.health.report(
                self.map.health_ports(&self.config.node_name),
                self.eligible(),
                self.node().node_port_networks(),
            );
        }
    }
}

impl Half {
    fn new(tables: Tables, kernel: Kernel) -> Half {
        Half { tables, kernel, equal: false, unclean: BTreeSet::new() }
    }

    fn look(&mut self, compare: bool, health: &Health) -> Result<(), NetlinkError> {
        if compare || !self.equal || self.kernel.check()? == Applied::Lost {
            if self.equal && !compare {
                tracing::warn!("somebody has removed the service rules; they are made again");
            }
            self.replace(health)?;
        }
        self.kernel.tidy()
    }

    fn replace(&mut self, health: &Health) -> Result<(), NetlinkError> {
        let started = Instant::now();
        self.replace_by(&self.tables.ruleset(), started, health)
    }

    fn replace_by(&mut self, rules: &Ruleset, started: Instant, health: &Health) -> Result<(), NetlinkError> {
        let changed = self.kernel.replace(rules)?;
        // while there were no rules, or others, flows began that these say nothing of
        self.unclean.extend(self.tables.udp_places(None));
        let stays = self.tables.stays(None);
        let family = self.tables.family();
        self.kernel.forget_clients(|key, value| stays.is_stale(key, value, family))?;
        self.equal = true;
        health.metrics.full.observe(started.elapsed());
        health.metrics.sync.observe(started.elapsed());
        tracing::debug!(?family, changed, took = ?started.elapsed(), "compared all service rules");
        Ok(())
    }

    fn apply(
        &mut self,
        map: &ServiceMap,
        node: Option<&Node>,
        names: &BTreeSet<ServiceName>,
        health: &Health,
    ) -> Result<(), NetlinkError> {
        let before = self.tables.stays(Some(names));
        // what a service had and has no longer is nobody's, or another's
        self.unclean.extend(self.tables.udp_places(Some(names)));
        let mut batches = Vec::new();
        if let Some(node) = node {
            batches.push(self.tables.change_node(map, node.clone()));
        }
        batches.push(self.tables.update(map, names));
        self.unclean.extend(self.tables.udp_places(Some(names)));
        for batch in batches {
            if !self.equal || self.kernel.apply(&batch)? == Applied::Lost {
                return self.replace(health);
            }
        }
        self.forget_clients(&before, names)
    }

    fn forget_clients(&mut self, before: &Stays, names: &BTreeSet<ServiceName>) -> Result<(), NetlinkError> {
        let now = self.tables.stays(Some(names));
        if before.within(&now) {
            return Ok(());
        }
        let (all, family) = (self.tables.stays(None), self.tables.family());
        self.kernel.forget_clients(|key, value| all.is_stale(key, value, family))
    }
}
