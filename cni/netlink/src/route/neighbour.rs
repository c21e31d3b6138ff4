//! Neighbours, and the forwarding database of VXLAN devices.

use std::net::IpAddr;

use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::address::family;
use super::{Route, emit};
use crate::socket::{NLM_F_CREATE, NLM_F_REPLACE, NetlinkError};

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

/// A permanent entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The link.
    pub index: u32,
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its hardware address.
    pub mac: Vec<u8>,
}

/// A permanent entry of a VXLAN device's forwarding database: frames for `mac` go to the host `remote`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// The device.
    pub index: u32,
    /// Hardware address of the device at the other end.
    pub mac: Vec<u8>,
    /// The host that device is on.
    pub remote: IpAddr,
}

impl Neighbour {
    fn message(&self) -> NeighbourMessage {
        let mut message = permanent(self.index, family(self.ip));
        message.attributes.push(NeighbourAttribute::Destination(self.ip.into()));
        if !self.mac.is_empty() {
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.clone()));
        }
        message
    }

    fn from_message(message: NeighbourMessage) -> Option<Neighbour> {
        if message.header.state != NeighbourState::Permanent {
            return None;
        }
        let (mut ip, mut mac) = (None, Vec::new());
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(v4.into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(v6.into()),
                NeighbourAttribute::LinkLayerAddress(address) => mac = address,
                _ => {}
            }
        }
        Some(Neighbour { index: message.header.ifindex, ip: ip?, mac })
    }
}

impl Forwarding {
    fn message(&self) -> NeighbourMessage {
        let mut message = permanent(self.index, AddressFamily::Bridge);
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::Destination(self.remote.into()));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.clone()));
        message
    }

    fn from_message(message: NeighbourMessage) -> Option<Forwarding> {
        let of_device = message.header.flags.contains(NeighbourFlags::Own);
        if message.header.state != NeighbourState::Permanent || !of_device {
            return None;
        }
        let (mut remote, mut mac) = (None, None);
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::Destination(address) => remote = ip(&address),
                NeighbourAttribute::LinkLayerAddress(address) => mac = Some(address),
                _ => {}
            }
        }
        Some(Forwarding { index: message.header.ifindex, mac: mac?, remote: remote? })
    }
}

impl Route {
    /// Every permanent neighbour.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, NetlinkError> {
        let request = NeighbourMessage::default();
        let read = |_, body: &[u8]| {
            NeighbourMessage::parse(body).map(Neighbour::from_message).map_err(|e| e.to_string())
        };
        self.socket.dump("list the neighbours", RTM_GETNEIGH, |b| emit(b, &request), read)
    }

    /// Adds or replaces a permanent neighbour.
    pub fn set_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let what = format!("set neighbour {}", neighbour.ip);
        self.request(&what, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &neighbour.message())
    }

    /// Removes a neighbour.
    pub fn delete_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        self.request(&format!("delete neighbour {}", neighbour.ip), RTM_DELNEIGH, 0, &neighbour.message())
    }

    /// Every permanent forwarding entry of VXLAN devices.
    pub fn forwardings(&mut self) -> Result<Vec<Forwarding>, NetlinkError> {
        let mut request = NeighbourMessage::default();
        request.header.family = AddressFamily::Bridge;
        let read = |_, body: &[u8]| {
            NeighbourMessage::parse(body).map(Forwarding::from_message).map_err(|e| e.to_string())
        };
        self.socket.dump("list the forwarding entries", RTM_GETNEIGH, |b| emit(b, &request), read)
    }

    /// Adds or replaces a permanent forwarding entry of a VXLAN device.
    pub fn set_forwarding(&mut self, entry: &Forwarding) -> Result<(), NetlinkError> {
        let what = format!("set forwarding of {} to {}", super::mac_text(&entry.mac), entry.remote);
        self.request(&what, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &entry.message())
    }

    /// Removes a forwarding entry.
    pub fn delete_forwarding(&mut self, entry: &Forwarding) -> Result<(), NetlinkError> {
        let what = format!("delete forwarding of {} to {}", super::mac_text(&entry.mac), entry.remote);
        self.request(&what, RTM_DELNEIGH, 0, &entry.message())
    }
}

fn permanent(index: u32, family: AddressFamily) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message
}

/// The family of a forwarding entry tells nothing about its address: its length does.
fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some((*ip).into()),
        NeighbourAddress::Inet6(ip) => Some((*ip).into()),
        NeighbourAddress::Other(bytes) => {
            let four = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from)).ok()
        }
        _ => None,
    }
}
