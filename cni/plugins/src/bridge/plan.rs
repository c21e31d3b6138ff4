//! What `bridge` has to do. Pure: see [`plan`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink::route::{Port, RouteEntry};
use proto_node::cni::{AddResult, Route};

use super::conf::Conf;
use crate::failure::Failure;
use crate::links::{LinkOp, Links, Seen, Side};
use crate::nat::Masquerade;

/// What one attachment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    /// Whose it is.
    pub(crate) owner: String,
    /// Name of the host's end.
    pub(crate) host: String,
    /// Name of the pod's end.
    pub(crate) ifname: String,
    /// Hardware address of the pod's end.
    pub(crate) mac: Option<[u8; 6]>,
    /// What address management gave, with gateways filled in by [`gateways`].
    pub(crate) ipam: AddResult,
}

/// Fills in what the configuration says about gateways: an address's gateway, and the default route.
pub(crate) fn gateways(conf: &Conf, mut ipam: AddResult) -> Result<AddResult, Failure> {
    for ip in &mut ipam.ips {
        if conf.is_gateway && ip.gateway.is_none() {
            ip.gateway = Some(first(ip.address));
        }
        let Some(gateway) = ip.gateway.filter(|_| conf.is_default_gateway) else { continue };
        let default: IpNet =
            if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" }.parse().expect("is a network");
        if let Some(other) =
            ipam.routes.iter().find(|r| r.dst == default && r.gw.is_some_and(|gw| gw != gateway))
        {
            let gw = other.gw.map(|gw| gw.to_string()).unwrap_or_default();
            let reason =
                format!("has a default route by {gw}, and isDefaultGateway asks for one by {gateway}");
            return Err(Failure::Config { field: "ipam.routes".into(), reason });
        }
        if ipam.routes.iter().all(|r| r.dst != default) {
            ipam.routes.push(Route::new(default, Some(gateway)));
        }
    }
    Ok(ipam)
}

/// The address after the network's own.
fn first(net: IpNet) -> IpAddr {
    match net.network() {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).saturating_add(1)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).saturating_add(1)).into(),
    }
}

/// The host's end is named by its owner, so that `DEL` finds it with the pod's namespace gone.
pub(crate) fn host_name(owner: &str) -> String {
    format!("veth{:011x}", crate::request::hash(owner) >> 20)
}

/// Files below `/proc/sys/net` that the plan may want to change, and to what.
pub(crate) fn sysctls(conf: &Conf, args: &Args) -> Vec<(Side, String, &'static str)> {
    let has = |v4: bool| args.ipam.ips.iter().any(|ip| ip.address.addr().is_ipv4() == v4);
    let mut all = Vec::new();
    if conf.is_gateway && has(true) {
        all.push((Side::Host, "ipv4/ip_forward".into(), "1"));
    }
    if conf.is_gateway && has(false) {
        all.push((Side::Host, "ipv6/conf/all/forwarding".into(), "1"));
        all.push((Side::Host, format!("ipv6/conf/{}/disable_ipv6", conf.bridge), "0"));
    }
    if has(true) {
        all.push((Side::Pod, format!("ipv4/conf/{}/arp_notify", args.ifname), "1"));
    }
    if has(false) {
        let dad = if conf.enable_dad { "1" } else { "0" };
        let pod = [("disable_ipv6", "0"), ("accept_dad", dad), ("ndisc_notify", "1")];
        all.extend(pod.map(|(name, value)| (Side::Pod, format!("ipv6/conf/{}/{name}", args.ifname), value)));
    }
    all
}

