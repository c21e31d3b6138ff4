//! What plugins do to links, as data: [`LinkOp`]; what they see of them: [`Links`]; and the kernel that both are
//! about: [`Kernel`].

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink::netns;
use netlink::nft::Nft;
use netlink::route::{Link, Port, Route, RouteEntry, Veth};

use crate::failure::Failure;
use crate::nat::{self, Masquerade};

/// IPv6 duplicate address detection takes a second or two.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// In which network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The plugin's own.
    Host,
    /// The container's.
    Pod,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkOp {
    /// Make a bridge whose hardware address does not change with its ports.
    CreateBridge { name: String },
    /// Make a veth pair, one end with the pod.
    CreateVeth { host: String, pod: String, mtu: Option<u32>, mac: Option<[u8; 6]> },
    /// Remove a link.
    DeleteLink { side: Side, name: String },
    /// Set the MTU.
    SetMtu { side: Side, name: String, mtu: u32 },
    /// Take every frame.
    SetPromiscuous { name: String },
    /// Make a link of the host a port of a bridge.
    AttachPort { name: String, bridge: String },
    /// Set a port's properties.
    SetPort { name: String, port: Port },
    /// Bring a link up.
    SetUp { side: Side, name: String },
    /// Give a link an address; `dad`: look for duplicates first.
    AddAddress { side: Side, name: String, net: IpNet, dad: bool },
    /// Take an address from a link of the host.
    DeleteAddress { name: String, net: IpNet },
    /// Add a route in the pod by the link of that name.
    AddRoute { name: String, route: RouteEntry },
    /// Write a file below `/proc/sys/net`.
    Sysctl { side: Side, path: String, value: &'static str },
    /// Masquerade what the pod sends outside its network.
    Masquerade(Masquerade),
    /// Tell the neighbours of a pod's link where its addresses are.
    Announce { name: String },
    /// Wait until no address of a pod's link is tentative.
    Settle { name: String },
}

impl LinkOp {
    /// What undoes it for one attachment; `None` where others may live by it, as by a bridge, or where what is
    /// undone takes it along, as an interface its addresses.
    pub(crate) fn undo(&self) -> Option<LinkOp> {
        match self {
            LinkOp::CreateVeth { host, .. } => {
                Some(LinkOp::DeleteLink { side: Side::Host, name: host.clone() })
            }
            LinkOp::Masquerade(masquerade) => {
                let nothing = Masquerade { nets: Vec::new(), ..masquerade.clone() };
                Some(LinkOp::Masquerade(nothing))
            }
            _ => None,
        }
    }
}

/// A link as a plan sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The link itself.
    pub(crate) link: Link,
    /// Its addresses.
    pub(crate) addresses: Vec<IpNet>,
    /// Name of the bridge it is a port of.
    pub(crate) bridge: Option<String>,
    /// Routes by it.
    pub(crate) routes: Vec<RouteEntry>,
}

/// The links that a plan is about, and what else it depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// By side and name; what is not there is not in it.
    pub(crate) seen: BTreeMap<(Side, String), Seen>,
    /// Files below `/proc/sys/net` by path.
    pub(crate) sysctls: BTreeMap<(Side, String), String>,
    /// What the owner has in the masquerade table.
    pub(crate) masquerade: Vec<IpNet>,
}

impl Links {
    /// A link, if it is there.
    pub(crate) fn get(&self, side: Side, name: &str) -> Option<&Seen> {
        self.seen.get(&(side, name.to_owned()))
    }
}

/// Both namespaces.
pub(crate) struct Kernel {
    host: Route,
    pod: Option<(OwnedFd, Route)>,
    /// Kept open to the end: closing it waits until the kernel has forgotten what was removed, and that goes on
    /// while links are removed.
    nft: Option<Nft>,
}

impl Kernel {
    /// The calling thread's namespace, and the container's where it still is.
    pub(crate) fn open(pod: Option<OwnedFd>) -> Result<Kernel, Failure> {
        let pod = match pod {
            Some(fd) => {
                let route = Route::open_in(&fd)?;
                Some((fd, route))
            }
            None => None,
        };
        Ok(Kernel { host: Route::open()?, pod, nft: None })
    }

    fn route(&mut self, side: Side) -> Result<&mut Route, Failure> {
        match (side, &mut self.pod) {
            (Side::Host, _) => Ok(&mut self.host),
            (Side::Pod, Some((_, route))) => Ok(route),
            (Side::Pod, None) => Err(gone()),
        }
    }

