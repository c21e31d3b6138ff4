//! What a service means on this node in one family, and the elements that say so to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::frame::{Node, goto};
use crate::model::Entry;
use crate::pick::{Picked, Target, pick_entry};
use crate::ruleset::{Data, Family, Key, Ruleset, SetName, Verdict};
use crate::shape::{Choice, Front, Shape, To};

/// A place in the tables that only one service can have: an address, protocol and port. Node ports have no address,
/// a cluster IP as a whole neither protocol nor port.
pub type Claim = (IpAddr, u8, u16);

const NODE_PORT: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What a service means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    elsewhere: bool,
    cluster_ip: IpAddr,
    external_ips: Vec<IpAddr>,
    balancer_ips: Vec<IpAddr>,
    source_ranges: Vec<IpNet>,
    internal_local: bool,
    external_local: bool,
    affinity: u32,
    ports: Vec<Served>,
}

/// One port of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Served {
    protocol: u8,
    port: u16,
    node_port: u16,
    picked: Picked,
}

/// What services add to a table: elements of their own, and what they share with others.
pub(crate) struct Parts {
    pub(crate) own: Ruleset,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) here: Vec<IpAddr>,
}

impl Parts {
    pub(crate) fn none(family: Family) -> Parts {
        Parts { own: Ruleset::empty(family), shapes: Vec::new(), here: Vec::new() }
    }

    fn lead(&mut self, set: SetName, key: Key, shape: Shape, verdict: fn(String) -> Verdict) {
        self.own.add(set, key, Data::Verdict(verdict(shape.chain())));
        self.shapes.push(shape);
    }
}

impl Decision {
    /// Decides; endpoints that were chosen before keep their index where that is possible.
    pub(crate) fn of(
        entry: &Entry,
        node: &Node,
        family: Family,
        before: Option<&Decision>,
    ) -> Option<Decision> {
        let service = entry.service.as_ref()?;
        let ours = |ips: &[IpAddr]| ips.iter().copied().filter(|ip| Family::of(*ip) == family).collect();
        let cluster_ips: Vec<IpAddr> = ours(&service.cluster_ips);
        let ports = service.ports.iter().map(|port| {
            let mut picked = pick_entry(entry, service, port, node, family);
            let known = before
                .and_then(|b| b.ports.iter().find(|p| (p.protocol, p.port) == (port.protocol, port.port)));
            if let Some(known) = known {
                picked.cluster = place(&known.picked.cluster, picked.cluster);
                picked.local = place(&known.picked.local, picked.local);
            }
            Served { protocol: port.protocol, port: port.port, node_port: port.node_port, picked }
        });
        let ranges = service.source_ranges.iter().copied().filter(|n| Family::of(n.addr()) == family);
        Some(Decision {
            elsewhere: service.elsewhere,
            cluster_ip: *cluster_ips.first()?,
            external_ips: ours(&service.external_ips),
            balancer_ips: ours(&service.balancer_ips),
            source_ranges: IpNet::aggregate(&ranges.collect()),
            internal_local: service.internal_local,
            external_local: service.external_local,
            affinity: service.affinity,
            ports: if service.elsewhere { Vec::new() } else { ports.collect() },
        })
    }

    /// The places that it wants, with a rank: a cluster IP goes before all else.
    pub(crate) fn claims(&self) -> BTreeSet<(Claim, u8)> {
        let mut claims = BTreeSet::from([((self.cluster_ip, 0, 0), 0)]);
        for served in &self.ports {
            claims.insert(((self.cluster_ip, served.protocol, served.port), 0));
            for ip in self.external_ips.iter().chain(&self.balancer_ips) {
                claims.insert(((*ip, served.protocol, served.port), 1));
            }
            if served.node_port != 0 {
                claims.insert(((NODE_PORT, served.protocol, served.node_port), 1));
            }
        }
        claims
    }

    /// Adds what it means where it has the place it wants.
    pub(crate) fn expand(&self, node: &Node, has: impl Fn(Claim) -> bool, parts: &mut Parts) {
        if !has((self.cluster_ip, 0, 0)) {
            return;
        }
        let address = Key::new().address(self.cluster_ip);
        if self.elsewhere {
            if !node.exempt.contains(&self.cluster_ip) {
                parts.own.add(SetName::OtherIps, address, Data::None);
            }
            return;
        }
        parts.own.add(SetName::ClusterIps, address, Data::None);
        for served in &self.ports {
            if has((self.cluster_ip, served.protocol, served.port)) {
                self.expand_port(served, node, &has, parts);
            }
        }
    }