/// The changes that make the links what the attachment asks for; none where they are so already.
pub(crate) fn plan(conf: &Conf, args: &Args, links: &Links) -> Result<Vec<LinkOp>, Failure> {
    let mut ops = bridge(conf, links)?;
    ops.extend(veth(conf, args, links)?);
    let changes = |side| {
        let different = move |(at, path, value): &(Side, String, &'static str)| {
            *at == side && links.sysctls.get(&(*at, path.clone())).is_none_or(|now| now != value)
        };
        let op = |(side, path, value)| LinkOp::Sysctl { side, path, value };
        sysctls(conf, args).into_iter().filter(different).map(op)
    };
    ops.extend(changes(Side::Host));
    ops.extend(gateway_addresses(conf, args, links)?);
    ops.extend(changes(Side::Pod));
    if !conf.disable_container_interface {
        ops.extend(pod(conf, args, links));
    }
    let nets: Vec<IpNet> = args.ipam.ips.iter().map(|ip| ip.address).collect();
    if conf.ip_masq && !nets.is_empty() && !nets.iter().all(|net| links.masquerade.contains(net)) {
        ops.push(LinkOp::Masquerade(Masquerade { owner: args.owner.clone(), nets }));
    }
    Ok(ops)
}

/// What undoes an attachment, whatever of it is there.
pub(crate) fn unplan(conf: &Conf, owner: &str, host: String) -> Vec<LinkOp> {
    let masquerade = LinkOp::Masquerade(Masquerade { owner: owner.to_owned(), nets: Vec::new() });
    let link = LinkOp::DeleteLink { side: Side::Host, name: host };
    conf.ip_masq.then_some(masquerade).into_iter().chain([link]).collect()
}

fn bridge(conf: &Conf, links: &Links) -> Result<Vec<LinkOp>, Failure> {
    let name = || conf.bridge.clone();
    let mut ops = Vec::new();
    let seen = links.get(Side::Host, &conf.bridge);
    if let Some(other) = seen.filter(|s| s.link.kind != "bridge") {
        let kind = if other.link.kind.is_empty() { "hardware" } else { &other.link.kind };
        let reason = format!("names {}, which is there and is no bridge but {kind}", conf.bridge);
        return Err(Failure::Config { field: "bridge".into(), reason });
    }
    let link = seen.map(|s| s.link.clone());
    if link.is_none() {
        ops.push(LinkOp::CreateBridge { name: name() });
    }
    let link = link.unwrap_or_default();
    if conf.mtu != 0 && link.mtu != conf.mtu {
        ops.push(LinkOp::SetMtu { side: Side::Host, name: name(), mtu: conf.mtu });
    }
    if conf.promisc_mode && link.promiscuity == 0 {
        ops.push(LinkOp::SetPromiscuous { name: name() });
    }
    if !link.up {
        ops.push(LinkOp::SetUp { side: Side::Host, name: name() });
    }
    Ok(ops)
}

fn veth(conf: &Conf, args: &Args, links: &Links) -> Result<Vec<LinkOp>, Failure> {
    let mtu = (conf.mtu != 0).then_some(conf.mtu);
    let create = LinkOp::CreateVeth { host: args.host.clone(), pod: args.ifname.clone(), mtu, mac: args.mac };
    let mut ops = Vec::new();
    let host = match (links.get(Side::Host, &args.host), links.get(Side::Pod, &args.ifname)) {
        (None, None) => {
            ops.push(create);
            Seen::default()
        }
        (Some(host), Some(pod)) if host.link.peer == Some(pod.link.index) => host.clone(),
        (_, Some(_)) => {
            let reason = format!("{} is in the container already, and is not ours", args.ifname);
            return Err(Failure::Environment { name: "CNI_IFNAME", reason });
        }
        (Some(_), None) => {
            let reason = format!("link {} is there without its peer in the container", args.host);
            return Err(Failure::Damaged(reason));
        }
    };
    let name = || args.host.clone();
    if host.bridge.as_ref() != Some(&conf.bridge) {
        ops.push(LinkOp::AttachPort { name: name(), bridge: conf.bridge.clone() });
    }
    let port = Port { hairpin: conf.hairpin_mode, isolated: conf.port_isolation };
    if host.link.port.unwrap_or_default() != port {
        ops.push(LinkOp::SetPort { name: name(), port });
    }
    if !host.link.up {
        ops.push(LinkOp::SetUp { side: Side::Host, name: name() });
    }
    Ok(ops)
}