    /// What is to be seen of these links.
    pub(crate) fn see(&mut self, names: &[(Side, &str)]) -> Result<Links, Failure> {
        let mut links = Links::default();
        for side in [Side::Host, Side::Pod] {
            let route = self.route(side)?;
            let mut found = Vec::new();
            for (_, name) in names.iter().filter(|(s, _)| *s == side) {
                found.extend(route.link(name)?);
            }
            if found.is_empty() {
                continue;
            }
            let addresses = route.addresses(None)?;
            let routes = if side == Side::Pod { route.routes()? } else { Vec::new() };
            for link in found {
                let bridge = link.controller.map(|c| route.link_at(c)).transpose()?.flatten().map(|b| b.name);
                let seen = Seen {
                    addresses: addresses.iter().filter(|a| a.index == link.index).map(|a| a.net).collect(),
                    routes: routes.iter().filter(|r| r.index == Some(link.index)).cloned().collect(),
                    bridge,
                    link,
                };
                links.seen.insert((side, seen.link.name.clone()), seen);
            }
        }
        Ok(links)
    }

    /// Reads files below `/proc/sys/net` into what is seen; those that are not there are left out.
    pub(crate) fn see_sysctls(&self, links: &mut Links, paths: &[(Side, String)]) -> Result<(), Failure> {
        for side in [Side::Host, Side::Pod] {
            let paths: Vec<&String> =
                paths.iter().filter(|(s, _)| *s == side).map(|(_, path)| path).collect();
            let read = || {
                let value = |path: &&String| std::fs::read_to_string(format!("/proc/sys/net/{path}")).ok();
                paths.iter().map(value).collect::<Vec<_>>()
            };
            let values = match (side, &self.pod) {
                _ if paths.is_empty() => continue,
                (Side::Host, _) => read(),
                (Side::Pod, Some((fd, _))) => netns::enter(fd, read).map_err(enter_failed)?,
                (Side::Pod, None) => return Err(gone()),
            };
            for (path, value) in paths.into_iter().zip(values) {
                links.sysctls.extend(value.map(|v| ((side, path.clone()), v.trim().to_owned())));
            }
        }
        Ok(())
    }

    /// Does all, or, if one fails, undoes those before it.
    pub(crate) fn apply(&mut self, ops: &[LinkOp]) -> Result<(), Failure> {
        for (at, op) in ops.iter().enumerate() {
            if let Err(first) = self.apply_one(op) {
                return Err(self.undo(&ops[..at], first));
            }
        }
        Ok(())
    }

    /// Undoes what was done before `first` failed. Gives what the caller has to report.
    pub(crate) fn undo(&mut self, done: &[LinkOp], first: Failure) -> Failure {
        let undo = done.iter().rev().filter_map(LinkOp::undo);
        let failed: Vec<String> = undo.filter_map(|op| self.apply_one(&op).err()).map(|e| e.text()).collect();
        match failed.is_empty() {
            true => first,
            false => Failure::Undo { first: Box::new(first), undo: failed.join("; ") },
        }
    }

    fn index(&mut self, side: Side, name: &str) -> Result<u32, Failure> {
        let link = self.route(side)?.link(name)?;
        link.map(|l| l.index).ok_or_else(|| Failure::Damaged(format!("link {name} is gone")))
    }