    fn expand_port(&self, served: &Served, node: &Node, has: impl Fn(Claim) -> bool, parts: &mut Parts) {
        let picked = &served.picked;
        parts.here.extend(&picked.here);
        let key = Key::front(self.cluster_ip, served.protocol, served.port);
        match self.choice(self.internal_local, picked) {
            Some(choice) => {
                self.send(
                    &ADDRESSES,
                    key,
                    To { front: Front::Address, choice, outside: None },
                    picked,
                    parts,
                );
            }
            None => parts.own.add(SetName::NoEndpointServices, key, refusal(picked)),
        }
        let externals: BTreeSet<&IpAddr> = self.external_ips.iter().chain(&self.balancer_ips).collect();
        for ip in externals {
            if has((*ip, served.protocol, served.port)) {
                let key = Key::front(*ip, served.protocol, served.port);
                self.expand_external(&ADDRESSES, key, picked, parts);
                self.expand_firewall(*ip, key, node, parts);
            }
        }
        if served.node_port != 0 && has((NODE_PORT, served.protocol, served.node_port)) {
            let key = Key::new().protocol(served.protocol).port(served.node_port);
            self.expand_external(&NODE_PORTS, key, picked, parts);
        }
    }

    fn expand_external(&self, sets: &Sets, key: Key, picked: &Picked, parts: &mut Parts) {
        let outside = self.choice(self.external_local, picked);
        if outside.is_none() {
            parts.own.add(sets.no_endpoints, key, refusal(picked));
        }
        let Some(choice) = self.choice(false, picked) else { return };
        let (outside, masquerade) = match self.external_local {
            true => (Some(outside), "masquerade-host"),
            false => (None, "masquerade"),
        };
        self.send(sets, key, To { front: sets.front, choice, outside }, picked, parts);
        parts.own.add(sets.masquerade, key, Data::Verdict(goto(masquerade)));
    }

    /// Adds what sends a frontend's connections on.
    fn send(&self, sets: &Sets, key: Key, to: To, picked: &Picked, parts: &mut Parts) {
        for choice in [Some(to.choice), to.outside.flatten()].into_iter().flatten() {
            targets(sets, choice, key, picked, parts);
        }
        parts.lead(sets.services, key, Shape::To(to), Verdict::Goto);
        if self.affinity != 0 {
            parts.lead(sets.affinity, key, Shape::Learn(self.affinity), Verdict::Jump);
        }
    }

    fn expand_firewall(&self, ip: IpAddr, key: Key, node: &Node, parts: &mut Parts) {
        if self.source_ranges.is_empty() || !self.balancer_ips.contains(&ip) {
            return;
        }
        parts.own.add(SetName::FirewallIps, key, Data::None);
        let within = |ip: &IpAddr| self.source_ranges.iter().any(|range| range.contains(ip));
        for range in &self.source_ranges {
            let last = Data::Until(key.address(range.broadcast()));
            parts.own.add(SetName::FirewallSources, key.address(range.network()), last);
        }
        // a node that may come reaches the address with that very address for source, where it is its own
        if node.ips.iter().any(within) && !within(&ip) {
            parts.own.add(SetName::FirewallSources, key.address(ip), Data::Until(key.address(ip)));
        }
    }

    fn choice(&self, local: bool, picked: &Picked) -> Option<Choice> {
        let targets = if local { &picked.local } else { &picked.cluster };
        let count = u32::try_from(targets.len()).ok().filter(|count| *count != 0)?;
        Some(Choice { local, count, stay: self.affinity != 0 })
    }

    /// Its ports over UDP: every place a client may know it by, the one at its cluster IP among them and once more alone.
    pub(crate) fn udp(&self) -> impl Iterator<Item = (Vec<Claim>, Claim)> + '_ {
        const UDP: u8 = 17;
        self.ports.iter().filter(|served| served.protocol == UDP).map(|served| {
            let service = (self.cluster_ip, UDP, served.port);
            let mut fronts = vec![service];
            fronts
                .extend(self.external_ips.iter().chain(&self.balancer_ips).map(|ip| (*ip, UDP, served.port)));
            if served.node_port != 0 {
                fronts.push((NODE_PORT, UDP, served.node_port));
            }
            (fronts, service)
        })
    }
}

impl Decision {
    /// For services with affinity: every place a client may know them by, and where he may have been sent to.
    pub(crate) fn stays(&self, stays: &mut Stays) {
        for served in self.ports.iter().filter(|_| self.affinity != 0) {
            let targets: BTreeSet<Target> =
                served.picked.cluster.iter().chain(&served.picked.local).copied().collect();
            let ips = [self.cluster_ip].into_iter().chain(self.external_ips.iter().copied());
            for ip in ips.chain(self.balancer_ips.iter().copied()) {
                stays.0.insert((ip, served.protocol, served.port), targets.clone());
            }
            if served.node_port != 0 {
                stays.0.insert((NODE_PORT, served.protocol, served.node_port), targets);
            }
        }
    }
}

/// Services with affinity, and where their clients may stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stays(BTreeMap<Claim, BTreeSet<Target>>);

