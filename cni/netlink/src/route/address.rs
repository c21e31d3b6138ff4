//! Addresses and routes.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};

use super::{Route, emit};
use crate::socket::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkError};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub index: u32,
    /// The address with the length of its network's prefix.
    pub net: IpNet,
    /// IPv6: duplicate address detection has not ended.
    pub tentative: bool,
    /// IPv6: duplicate address detection found the address in use.
    pub duplicate: bool,
}

/// A unicast route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The link it leaves by.
    pub index: Option<u32>,
    /// Source address for what is sent without one.
    pub source: Option<IpAddr>,
    /// Priority; the lower wins. `None`: the kernel's choice.
    pub priority: Option<u32>,
    /// Table; `None`: main.
    pub table: Option<u32>,
    /// Scope, as in `rtnetlink(7)`; `None`: link without a gateway, universe with one.
    pub scope: Option<u8>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Maximal segment size to advertise, in bytes.
    pub advmss: Option<u32>,
    /// Who made it, as in `rtnetlink(7)`; `None`: "boot", as `ip route add` says.
    pub protocol: Option<u8>,
    /// The next hop is on the link, though no address of the link says so.
    pub onlink: bool,
}

impl RouteEntry {
    /// A route by a link, all else as the kernel chooses.
    pub fn new(dst: IpNet, gateway: Option<IpAddr>, index: u32) -> RouteEntry {
        RouteEntry {
            dst,
            gateway,
            index: Some(index),
            source: None,
            priority: None,
            table: None,
            scope: None,
            mtu: None,
            advmss: None,
            protocol: None,
            onlink: false,
        }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let scope = match (self.scope, self.gateway) {
            (Some(scope), _) => scope.into(),
            (None, Some(_)) => RouteScope::Universe,
            (None, None) => RouteScope::Link,
        };
        let table = self.table.unwrap_or(RouteHeader::RT_TABLE_MAIN.into());
        message.header = RouteHeader {
            address_family: family(self.dst.addr()),
            destination_prefix_length: self.dst.prefix_len(),
            table: u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
            protocol: self.protocol.map_or(RouteProtocol::Boot, RouteProtocol::from),
            flags: if self.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
            scope,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        let metrics: Vec<RouteMetric> =
            [self.mtu.map(RouteMetric::Mtu), self.advmss.map(RouteMetric::Advmss)]
                .into_iter()
                .flatten()
                .collect();
        let attributes = [
            Some(RouteAttribute::Destination(self.dst.network().into())),
            self.gateway.map(|gw| RouteAttribute::Gateway(gw.into())),
            self.index.map(RouteAttribute::Oif),
            self.source.map(|source| RouteAttribute::PrefSource(source.into())),
            self.priority.map(RouteAttribute::Priority),
            (table > u32::from(u8::MAX)).then_some(RouteAttribute::Table(table)),
            (!metrics.is_empty()).then_some(RouteAttribute::Metrics(metrics)),
        ];
        message.attributes.extend(attributes.into_iter().flatten());
        message
    }

    fn from_message(message: RouteMessage) -> Option<RouteEntry> {
        let unspecified: IpAddr = match message.header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        if message.header.kind != RouteType::Unicast {
            return None;
        }
        let length = message.header.destination_prefix_length;
        let mut route = RouteEntry::new(IpNet::new(unspecified, length).ok()?, None, 0);
        route.index = None;
        route.table = Some(message.header.table.into());
        route.scope = Some(message.header.scope.into());
        route.protocol = Some(message.header.protocol.into());
        route.onlink = message.header.flags.contains(RouteFlags::Onlink);
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Destination(dst) => route.dst = IpNet::new(ip(&dst)?, length).ok()?,
                RouteAttribute::Gateway(gw) => route.gateway = ip(&gw),
                RouteAttribute::PrefSource(source) => route.source = ip(&source),
                RouteAttribute::Oif(index) => route.index = Some(index),
                RouteAttribute::Priority(priority) => route.priority = Some(priority),
                RouteAttribute::Table(table) => route.table = Some(table),
                RouteAttribute::Metrics(metrics) => {
                    for metric in metrics {
                        match metric {
                            RouteMetric::Mtu(mtu) => route.mtu = Some(mtu),
                            RouteMetric::Advmss(advmss) => route.advmss = Some(advmss),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Some(route)
    }
}

impl Route {
    /// Every address of a link, or of all.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>, NetlinkError> {
        let request = AddressMessage::default();
        let read = |_, body: &[u8]| {
            let message = AddressMessage::parse(body).map_err(|e| e.to_string())?;
            Ok(address(message).filter(|a| index.is_none_or(|i| i == a.index)))
        };
        self.socket.dump("list the addresses", RTM_GETADDR, |b| emit(b, &request), read)
    }

    /// Gives a link an address. `dad`: IPv6 detects duplicates first, during which the address is tentative.
    pub fn add_address(&mut self, index: u32, net: IpNet, dad: bool) -> Result<(), NetlinkError> {
        let mut request = address_message(index, net);
        if let (false, IpNet::V6(_)) = (dad, net) {
            request.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let what = format!("add address {net} to link {index}");
        self.request(&what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &request)
    }

    /// Gives a link an address that this machine answers at, and never calls itself by when it speaks to others.
    pub fn add_host_address(&mut self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let mut request = address_message(index, net);
        request.header.scope = AddressScope::Host;
        if net.addr().is_ipv6() {
            request.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let what = format!("add address {net} to link {index}");
        self.request(&what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &request)
    }

    /// Takes an address from a link.
    pub fn delete_address(&mut self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let request = address_message(index, net);
        self.request(&format!("delete address {net} of link {index}"), RTM_DELADDR, 0, &request)
    }

    /// Every unicast route of every table.
    pub fn routes(&mut self) -> Result<Vec<RouteEntry>, NetlinkError> {
        let request = RouteMessage::default();
        let read = |_, body: &[u8]| {
            RouteMessage::parse(body).map(RouteEntry::from_message).map_err(|e| e.to_string())
        };
        self.socket.dump("list the routes", RTM_GETROUTE, |b| emit(b, &request), read)
    }

    /// Adds a route; refused if there is one of the same destination, table and priority.
    pub fn add_route(&mut self, route: &RouteEntry) -> Result<(), NetlinkError> {
        let what = format!("add route to {}", route.dst);
        self.request(&what, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route.message())
    }

    /// Adds a route in place of one of the same destination, table and priority, if there is one.
    pub fn set_route(&mut self, route: &RouteEntry) -> Result<(), NetlinkError> {
        let what = format!("set route to {}", route.dst);
        self.request(&what, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route.message())
    }

    /// Removes a route.
    pub fn delete_route(&mut self, route: &RouteEntry) -> Result<(), NetlinkError> {
        self.request(&format!("delete route to {}", route.dst), RTM_DELROUTE, 0, &route.message())
    }
}

pub(super) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message.attributes.push(AddressAttribute::Address(net.addr()));
    if let IpNet::V4(net) = net
        && net.prefix_len() < 31
    {
        message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
    }
    message
}

fn address(message: AddressMessage) -> Option<Address> {
    let (mut local, mut remote, mut flags) = (None, None, AddressFlags::empty());
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Address(ip) => remote = Some(ip),
            AddressAttribute::Flags(all) => flags = all,
            _ => {}
        }
    }
    let net = IpNet::new(local.or(remote)?, message.header.prefix_len).ok()?;
    Some(Address {
        index: message.header.index,
        net,
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
    })
}
