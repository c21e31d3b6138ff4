//! What has to change in the kernel's tables so that pods reach each other. Pure: see [`plan`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::Backend;
pub use crate::lease::{End, Mac, Vtep};
pub use crate::nodes::{Nodes, Peer, Refused, Setup, read};

/// What VXLAN adds to a packet over IPv4, in bytes: IP, UDP, VXLAN and Ethernet headers.
const VXLAN_V4: u32 = 50;
/// The same over IPv6.
const VXLAN_V6: u32 = 70;

/// A VXLAN device's fixed properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Number of the network.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Where its packets come from.
    pub local: Option<IpAddr>,
    /// The link below.
    pub under: Option<String>,
    /// It learns from what it gets.
    pub learning: bool,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// For VXLAN devices.
    pub tunnel: Option<Tunnel>,
    /// Its hardware address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Its addresses, but link-local ones.
    pub addresses: BTreeSet<IpNet>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The link.
    pub device: String,
    /// The next hop; `None`: the destination is on the link.
    pub via: Option<IpAddr>,
    /// No address of the link says that the next hop is on it.
    pub onlink: bool,
}

/// What the kernel has that concerns the overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// Every link, by name.
    pub devices: BTreeMap<String, Device>,
    /// Whether there is a default route: IPv4, IPv6.
    pub defaults: [bool; 2],
    /// Routes that an overlay made.
    pub routes: BTreeMap<IpNet, Hop>,
    /// Permanent neighbours on our devices, by device and address.
    pub neighbours: BTreeMap<(String, IpAddr), Mac>,
    /// Forwarding entries of our devices, by device and hardware address.
    pub forwardings: BTreeMap<(String, Mac), IpAddr>,
}

impl Links {
    /// The link that has an address, and the network it is in there.
    #[must_use]
    pub fn with_address(&self, ip: IpAddr) -> Option<(&str, &Device, IpNet)> {
        self.devices.iter().find_map(|(name, device)| {
            device.addresses.iter().find(|net| net.addr() == ip).map(|net| (name.as_str(), device, *net))
        })
    }

