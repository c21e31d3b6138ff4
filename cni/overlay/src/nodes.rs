//! The cluster's nodes as the plan needs them: this one, and of the others those that can be reached. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proto_kube::object;
use serde_json::Value;

use crate::Backend;
use crate::lease::{self, Mac, Vtep};

/// Another node's range and the way there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: String,
    /// Its pods' range.
    pub subnet: IpNet,
    /// Its address; of the range's family.
    pub ip: IpAddr,
    /// The end of its tunnel.
    pub vtep: Option<Vtep>,
}

/// All that the plan needs to know of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// How packets get to another node.
    pub backend: Backend,
    /// What the names of our devices begin with.
    pub device: String,
    /// MTU of pods; `None`: what the link below carries allows.
    pub mtu: Option<u32>,
    /// Ranges of services, for machines without a default route.
    pub services: Vec<IpNet>,
    /// This node's ranges, at most one of a family.
    pub subnets: Vec<IpNet>,
    /// This node's addresses, at most one of a family.
    pub ips: Vec<IpAddr>,
    /// Hardware addresses that this node's devices must have: IPv4, IPv6. `None`: it has said none yet.
    pub said: [Option<Mac>; 2],
    /// Those to take where the devices are not there either.
    pub made: [Mac; 2],
    /// The others.
    pub peers: Vec<Peer>,
}

impl Nodes {
    /// Name of the device of a family.
    #[must_use]
    pub fn device(&self, v4: bool) -> String {
        let vni = if let Backend::Vxlan { vni, .. } = self.backend { vni } else { 1 };
        format!("{}{}.{vni}", self.device, if v4 { "" } else { "-v6" })
    }

    /// This node's range of a family.
    #[must_use]
    pub fn subnet(&self, v4: bool) -> Option<IpNet> {
        self.subnets.iter().copied().find(|net| net.addr().is_ipv4() == v4)
    }

    /// This node's address of a family.
    #[must_use]
    pub fn ip(&self, v4: bool) -> Option<IpAddr> {
        self.ips.iter().copied().find(|ip| ip.is_ipv4() == v4)
    }
}

/// A node, or a part of what it says, that is left out, and why. For people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// The node.
    pub node: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {}", self.node, self.why)
    }
}

/// The settings that decide who can be reached.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// This node's name.
    pub name: &'a str,
    /// Its addresses; of a family without one: that of its Node.
    pub ips: &'a [IpAddr],
    /// How packets get to another node.
    pub backend: Backend,
    /// What the names of our devices begin with.
    pub device: &'a str,
    /// MTU of pods.
    pub mtu: Option<u32>,
    /// Ranges of services.
    pub services: &'a [IpNet],
}

/// Reads the Nodes. `None` while this node's own is not there or has no range yet.
#[must_use]
pub fn read(setup: &Setup<'_>, all: &[Arc<Value>]) -> (Option<Nodes>, Vec<Refused>) {
    let Some(own) = all.iter().find(|node| object::name(node) == setup.name) else {
        return (None, Vec::new());
    };
    let subnets = lease::subnets(own);
    if subnets.is_empty() {
        return (None, Vec::new());
    }
    let mut ips = setup.ips.to_vec();
    ips.extend(lease::internal_ips(own).into_iter().filter(|ip| {
        // only of a family that was not given
        setup.ips.iter().all(|given| given.is_ipv4() != ip.is_ipv4())
    }));
    let mut order: Vec<&Arc<Value>> = all.iter().filter(|node| object::name(node) != setup.name).collect();
    order.sort_by_key(|node| age(node));
    let mut nodes = Nodes {
        backend: setup.backend,
        device: setup.device.to_owned(),
        mtu: setup.mtu,
        services: setup.services.to_vec(),
        said: [None; 2],
        made: [[0; 6]; 2],
        peers: Vec::new(),
        subnets,
        ips,
    };
    let mut refused = Vec::new();
    for v4 in [true, false] {
        let at = usize::from(!v4);
        (nodes.said[at], nodes.made[at]) = macs(own, &order, v4, &mut refused);
        if let (Some(subnet), None) = (nodes.subnet(v4), nodes.ip(v4)) {
            let why =
                format!("its range {subnet} is not reached from others: it has no address of that family");
            refused.push(Refused { node: setup.name.to_owned(), why });
        }
    }
    let mut taken = Taken::new(setup.name, &nodes);
    for node in order.into_iter().filter(|node| lease::is_kept(node)) {
        for subnet in lease::subnets(node) {
            match peer(&nodes, &mut taken, node, subnet) {
                Ok(peer) => nodes.peers.extend(peer),
                Err(why) => refused.push(Refused { node: object::name(node).to_owned(), why }),
            }
        }
    }
    (Some(nodes), refused)
}

