//! UDP flows that the kernel remembers for endpoints that are no more. A client that goes on sending would keep such a
//! flow alive for ever, past any rule, and whoever gets the endpoint's address next would get what he sends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::decide::Claim;
use crate::model::{Entry, Slice};
use crate::pick::Target;
use crate::ruleset::Family;

/// A UDP flow, as connection tracking has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Where the client sends to.
    pub destination: IpAddr,
    /// The port it sends to.
    pub port: u16,
    /// Whose answers are waited for, and from which port.
    pub answers: Target,
}

/// Places of UDP services, and all endpoints that serve them; none where a place is nobody's any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpServices {
    family: Family,
    /// Where node ports are open; everywhere for `None`.
    open: Option<Vec<IpNet>>,
    fronts: BTreeMap<(IpAddr, u16), BTreeSet<Target>>,
    node_ports: BTreeMap<u16, BTreeSet<Target>>,
}

impl UdpServices {
    pub(crate) fn new(family: Family, open: Option<Vec<IpNet>>) -> UdpServices {
        UdpServices { family, open, fronts: BTreeMap::new(), node_ports: BTreeMap::new() }
    }

    /// Adds a place, and whose answers may come from it.
    pub(crate) fn add(&mut self, (ip, _, port): Claim, serving: BTreeSet<Target>) {
        if ip.is_unspecified() {
            self.node_ports.insert(port, serving);
        } else {
            self.fronts.insert((ip, port), serving);
        }
    }

    /// The flow is to one of the places, but to no endpoint of it.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow) -> bool {
        if Family::of(flow.destination) != self.family {
            return false;
        }
        let open =
            |ip: &IpAddr| self.open.as_ref().is_none_or(|open| open.iter().any(|net| net.contains(ip)));
        let by_address = self.fronts.get(&(flow.destination, flow.port));
        let by_node_port = || self.node_ports.get(&flow.port).filter(|_| open(&flow.destination));
        let serving = by_address.or_else(by_node_port);
        serving.is_some_and(|serving| !serving.contains(&flow.answers))
    }
}

/// All that serve a service's port, whatever policies and hints say: these are for new flows.
pub(crate) fn serving(entry: &Entry, service: Claim, family: Family) -> BTreeSet<Target> {
    let ports = entry.service.iter().flat_map(|known| &known.ports);
    let Some(port) = ports.into_iter().find(|p| (p.protocol, p.port) == (service.1, service.2)) else {
        return BTreeSet::new();
    };
    let of_slice = |slice: &Slice| {
        let numbers = slice.ports.iter().filter(|(n, p, _)| *n == port.name && *p == port.protocol);
        let ips = slice.endpoints.iter().filter(|e| e.serving && Family::of(e.ip) == family).map(|e| e.ip);
        numbers.flat_map(|(.., number)| ips.clone().map(|ip| (ip, *number))).collect::<Vec<Target>>()
    };
    entry.slices.values().flat_map(of_slice).collect()
}
