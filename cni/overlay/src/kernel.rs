//! Seeing and changing the kernel's tables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use netlink::NetlinkError;
use netlink::nft::Nft;
use netlink::route::{Forwarding, Link, Neighbour, Route, RouteEntry, Vxlan};
use tracing::warn;

use crate::masquerade::Masquerade;
use crate::plan::{Device, Hop, Links, Mac, RouteOp, Tunnel};
use crate::{Error, conf, masquerade, sysctl};

/// Our routes carry this as their protocol; a number that no routing daemon has.
pub(crate) const PROTOCOL: u8 = 141;

/// The kernel's side of one network namespace.
pub(crate) struct Kernel {
    route: Route,
    nft: Nft,
    /// Numbers of links by name, as last seen.
    indexes: BTreeMap<String, u32>,
}

impl Kernel {
    /// For the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Kernel, NetlinkError> {
        Ok(Kernel { route: Route::open()?, nft: Nft::open()?, indexes: BTreeMap::new() })
    }

    /// The number of a link, as last seen.
    pub(crate) fn index(&self, name: &str) -> Option<u32> {
        self.indexes.get(name).copied()
    }

    /// What is there.
    pub(crate) fn see(&mut self) -> Result<Links, NetlinkError> {
        let all = self.route.links()?;
        let names: BTreeMap<u32, String> = all.iter().map(|link| (link.index, link.name.clone())).collect();
        self.indexes = all.iter().map(|link| (link.name.clone(), link.index)).collect();
        let mut links = Links::default();
        for link in all {
            links.devices.insert(link.name.clone(), device(link, &names));
        }
        for address in self.route.addresses(None)? {
            let device = names.get(&address.index).and_then(|name| links.devices.get_mut(name));
            if let Some(device) = device.filter(|_| !is_link_local(address.net.addr())) {
                device.addresses.insert(address.net);
            }
        }
        for route in self.route.routes()? {
            let main = route.table == Some(254);
            if main && route.dst.prefix_len() == 0 {
                links.defaults[usize::from(!route.dst.addr().is_ipv4())] = true;
            }
            let device = route.index.and_then(|index| names.get(&index));
            let (Some(device), Some(PROTOCOL), true) = (device, route.protocol, main) else { continue };
            let hop = Hop { device: device.clone(), via: route.gateway, onlink: route.onlink };
            links.routes.insert(route.dst, hop);
        }
        let tunnels = |index: u32| {
            let name = names.get(&index)?;
            links.devices.get(name)?.tunnel.as_ref().map(|_| name.clone())
        };
        for Neighbour { index, ip, mac } in self.route.neighbours()? {
            let (Some(name), Ok(mac)) = (tunnels(index), Mac::try_from(mac)) else { continue };
            links.neighbours.insert((name, ip), mac);
        }
        for Forwarding { index, mac, remote } in self.route.forwardings()? {
            let (Some(name), Ok(mac)) = (tunnels(index), Mac::try_from(mac)) else { continue };
            links.forwardings.insert((name, mac), remote);
        }
        Ok(links)
    }

    /// Makes changes, each on its own: one that is refused keeps no other from being made. Gives the first refusal.
    pub(crate) fn apply(&mut self, ops: &[RouteOp]) -> Result<(), NetlinkError> {
        let mut first = Ok(());
        for op in ops {
            if let Err(error) = self.change(op) {
                warn!(?op, error = chain(&error), "the kernel refused");
                first = first.and(Err(error));
            }
        }
        first
    }

    fn change(&mut self, op: &RouteOp) -> Result<(), NetlinkError> {
        // 0, which the kernel refuses, for a link that is not there
        let index = self.index(op.device()).unwrap_or(0);
        let route = &mut self.route;
        match op {
            RouteOp::CreateTunnel { name, tunnel, mac, mtu } => self.create(name, tunnel, *mac, *mtu),
            RouteOp::DeleteLink(_) => absent_is_done(route.delete_link(index)),
            RouteOp::SetMac(_, mac) => route.set_mac(index, *mac),
            RouteOp::SetMtu(_, mtu) => route.set_mtu(index, *mtu),
            RouteOp::SetUp(_) => route.set_up(index, true),
            RouteOp::AddAddress(_, net) => route.add_address(index, *net, false),
            RouteOp::DeleteAddress(_, net) => absent_is_done(route.delete_address(index, *net)),
            RouteOp::SetForwarding(_, mac, remote) => route.set_forwarding(&forwarding(index, *mac, *remote)),
            RouteOp::DeleteForwarding(_, mac, remote) => {
                absent_is_done(route.delete_forwarding(&forwarding(index, *mac, *remote)))
            }
            RouteOp::SetNeighbour(_, ip, mac) => {
                route.set_neighbour(&Neighbour { index, ip: *ip, mac: mac.to_vec() })
            }
            RouteOp::DeleteNeighbour(_, ip) => {
                absent_is_done(route.delete_neighbour(&Neighbour { index, ip: *ip, mac: Vec::new() }))
            }
            RouteOp::SetRoute(dst, hop) => route.set_route(&entry(*dst, hop, index)),
            RouteOp::DeleteRoute(dst, hop) => absent_is_done(route.delete_route(&entry(*dst, hop, index))),
        }
    }

    fn create(&mut self, name: &str, tunnel: &Tunnel, mac: Mac, mtu: u32) -> Result<(), NetlinkError> {
        let lower = tunnel.under.as_ref().and_then(|under| self.index(under));
        let vxlan = Vxlan {
            vni: tunnel.vni,
            port: tunnel.port,
            local: tunnel.local,
            lower,
            learning: tunnel.learning,
        };
        self.route.create_vxlan(name, &vxlan, mac, mtu)?;
        if let Some(link) = self.route.link(name)? {
            self.indexes.insert(name.to_owned(), link.index);
        }
        // what the device would otherwise say on its own is heard by nobody
        let quiet: &[(&str, &str)] = match tunnel.local {
            Some(IpAddr::V6(_)) => &[("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_dad", "0")],
            _ => &[("disable_ipv6", "1")],
        };
        for (switch, value) in quiet {
            // a machine without IPv6 has no such switch
            let _ = sysctl::set(&format!("ipv6/conf/{name}/{switch}"), value);
        }
        Ok(())
    }

    /// Keeps the table of masquerade, or its absence. Tells whether it had to be changed.
    pub(crate) fn masquerade(&mut self, wanted: Option<&Masquerade>) -> Result<bool, NetlinkError> {
        match wanted {
            Some(wanted) => wanted.ensure(&mut self.nft),
            None => masquerade::remove(&mut self.nft).map(|()| false),
        }
    }
}