/// The order in which nodes come to what two of them claim: the older first.
fn age(node: &Value) -> (&str, &str) {
    (object::text(node, &["metadata", "creationTimestamp"]), object::name(node))
}

/// `Ok(None)`: the node has no address of that family yet.
fn peer(nodes: &Nodes, taken: &mut Taken, node: &Value, subnet: IpNet) -> Result<Option<Peer>, String> {
    let v4 = subnet.addr().is_ipv4();
    let Some(end) = lease::end(node, v4) else { return Ok(None) };
    let vtep = match nodes.backend {
        Backend::HostGw => None,
        Backend::Vxlan { vni, .. } => match end.vtep {
            Some(vtep) if vtep.vni != vni => {
                return Err(format!("its network has the number {}, ours {vni}", vtep.vni));
            }
            vtep => vtep,
        },
    };
    let name = object::name(node);
    taken.claim(name, subnet, end.ip, vtep)?;
    Ok(Some(Peer { node: name.to_owned(), subnet, ip: end.ip, vtep }))
}

/// What nodes have claimed so far, and who.
struct Taken {
    subnets: BTreeMap<IpNet, String>,
    ips: BTreeMap<IpAddr, String>,
    macs: BTreeMap<(bool, Mac), String>,
}

impl Taken {
    fn new(me: &str, nodes: &Nodes) -> Taken {
        let name = || me.to_owned();
        Taken {
            subnets: nodes.subnets.iter().map(|net| (*net, name())).collect(),
            ips: nodes.ips.iter().map(|ip| (*ip, name())).collect(),
            macs: [(true, 0), (false, 1)]
                .map(|(v4, at)| ((v4, nodes.said[at].unwrap_or(nodes.made[at])), name()))
                .into(),
        }
    }

    fn claim(&mut self, node: &str, subnet: IpNet, ip: IpAddr, vtep: Option<Vtep>) -> Result<(), String> {
        if let Some((other, owner)) = self.overlapping(subnet) {
            return Err(format!("its range {subnet} is taken by node {owner} with {other}"));
        }
        if let Some(owner) = self.ips.get(&ip) {
            return Err(format!("its address {ip} is that of node {owner}"));
        }
        if subnet.contains(&ip) || self.ips.keys().any(|taken| subnet.contains(taken)) {
            return Err(format!("its range {subnet} has addresses of nodes"));
        }
        if let Some(vtep) = vtep {
            if let Some(owner) = self.macs.get(&(ip.is_ipv4(), vtep.mac)) {
                let mac = netlink::route::mac_text(&vtep.mac);
                return Err(format!("its device's address {mac} is that of node {owner}"));
            }
            self.macs.insert((ip.is_ipv4(), vtep.mac), node.to_owned());
        }
        self.subnets.insert(subnet, node.to_owned());
        self.ips.insert(ip, node.to_owned());
        Ok(())
    }

    /// Two networks overlap when one holds the other.
    fn overlapping(&self, net: IpNet) -> Option<(IpNet, &String)> {
        let inner = self.subnets.range(net..).next().filter(|(other, _)| net.contains(*other));
        let outer = || {
            (0..net.prefix_len()).find_map(|length| {
                let wider = IpNet::new(net.addr(), length).ok()?.trunc();
                self.subnets.get_key_value(&wider)
            })
        };
        inner.or_else(outer).map(|(net, owner)| (*net, owner))
    }
}

/// This node's hardware address in a family: what it has said before, unless an older node says the same; and one
/// made from the Node's uid, so that it is found again.
fn macs(own: &Value, others: &[&Arc<Value>], v4: bool, refused: &mut Vec<Refused>) -> (Option<Mac>, Mac) {
    let vtep = |node: &Value| lease::end(node, v4).and_then(|end| end.vtep).map(|vtep| vtep.mac);
    let older = others.iter().filter(|node| age(node) < age(own));
    let taken: BTreeSet<Mac> = older.filter_map(|node| vtep(node)).collect();
    let mut all = (0..).map(|salt: u32| made(object::uid(own), v4, salt));
    let made = all.find(|mac| !taken.contains(mac)).expect("there are more than nodes");
    let said = vtep(own);
    let Some(twice) = said.filter(|mac| taken.contains(mac)) else { return (said, made) };
    let twice = netlink::route::mac_text(&twice);
    let why = format!("its device's address {twice} is an older node's; it takes another");
    refused.push(Refused { node: object::name(own).to_owned(), why });
    (Some(made), made)
}

/// A locally administered address from a hash (FNV-1a).
fn made(uid: &str, v4: bool, salt: u32) -> Mac {
    let text = format!("{uid}/{v4}/{salt}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, f, ..] = (hash ^ hash >> 16).to_be_bytes();
    [a & 0xfc | 2, b, c, d, e, f]
}

#[cfg(test)]
mod tests;