    fn apply_one(&mut self, op: &LinkOp) -> Result<(), Failure> {
        match op {
            LinkOp::CreateBridge { name } => self.create_bridge(name)?,
            LinkOp::CreateVeth { host, pod, mtu, mac } => {
                let (fd, _) = self.pod.as_ref().ok_or_else(gone)?;
                self.host.create_veth(&Veth { name: host, peer: pod, mtu: *mtu, peer_mac: *mac }, fd)?;
            }
            LinkOp::DeleteLink { side, name } => {
                let route = self.route(*side)?;
                if let Some(link) = route.link(name)? {
                    match route.delete_link(link.index) {
                        Err(e) if e.is_absent() => {}
                        done => done?,
                    }
                }
            }
            LinkOp::SetMtu { side, name, mtu } => {
                let index = self.index(*side, name)?;
                self.route(*side)?.set_mtu(index, *mtu)?;
            }
            LinkOp::SetPromiscuous { name } => {
                let index = self.index(Side::Host, name)?;
                self.host.set_promiscuous(index, true)?;
            }
            LinkOp::AttachPort { name, bridge } => {
                let (index, bridge) = (self.index(Side::Host, name)?, self.index(Side::Host, bridge)?);
                self.host.set_controller(index, Some(bridge))?;
            }
            LinkOp::SetPort { name, port } => {
                let index = self.index(Side::Host, name)?;
                self.host.set_port(index, *port)?;
            }
            LinkOp::SetUp { side, name } => {
                let index = self.index(*side, name)?;
                self.route(*side)?.set_up(index, true)?;
            }
            LinkOp::AddAddress { side, name, net, dad } => {
                let index = self.index(*side, name)?;
                match self.route(*side)?.add_address(index, *net, *dad) {
                    Err(e) if e.is_present() => {}
                    done => done?,
                }
            }
            LinkOp::DeleteAddress { name, net } => {
                let index = self.index(Side::Host, name)?;
                self.host.delete_address(index, *net)?;
            }
            LinkOp::AddRoute { name, route } => {
                let index = self.index(Side::Pod, name)?;
                self.route(Side::Pod)?.add_route(&RouteEntry { index: Some(index), ..route.clone() })?;
            }
            LinkOp::Sysctl { side, path, value } => self.write_sysctl(*side, path, value)?,
            LinkOp::Masquerade(masquerade) => {
                let nft = match self.nft.take() {
                    Some(nft) => nft,
                    None => Nft::open()?,
                };
                nat::set_masquerade(self.nft.insert(nft), masquerade)?;
            }
            LinkOp::Announce { name } => self.announce(name)?,
            LinkOp::Settle { name } => self.settle(name)?,
        }
        Ok(())
    }

    fn create_bridge(&mut self, name: &str) -> Result<(), Failure> {
        match self.host.create_bridge(name) {
            // another pod was quicker
            Err(e) if e.is_present() => return Ok(()),
            done => done?,
        }
        let bridge = self.host.link(name)?;
        let bridge = bridge.ok_or_else(|| Failure::Damaged(format!("link {name} is gone")))?;
        // left alone a bridge takes the lowest address of its ports, and changes it as they come and go
        if let Ok(mac) = bridge.mac.as_slice().try_into() {
            self.host.set_mac(bridge.index, mac)?;
        }
        Ok(())
    }

    /// With `arp_notify` and `ndisc_notify` set, the kernel announces a link's addresses when its hardware address
    /// is set, be it to what it was.
    fn announce(&mut self, name: &str) -> Result<(), Failure> {
        let route = self.route(Side::Pod)?;
        if let Some(link) = route.link(name)?
            && let Ok(mac) = link.mac.as_slice().try_into()
        {
            route.set_mac(link.index, mac)?;
        }
        Ok(())
    }

    fn settle(&mut self, name: &str) -> Result<(), Failure> {
        let index = self.index(Side::Pod, name)?;
        let end = Instant::now() + SETTLE_LIMIT;
        loop {
            let addresses = self.route(Side::Pod)?.addresses(Some(index))?;
            if let Some(duplicate) = addresses.iter().find(|a| a.duplicate) {
                let text = format!("address {} of {name} is in use by another machine", duplicate.net);
                return Err(Failure::Exhausted(text));
            }
            if addresses.iter().all(|a| !a.tentative) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Failure::Damaged(format!("an address of {name} is still tentative")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn write_sysctl(&self, side: Side, path: &str, value: &str) -> Result<(), Failure> {
        let path = format!("/proc/sys/net/{path}");
        let write = || std::fs::write(&path, value);
        let written = match (side, &self.pod) {
            (Side::Host, _) => write(),
            (Side::Pod, Some((fd, _))) => netns::enter(fd, write).map_err(enter_failed)?,
            (Side::Pod, None) => return Err(gone()),
        };
        match written {
            // a kernel without IPv6 has nothing to set
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.contains("/ipv6/") => Ok(()),
            written => {
                written.map_err(|source| Failure::Io { what: format!("write {value} to {path}"), source })
            }
        }
    }

    /// Name of the host's link by which an address is reached.
    pub(crate) fn link_to(&mut self, ip: IpAddr) -> Result<Option<String>, Failure> {
        let routes = self.host.routes()?;
        let best = routes.iter().filter(|r| r.dst.contains(&ip)).max_by_key(|r| r.dst.prefix_len());
        let Some(index) = best.and_then(|r| r.index) else { return Ok(None) };
        Ok(self.host.link_at(index)?.map(|l| l.name))
    }
}

fn gone() -> Failure {
    Failure::Environment { name: "CNI_NETNS", reason: "is no network namespace (any more)".into() }
}

fn enter_failed(source: io::Error) -> Failure {
    Failure::Io { what: "enter the container's network namespace".into(), source }
}