fn device(link: Link, names: &BTreeMap<u32, String>) -> Device {
    let tunnel = link.vxlan.map(|vxlan| Tunnel {
        vni: vxlan.vni,
        port: vxlan.port,
        local: vxlan.local,
        under: vxlan.lower.and_then(|index| names.get(&index).cloned()),
        learning: vxlan.learning,
    });
    Device {
        tunnel,
        mac: link.mac.try_into().unwrap_or_default(),
        mtu: link.mtu,
        up: link.up,
        addresses: Default::default(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn forwarding(index: u32, mac: Mac, remote: IpAddr) -> Forwarding {
    Forwarding { index, mac: mac.to_vec(), remote }
}

fn entry(dst: IpNet, hop: &Hop, index: u32) -> RouteEntry {
    RouteEntry { onlink: hop.onlink, protocol: Some(PROTOCOL), ..RouteEntry::new(dst, hop.via, index) }
}

fn absent_is_done(done: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match done {
        Err(error) if error.is_absent() => Ok(()),
        done => done,
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What [`cleanup`] removes.
#[derive(Debug, Clone)]
pub struct Cleanup {
    /// As [`Config::device`](crate::Config::device).
    pub device: String,
    /// As [`Config::bridge`](crate::Config::bridge).
    pub bridge: String,
    /// As [`Config::cni_conf_dir`](crate::Config::cni_conf_dir).
    pub cni_conf_dir: PathBuf,
    /// As [`Config::run_dir`](crate::Config::run_dir).
    pub run_dir: PathBuf,
}

/// Takes the network of this node away: devices, routes, table, files, and the bridge once no pod is attached.
/// Removes what it can, then gives the first failure.
///
/// # Errors
/// When the kernel or the file system refuses.
pub fn cleanup(what: &Cleanup) -> Result<(), Error> {
    let mut kernel = Kernel::open()?;
    let links = kernel.see()?;
    let mut ops: Vec<RouteOp> =
        links.routes.iter().map(|(dst, hop)| RouteOp::DeleteRoute(*dst, hop.clone())).collect();
    let ours = |name: &str| {
        let rest = name.strip_prefix(what.device.as_str());
        rest.is_some_and(|rest| rest.starts_with('.') || rest.starts_with("-v6."))
    };
    let tunnels = links.devices.iter().filter(|(name, device)| device.tunnel.is_some() && ours(name));
    ops.extend(tunnels.map(|(name, _)| RouteOp::DeleteLink(name.clone())));
    let done = kernel.apply(&ops).map_err(Error::from);
    let done = done.and(kernel.masquerade(None).map(drop).map_err(Error::from));
    let done = done.and(remove_bridge(&mut kernel, &what.bridge).map_err(Error::from));
    let done = done.and(conf::remove(&conf::list_path(&what.cni_conf_dir)));
    done.and(conf::remove(&conf::env_path(&what.run_dir)))
}

fn remove_bridge(kernel: &mut Kernel, name: &str) -> Result<(), NetlinkError> {
    let links = kernel.route.links()?;
    let Some(bridge) = links.iter().find(|link| link.name == name && link.kind == "bridge") else {
        return Ok(());
    };
    if links.iter().any(|link| link.controller == Some(bridge.index)) {
        return Ok(());
    }
    absent_is_done(kernel.route.delete_link(bridge.index))
}
