//! Which endpoints of a service's port this node sends connections to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::frame::Node;
use crate::model::{Endpoint, Entry, Port, Service};
use crate::ruleset::Family;

/// Where a connection goes: address and port.
pub type Target = (IpAddr, u16);

/// The endpoints of one port, by traffic policy, each in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Picked {
    /// For the policy `Cluster`; empty where nothing uses it.
    pub(crate) cluster: Vec<Target>,
    /// For the policy `Local`; empty where nothing uses it.
    pub(crate) local: Vec<Target>,
    /// Those of both that are on this node, or may be.
    pub(crate) here: Vec<IpAddr>,
    /// There are usable endpoints somewhere in the cluster.
    pub(crate) anywhere: bool,
}

/// Picks the endpoints of a port in one family: those that are ready, or, where none is, those that end but still
/// serve; narrowed to this node's or zone's by hints if all have them and some are meant for here.
#[must_use]
pub(crate) fn pick_entry(
    entry: &Entry,
    service: &Service,
    port: &Port,
    node: &Node,
    family: Family,
) -> Picked {
    let mut endpoints: BTreeMap<Target, &Endpoint> = BTreeMap::new();
    for slice in entry.slices.values() {
        for (name, protocol, number) in &slice.ports {
            if *name != port.name || *protocol != port.protocol {
                continue;
            }
            for endpoint in slice.endpoints.iter().filter(|e| Family::of(e.ip) == family) {
                // two slices may name an endpoint while it moves between them
                let known = endpoints.entry((endpoint.ip, *number)).or_insert(endpoint);
                if rank(endpoint) > rank(known) {
                    *known = endpoint;
                }
            }
        }
    }
    let accessible =
        port.node_port != 0 || !service.external_ips.is_empty() || !service.balancer_ips.is_empty();
    let uses_cluster = !service.internal_local || accessible;
    let uses_local = service.internal_local || service.external_local && accessible;
    pick(&endpoints, uses_cluster, uses_local, &node.name, &node.zone)
}

fn rank(endpoint: &Endpoint) -> (bool, bool, bool) {
    (endpoint.ready, endpoint.serving, endpoint.node.is_some())
}

/// The pure choice, for a node in a zone.
#[must_use]
pub(crate) fn pick(
    endpoints: &BTreeMap<Target, &Endpoint>,
    uses_cluster: bool,
    uses_local: bool,
    node: &str,
    zone: &str,
) -> Picked {
    let is_local = |e: &Endpoint| e.node.as_deref() == Some(node);
    let ending = |e: &Endpoint| e.serving && e.terminating;
    let those = |wanted: &dyn Fn(&Endpoint) -> bool| {
        endpoints.iter().filter(|(_, e)| wanted(e)).map(|(target, _)| *target).collect::<Vec<_>>()
    };
    let mut picked = Picked::default();
    if uses_cluster {
        let meant = meant_for(endpoints, node, zone);
        picked.cluster = those(&|e| e.ready && meant(e));
        if picked.cluster.is_empty() {
            picked.cluster = those(&ending);
        }
    }
    if uses_local {
        picked.local = those(&|e| e.ready && is_local(e));
        if picked.local.is_empty() {
            picked.local = those(&|e| !e.ready && ending(e) && is_local(e));
        }
    }
    let may_be_here = |e: &Endpoint| e.node.as_deref().is_none_or(|n| n == node);
    let chosen = picked.cluster.iter().chain(&picked.local);
    let here = chosen.filter(|target| endpoints.get(target).is_some_and(|e| may_be_here(e)));
    picked.here = here.map(|(ip, _)| *ip).collect::<BTreeSet<_>>().into_iter().collect();
    picked.anywhere = endpoints.values().any(|e| e.ready || ending(e));
    picked
}

/// Whom the hints leave.
fn meant_for<'a>(
    endpoints: &BTreeMap<Target, &Endpoint>,
    node: &'a str,
    zone: &'a str,
) -> Box<dyn Fn(&Endpoint) -> bool + 'a> {
    let has = |hints: &[Box<str>], here: &str| hints.iter().any(|hint| **hint == *here);
    let useful = |hints: fn(&Endpoint) -> &[Box<str>], here: &str| {
        let mut ready = endpoints.values().filter(|e| e.ready).peekable();
        ready.peek().is_some()
            && ready.clone().all(|e| !hints(e).is_empty())
            && ready.any(|e| has(hints(e), here))
    };
    if useful(|e| &e.nodes, node) {
        Box::new(move |e| has(&e.nodes, node))
    } else if useful(|e| &e.zones, zone) {
        Box::new(move |e| has(&e.zones, zone))
    } else {
        Box::new(|_| true)
    }
}