impl Stays {
    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// There, for every client of these services, were fewer places than are known now: none must be forgotten.
    #[must_use]
    pub fn within(&self, now: &Stays) -> bool {
        self.0.iter().all(|(place, targets)| now.0.get(place).is_some_and(|now| targets.is_subset(now)))
    }

    /// An element of [`SetName::Affinity`] leads to an endpoint that is none of these.
    #[must_use]
    pub fn is_stale(&self, key: Key, value: Key, family: Family) -> bool {
        let length = usize::from(family.words()) * 4;
        let ip = |bytes: &[u8]| match bytes.len() {
            4 => bytes.first_chunk::<4>().map(|b| IpAddr::from(*b)),
            _ => bytes.first_chunk::<16>().map(|b| IpAddr::from(*b)),
        };
        let port = |bytes: &[u8]| bytes.first_chunk::<2>().map(|b| u16::from_be_bytes(*b));
        let (key, value) = (key.bytes(), value.bytes());
        let parts = || {
            let front = key.get(length..)?;
            let place = (ip(front.get(..length)?)?, *front.get(length)?, port(front.get(length + 4..)?)?);
            Some((place, (ip(value.get(..length)?)?, port(value.get(length..)?)?)))
        };
        let Some((place, target)) = parts() else { return true };
        let known = self.0.get(&place).or_else(|| self.0.get(&(NODE_PORT, place.1, place.2)));
        known.is_none_or(|targets| !targets.contains(&target))
    }
}

/// The sets for one way in.
struct Sets {
    front: Front,
    services: SetName,
    no_endpoints: SetName,
    endpoints: SetName,
    local_endpoints: SetName,
    affinity: SetName,
    masquerade: SetName,
}

const ADDRESSES: Sets = Sets {
    front: Front::Address,
    services: SetName::ServiceIps,
    no_endpoints: SetName::NoEndpointServices,
    endpoints: SetName::Endpoints,
    local_endpoints: SetName::LocalEndpoints,
    affinity: SetName::AffinityIps,
    masquerade: SetName::MasqueradeIps,
};
const NODE_PORTS: Sets = Sets {
    front: Front::NodePort,
    services: SetName::ServiceNodePorts,
    no_endpoints: SetName::NoEndpointNodePorts,
    endpoints: SetName::NodePortEndpoints,
    local_endpoints: SetName::LocalNodePortEndpoints,
    affinity: SetName::AffinityNodePorts,
    masquerade: SetName::MasqueradeNodePorts,
};

/// Adds what is chosen from.
fn targets(sets: &Sets, choice: Choice, key: Key, picked: &Picked, parts: &mut Parts) {
    let (targets, map) = match choice.local {
        true => (&picked.local, sets.local_endpoints),
        false => (&picked.cluster, sets.endpoints),
    };
    for (index, (ip, port)) in (0..).zip(targets) {
        parts.own.add(map, key.index(index), Data::Value(Key::new().address(*ip).port(*port)));
    }
}

/// Another node can serve it: a load balancer shall find that out. Nobody can: the client shall know.
fn refusal(picked: &Picked) -> Data {
    Data::Verdict(if picked.anywhere { Verdict::Drop } else { goto("reject") })
}

/// The targets in an order that moves as few as possible of those that were there before.
fn place(before: &[Target], targets: Vec<Target>) -> Vec<Target> {
    if before.is_empty() || before == targets {
        return targets;
    }
    let wanted: BTreeSet<Target> = targets.iter().copied().collect();
    let known: BTreeSet<Target> = before.iter().copied().collect();
    let mut fresh = targets.into_iter().filter(|target| !known.contains(target));
    let mut placed = before.to_vec();
    let holes: Vec<usize> = (0..placed.len()).filter(|at| !wanted.contains(&placed[*at])).collect();
    let mut left = Vec::new();
    for hole in holes {
        match fresh.next() {
            Some(target) => placed[hole] = target,
            None => left.push(hole),
        }
    }
    for hole in left.into_iter().rev() {
        placed.swap_remove(hole);
    }
    placed.extend(fresh);
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_endpoints_move() {
        let targets = |names: &str| -> Vec<Target> {
            names.bytes().map(|b| (IpAddr::from([10, 0, 0, b]), 80)).collect()
        };
        for (before, wanted, placed) in [
            ("", "abc", "abc"),
            ("abc", "abc", "abc"),
            ("abcd", "acd", "adc"),
            ("abcd", "bcd", "dbc"),
            ("abcd", "abcx", "abcx"),
            ("abcd", "acdx", "axcd"),
            ("ab", "abcd", "abcd"),
            ("abcd", "d", "d"),
            ("abcd", "x", "x"),
            ("abcd", "", ""),
        ] {
            assert_eq!(place(&targets(before), targets(wanted)), targets(placed), "{before} -> {wanted}");
        }
    }
}