    fn remove(&mut self, device: &str) {
        self.devices.remove(device);
        self.routes.retain(|_, hop| hop.device != device);
        self.neighbours.retain(|(of, _), _| of != device);
        self.forwardings.retain(|(of, _), _| of != device);
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteOp {
    /// Make a VXLAN device, down and without addresses.
    CreateTunnel {
        /// Its name.
        name: String,
        /// Its properties.
        tunnel: Tunnel,
        /// Its hardware address.
        mac: Mac,
        /// MTU in bytes.
        mtu: u32,
    },
    /// Remove a link with its routes, neighbours and forwarding entries.
    DeleteLink(String),
    /// Hardware address.
    SetMac(String, Mac),
    /// MTU in bytes.
    SetMtu(String, u32),
    /// Bring a link up.
    SetUp(String),
    /// Give a link an address.
    AddAddress(String, IpNet),
    /// Take one from it.
    DeleteAddress(String, IpNet),
    /// Frames for an address go to a host.
    SetForwarding(String, Mac, IpAddr),
    /// No more.
    DeleteForwarding(String, Mac, IpAddr),
    /// A permanent neighbour.
    SetNeighbour(String, IpAddr, Mac),
    /// No more.
    DeleteNeighbour(String, IpAddr),
    /// A route, in place of one to the same network.
    SetRoute(IpNet, Hop),
    /// No more.
    DeleteRoute(IpNet, Hop),
}

impl RouteOp {
    /// The link it is about.
    #[must_use]
    pub fn device(&self) -> &str {
        match self {
            RouteOp::CreateTunnel { name, .. }
            | RouteOp::DeleteLink(name)
            | RouteOp::SetMac(name, _)
            | RouteOp::SetMtu(name, _)
            | RouteOp::SetUp(name)
            | RouteOp::AddAddress(name, _)
            | RouteOp::DeleteAddress(name, _)
            | RouteOp::SetForwarding(name, ..)
            | RouteOp::DeleteForwarding(name, ..)
            | RouteOp::SetNeighbour(name, ..)
            | RouteOp::DeleteNeighbour(name, _) => name,
            RouteOp::SetRoute(_, hop) | RouteOp::DeleteRoute(_, hop) => &hop.device,
        }
    }
}

/// MTU of pods that the nodes' links allow; `None` where no link has this node's addresses.
#[must_use]
pub fn mtu(nodes: &Nodes, links: &Links) -> Option<u32> {
    let of = |ip: &IpAddr| {
        let (_, under, _) = links.with_address(*ip)?;
        nodes.subnet(ip.is_ipv4())?;
        Some(inner_mtu(nodes, under.mtu, ip.is_ipv4()))
    };
    nodes.mtu.or_else(|| nodes.ips.iter().filter_map(of).min())
}

fn inner_mtu(nodes: &Nodes, under: u32, v4: bool) -> u32 {
    let added = match nodes.backend {
        Backend::HostGw => 0,
        Backend::Vxlan { .. } if v4 => VXLAN_V4,
        Backend::Vxlan { .. } => VXLAN_V6,
    };
    under.saturating_sub(added)
}

/// The changes that make the kernel's tables what the cluster's nodes ask for; none where they are so already.
///
/// Of a family that no link has this node's address of, nothing is touched: an address may be away for a moment.
/// First comes what makes new ways, in the order that no packet finds half of one, then what removes old ones.
#[must_use]
pub fn plan(nodes: &Nodes, links: &Links) -> Vec<RouteOp> {
    let mut now = links.clone();
    let mut ops = strays(nodes, &mut now);
    for v4 in [true, false] {
        let device = nodes.device(v4);
        let wanted = match (nodes.subnet(v4), nodes.ip(v4)) {
            (Some(subnet), Some(ip)) => match links.with_address(ip) {
                Some(under) => Some(wanted(nodes, links, (subnet, ip), under)),
                None => continue,
            },
            _ => None,
        };
        let tunnel = wanted.as_ref().and_then(|wanted| wanted.tunnel.as_ref());
        ops.extend(device_ops(&device, tunnel, &mut now));
        ops.extend(way_ops(&device, v4, wanted.unwrap_or_default(), &now));
    }
    ops
}

/// What one family asks for.
#[derive(Default)]
struct Wanted {
    tunnel: Option<Device>,
    routes: BTreeMap<IpNet, Hop>,
    neighbours: BTreeMap<IpAddr, Mac>,
    forwardings: BTreeMap<Mac, IpAddr>,
}

fn wanted(
    nodes: &Nodes,
    links: &Links,
    (subnet, ip): (IpNet, IpAddr),
    (under, link, net): (&str, &Device, IpNet),
) -> Wanted {
    let v4 = ip.is_ipv4();
    let mut wanted = Wanted::default();
    let mut direct = true;
    if let Backend::Vxlan { vni, port, direct_routing } = nodes.backend {
        let (local, under) = (Some(ip), Some(under.to_owned()));
        let address = IpNet::from(subnet.network());
        wanted.tunnel = Some(Device {
            tunnel: Some(Tunnel { vni, port, local, under, learning: false }),
            mac: mac(nodes, links, v4),
            mtu: nodes.mtu.unwrap_or_else(|| inner_mtu(nodes, link.mtu, v4)),
            up: true,
            addresses: BTreeSet::from([address]),
        });
        direct = direct_routing;
    }
    for peer in nodes.peers.iter().filter(|peer| peer.subnet.addr().is_ipv4() == v4) {
        let near = net.contains(&peer.ip);
        match (peer.vtep, &wanted.tunnel) {
            // a node without VXLAN has no other way
            (vtep, tunnel) if near && (direct || vtep.is_none() || tunnel.is_none()) => {
                let hop = Hop { device: under.to_owned(), via: Some(peer.ip), onlink: false };
                wanted.routes.insert(peer.subnet, hop);
            }
            (Some(vtep), Some(_)) => {
                let via = peer.subnet.network();
                let hop = Hop { device: nodes.device(v4), via: Some(via), onlink: true };
                wanted.routes.insert(peer.subnet, hop);
                wanted.neighbours.insert(via, vtep.mac);
                wanted.forwardings.insert(vtep.mac, peer.ip);
            }
            _ => {}
        }
    }
    // without any route to a service the machine itself would not even try, and translation comes after that
    if !links.defaults[usize::from(!v4)] {
        for range in nodes.services.iter().filter(|range| range.addr().is_ipv4() == v4) {
            wanted.routes.insert(*range, Hop { device: under.to_owned(), via: None, onlink: false });
        }
    }
    wanted
}

/// The hardware address of a family's device: what this node has said; else what the device has; else a made one.
fn mac(nodes: &Nodes, links: &Links, v4: bool) -> Mac {
    let at = usize::from(!v4);
    let has =
        || links.devices.get(&nodes.device(v4)).filter(|seen| seen.tunnel.is_some()).map(|seen| seen.mac);
    nodes.said[at].or_else(has).unwrap_or(nodes.made[at])
}

/// Where this node is reached, for its lease: of each family whose device, where there must be one, is there.
#[must_use]
pub fn ends(nodes: &Nodes, links: &Links) -> Vec<End> {
    let end = |ip: &IpAddr| {
        nodes.subnet(ip.is_ipv4())?;
        let vtep = match nodes.backend {
            Backend::HostGw => None,
            Backend::Vxlan { vni, .. } => {
                let device = links.devices.get(&nodes.device(ip.is_ipv4()))?;
                Some(Vtep { vni, mac: device.tunnel.is_some().then_some(device.mac)? })
            }
        };
        Some(End { ip: *ip, vtep })
    };
    nodes.ips.iter().filter_map(end).collect()
}

/// VXLAN devices of ours with another number than today's.
fn strays(nodes: &Nodes, now: &mut Links) -> Vec<RouteOp> {
    let ours = |name: &str| {
        let rest = name.strip_prefix(&nodes.device)?;
        let vni = rest.strip_prefix("-v6.").or_else(|| rest.strip_prefix('.'))?;
        vni.parse::<u32>().ok()
    };
    let today = [nodes.device(true), nodes.device(false)];
    let stray = |(name, seen): &(&String, &Device)| {
        seen.tunnel.is_some() && ours(name).is_some() && !today.contains(name)
    };
    let strays: Vec<String> = now.devices.iter().filter(stray).map(|(name, _)| name.clone()).collect();
    strays.iter().for_each(|name| now.remove(name));
    strays.into_iter().map(RouteOp::DeleteLink).collect()
}

/// Peers that the plan can give no way, and why.
#[must_use]
pub fn unreachable(nodes: &Nodes, links: &Links) -> Vec<Refused> {
    let way = |peer: &Peer| {
        let ip = nodes.ip(peer.ip.is_ipv4())?;
        let (_, _, net) = links.with_address(ip)?;
        (!net.contains(&peer.ip) && peer.vtep.is_none()).then(|| {
            format!(
                "its address {} is not on the link of ours, {net}, and it is not in our VXLAN network",
                peer.ip
            )
        })
    };
    nodes.peers.iter().filter_map(|peer| Some(Refused { node: peer.node.clone(), why: way(peer)? })).collect()
}

fn device_ops(name: &str, wanted: Option<&Device>, now: &mut Links) -> Vec<RouteOp> {
    let mut ops = Vec::new();
    let create = |wanted: &Device| RouteOp::CreateTunnel {
        name: name.to_owned(),
        tunnel: wanted.tunnel.clone().expect("a tunnel is wanted"),
        mac: wanted.mac,
        mtu: wanted.mtu,
    };
    match (now.devices.get(name).map(|seen| &seen.tunnel), wanted) {
        // somebody else's link has our name: the kernel will say so
        (Some(None), wanted) => return wanted.map(create).into_iter().collect(),
        (Some(seen), wanted) if wanted.is_none_or(|wanted| wanted.tunnel != *seen) => {
            ops.push(RouteOp::DeleteLink(name.to_owned()));
            now.remove(name);
        }
        _ => {}
    }
    let Some(wanted) = wanted else { return ops };
    let seen = now.devices.entry(name.to_owned()).or_insert_with(|| {
        ops.push(create(wanted));
        Device { mac: wanted.mac, mtu: wanted.mtu, ..Device::default() }
    });
    if seen.mac != wanted.mac {
        ops.push(RouteOp::SetMac(name.to_owned(), wanted.mac));
    }
    if seen.mtu != wanted.mtu {
        ops.push(RouteOp::SetMtu(name.to_owned(), wanted.mtu));
    }
    if !seen.up {
        ops.push(RouteOp::SetUp(name.to_owned()));
    }
    // with its last address a device loses its routes: the new one first
    let add = |net: &IpNet| RouteOp::AddAddress(name.to_owned(), *net);
    ops.extend(wanted.addresses.difference(&seen.addresses).map(add));
    let delete = |net: &IpNet| RouteOp::DeleteAddress(name.to_owned(), *net);
    ops.extend(seen.addresses.difference(&wanted.addresses).map(delete));
    ops
}

fn way_ops(device: &str, v4: bool, wanted: Wanted, now: &Links) -> Vec<RouteOp> {
    let of = || device.to_owned();
    let neighbours: BTreeMap<IpAddr, Mac> = on(device, &now.neighbours);
    let forwardings: BTreeMap<Mac, IpAddr> = on(device, &now.forwardings);
    let routes = || now.routes.iter().filter(|(dst, _)| dst.addr().is_ipv4() == v4);
    let mut ops = Vec::new();
    let new = wanted.forwardings.iter().filter(|(mac, ip)| forwardings.get(*mac) != Some(*ip));
    ops.extend(new.map(|(mac, ip)| RouteOp::SetForwarding(of(), *mac, *ip)));
    let new = wanted.neighbours.iter().filter(|(ip, mac)| neighbours.get(*ip) != Some(*mac));
    ops.extend(new.map(|(ip, mac)| RouteOp::SetNeighbour(of(), *ip, *mac)));
    let new = wanted.routes.iter().filter(|(dst, hop)| now.routes.get(*dst) != Some(*hop));
    ops.extend(new.map(|(dst, hop)| RouteOp::SetRoute(*dst, hop.clone())));
    let old = routes().filter(|(dst, _)| !wanted.routes.contains_key(*dst));
    ops.extend(old.map(|(dst, hop)| RouteOp::DeleteRoute(*dst, hop.clone())));
    let old = neighbours.keys().filter(|ip| !wanted.neighbours.contains_key(*ip));
    ops.extend(old.map(|ip| RouteOp::DeleteNeighbour(of(), *ip)));
    let old = forwardings.iter().filter(|(mac, _)| !wanted.forwardings.contains_key(*mac));
    ops.extend(old.map(|(mac, ip)| RouteOp::DeleteForwarding(of(), *mac, *ip)));
    ops
}

/// The entries of one device.
fn on<K: Copy + Ord, V: Copy>(device: &str, all: &BTreeMap<(String, K), V>) -> BTreeMap<K, V> {
    all.iter().filter(|((of, _), _)| of == device).map(|((_, key), value)| (*key, *value)).collect()
}

#[cfg(test)]
mod tests;
