//! Each node gets a range of addresses for its pods.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proto_kube::{GroupResource, object, view::View};
use serde_json::{Value, json};

use super::said;
use crate::resources::{NODES, SERVICE_CIDRS, served};
use crate::{Controller, Key, Mutation, Outcome, World, owner};

/// Gives nodes their `podCIDRs`. All are given by one key: what was given last must be seen before more is given.
#[derive(Default)]
pub(crate) struct PodCidrs {
    /// What was decided for nodes that have nothing yet, by uid. The request may have got lost, and be served when nobody
    /// counts on it any more: meanwhile the ranges are nobody else's.
    promised: Mutex<BTreeMap<String, Vec<IpNet>>>,
}

impl Controller for PodCidrs {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "nodes"), ("networking.k8s.io", "servicecidrs")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        _old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let waits = match new {
            Some(node) if of == NODES => needs(node),
            // A range has come free.
            _ => view.list(NODES, "").iter().any(|node| needs(node)),
        };
        if waits { vec![Key::default()] } else { Vec::new() }
    }

    fn reconcile(&self, world: &World<'_>, _key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let ranges: Vec<(IpNet, u8)> =
            world.facts.pod_cidrs.iter().filter_map(|(r, size)| Some((r.parse().ok()?, *size))).collect();
        let mut nodes = world.view.list(NODES, "");
        let mut taken = Taken::new(&nodes, &world.view.list(SERVICE_CIDRS, ""));
        let born = |node: &Arc<Value>| object::text(node, &["metadata", "creationTimestamp"]).to_owned();
        nodes.sort_by_cached_key(|node| (born(node), object::name(node).to_owned()));
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: HashSet<&str> = nodes.iter().filter(|n| !has(n)).map(|n| object::uid(n)).collect();
        promised.retain(|uid, _| waiting.contains(uid.as_str()));
        taken.subnets.extend(promised.values().flatten());
        for node in nodes.iter().filter(|node| needs(node) && !ranges.is_empty()) {
            let free = || ranges.iter().map(|(range, size)| taken.free(range, *size)).collect();
            let Some(given) = promised.get(object::uid(node)).cloned().or_else(free) else {
                out.mutations.push(said(node, "CIDRNotAvailable", "status is now: CIDRNotAvailable"));
                continue;
            };
            taken.subnets.extend(&given);
            promised.insert(object::uid(node).to_owned(), given.clone());
            let texts: Vec<String> = given.iter().map(ToString::to_string).collect();
            let patch = json!({"metadata": {"uid": object::uid(node)},
                "spec": {"podCIDR": texts[0], "podCIDRs": texts}});
            out.mutations.push(Mutation::Merge(served(NODES), owner::key(node), None, patch));
        }
        out
    }
}

fn has(node: &Value) -> bool {
    object::at(node, &["spec", "podCIDR"]).is_some()
        || object::items(node, &["spec", "podCIDRs"]).next().is_some()
}

fn needs(node: &Value) -> bool {
    !has(node) && !object::is_terminating(node)
}

/// Ranges that are somebody's.
struct Taken {
    subnets: HashSet<IpNet>,
    /// Of these nothing may overlap, whatever their size.
    others: Vec<IpNet>,
}

impl Taken {
    fn new(nodes: &[Arc<Value>], services: &[Arc<Value>]) -> Self {
        let parse = |value: &Value| value.as_str().and_then(|text| text.parse::<IpNet>().ok());
        let of_nodes = nodes.iter().flat_map(|node| {
            let one = object::at(node, &["spec", "podCIDR"]).into_iter();
            object::items(node, &["spec", "podCIDRs"]).chain(one)
        });
        let subnets = of_nodes.filter_map(parse).map(|net| net.trunc()).collect();
        let others = services.iter().flat_map(|s| object::items(s, &["spec", "cidrs"])).filter_map(parse);
        Self { subnets, others: others.collect() }
    }

    /// A free part of a range: the one behind the last that is taken, so that what has just come free rests for as long
    /// as it can; then from the beginning.
    fn free(&self, range: &IpNet, size: u8) -> Option<IpNet> {
        let within = |net: &&IpNet| range.contains(*net);
        let overlapping = |net: &IpNet| {
            let crossing = |other: &IpNet| other.contains(net) || net.contains(other);
            self.subnets.contains(net) || self.others.iter().any(crossing)
        };
        let odd: Vec<&IpNet> = self.subnets.iter().filter(|net| net.prefix_len() != size).collect();
        let usable = |net: &IpNet| {
            !overlapping(net) && !odd.iter().any(|other| other.contains(net) || net.contains(*other))
        };
        let last = self.subnets.iter().filter(within).filter(|net| net.prefix_len() == size).max();
        let behind = last.and_then(|last| parts(*range, size, Some(*last)).find(usable));
        behind.or_else(|| parts(*range, size, None).find(usable))
    }
}

/// The parts of a range that have the prefix length `size`, in their order, from behind `last` on.
fn parts(range: IpNet, size: u8, last: Option<IpNet>) -> Box<dyn Iterator<Item = IpNet>> {
    let fits = size >= range.prefix_len();
    match (range, last) {
        _ if !fits => Box::new(std::iter::empty()),
        (IpNet::V4(range), last) => {
            let step = 1_u64.checked_shl(32 - u32::from(size.min(32))).unwrap_or(1);
            let from = |net: Ipv4Net| u64::from(u32::from(net.network()));
            let first = match last {
                Some(IpNet::V4(last)) => from(last) + step,
                _ => from(range),
            };
            let end = u64::from(u32::from(range.broadcast()));
            let net = move |at: u64| {
                let ip = std::net::Ipv4Addr::from(u32::try_from(at).ok()?);
                Ipv4Net::new(ip, size).ok().map(IpNet::V4)
            };
            let next = move |at: &u64| at.checked_add(step);
            Box::new(std::iter::successors(Some(first), next).take_while(move |at| *at <= end).map_while(net))
        }
        (IpNet::V6(range), last) => {
            let step = 1_u128.checked_shl(128 - u32::from(size.min(128))).unwrap_or(u128::MAX);
            let from = |net: Ipv6Net| u128::from(net.network());
            let first = match last {
                Some(IpNet::V6(last)) => from(last).checked_add(step),
                _ => Some(from(range)),
            };
            let end = u128::from(range.broadcast());
            let net = move |at: u128| Ipv6Net::new(at.into(), size).ok().map(IpNet::V6);
            let next = move |at: &u128| at.checked_add(step);
            Box::new(std::iter::successors(first, next).take_while(move |at| *at <= end).map_while(net))
        }
    }
}
