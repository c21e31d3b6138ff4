//! UDP flows that the kernel remembers for endpoints that are no more. A client that goes on sending would keep such a
//! flow alive for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::decide::Claim;
use crate::model::Entry;
use crate::ruleset::Family;

/// A UDP flow, as connection tracking has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Where the client sends to.
    pub destination: IpAddr,
    /// The port it sends to.
    pub port: u16,
    /// Whose answers are waited for.
    pub answers: IpAddr,
}

/// UDP services, and the addresses of all endpoints that serve them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpServices {
    family: Family,
    /// Where node ports are open; everywhere for `None`.
    open: Option<Vec<IpNet>>,
    fronts: BTreeMap<(IpAddr, u16), BTreeSet<IpAddr>>,
    node_ports: BTreeMap<u16, BTreeSet<IpAddr>>,
}

impl UdpServices {
    pub(crate) fn new(family: Family, open: Option<Vec<IpNet>>) -> UdpServices {
        UdpServices { family, open, fronts: BTreeMap::new(), node_ports: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, entry: &Entry, fronts: &[Claim], service: Claim) {
        let Some(known) = &entry.service else { return };
        let mut ports = known.ports.iter();
        let Some(port) = ports.find(|p| (p.protocol, p.port) == (service.1, service.2)) else { return };
        let slices = entry.slices.values();
        let slices =
            slices.filter(|s| s.ports.iter().any(|(n, p, _)| *n == port.name && *p == port.protocol));
        let serving =
            slices.flat_map(|s| &s.endpoints).filter(|e| e.serving && Family::of(e.ip) == self.family);
        let serving: BTreeSet<IpAddr> = serving.map(|e| e.ip).collect();
        // nowhere else to go: what there is may be better than nothing
        if serving.is_empty() {
            return;
        }
        for (ip, _, port) in fronts {
            if ip.is_unspecified() {
                self.node_ports.insert(*port, serving.clone());
            } else {
                self.fronts.insert((*ip, *port), serving.clone());
            }
        }
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fronts.is_empty() && self.node_ports.is_empty()
    }

    /// The flow is to a service, but to none of its endpoints.
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