fn gateway_addresses(conf: &Conf, args: &Args, links: &Links) -> Result<Vec<LinkOp>, Failure> {
    if !conf.is_gateway {
        return Ok(Vec::new());
    }
    let net = |ip: &proto_node::cni::IpConfig| IpNet::new(ip.gateway?, ip.address.prefix_len()).ok();
    let wanted: Vec<IpNet> = args.ipam.ips.iter().filter_map(net).collect();
    let there = links.get(Side::Host, &conf.bridge).map(|s| s.addresses.clone()).unwrap_or_default();
    let mut ops = Vec::new();
    for address in there.iter().filter(|a| !wanted.contains(a)) {
        let same = |w: &&IpNet| w.addr().is_ipv4() == address.addr().is_ipv4();
        // IPv6 links have several addresses; those of IPv4 stand in the way, as in upstream's plugin
        let in_way =
            |w: &&IpNet| w.addr().is_ipv4() || w.contains(&address.addr()) || address.contains(&w.addr());
        let Some(one) = wanted.iter().filter(same).find(in_way) else { continue };
        if !conf.force_address {
            let reason = format!(
                "{} has address {address} already, and {one} is asked for: remove one, or set forceAddress",
                conf.bridge
            );
            return Err(Failure::Config { field: "bridge".into(), reason });
        }
        ops.push(LinkOp::DeleteAddress { name: conf.bridge.clone(), net: *address });
    }
    for net in wanted.into_iter().filter(|w| !there.contains(w)) {
        let add = LinkOp::AddAddress { side: Side::Host, name: conf.bridge.clone(), net, dad: false };
        if !ops.contains(&add) {
            ops.push(add);
        }
    }
    Ok(ops)
}

fn pod(conf: &Conf, args: &Args, links: &Links) -> Vec<LinkOp> {
    let name = || args.ifname.clone();
    let there = links.get(Side::Pod, &args.ifname).cloned().unwrap_or_default();
    let mut ops = Vec::new();
    let add = |net| LinkOp::AddAddress { side: Side::Pod, name: name(), net, dad: conf.enable_dad };
    ops.extend(args.ipam.ips.iter().map(|ip| ip.address).filter(|n| !there.addresses.contains(n)).map(add));
    let changed = !ops.is_empty();
    if !there.link.up {
        ops.push(LinkOp::SetUp { side: Side::Pod, name: name() });
    }
    if changed && conf.enable_dad && args.ipam.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        ops.push(LinkOp::Settle { name: name() });
    }
    for route in &args.ipam.routes {
        let entry = entry(route, &args.ipam);
        if !there.routes.iter().any(|r| r.dst == entry.dst && r.gateway == entry.gateway) {
            ops.push(LinkOp::AddRoute { name: name(), route: entry });
        }
    }
    if changed {
        ops.push(LinkOp::Announce { name: name() });
    }
    ops
}

/// A route of the result for the kernel: without a next hop of its own it takes the gateway of its family.
pub(super) fn entry(route: &Route, ipam: &AddResult) -> RouteEntry {
    let family = |ip: &IpAddr| ip.is_ipv4() == route.dst.addr().is_ipv4();
    let gateway = route.gw.or_else(|| ipam.ips.iter().filter_map(|ip| ip.gateway).find(family));
    // a scope of the link's own has no next hop
    let gateway = gateway.filter(|_| route.scope != Some(253));
    RouteEntry {
        priority: route.priority,
        table: route.table,
        scope: route.scope,
        mtu: route.mtu,
        advmss: route.advmss,
        index: None,
        ..RouteEntry::new(route.dst.trunc(), gateway, 0)
    }
}
