//! Network interfaces.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::Parseable;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use rustix::io::Errno;

use super::{Route, emit};
use crate::socket::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NetlinkError};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
/// `IFNAMSIZ` without the final zero.
const NAME_BYTES_MAX: usize = 15;

/// A network interface as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is: `veth`, `bridge`, …; empty for a hardware interface and for `lo`.
    pub kind: String,
    /// Its hardware address; empty where the kind has none.
    pub mac: Vec<u8>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// How many want it promiscuous.
    pub promiscuity: u32,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
    /// For a veth: index of its peer, in the peer's namespace.
    pub peer: Option<u32>,
    /// For a port of a bridge.
    pub port: Option<Port>,
    /// For a VXLAN device.
    pub vxlan: Option<Vxlan>,
}

/// Properties of a VXLAN device. They stay as they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// Number of the network, 24 bits.
    pub vni: u32,
    /// UDP port, of both ends.
    pub port: u16,
    /// The address that its packets come from; its family is that of all ends.
    pub local: Option<IpAddr>,
    /// Index of the link below.
    pub lower: Option<u32>,
    /// Learns where hardware addresses are from the frames it gets.
    pub learning: bool,
}

impl Vxlan {
    /// As attributes. IPv4 needs no UDP checksum, and goes without as RFC 7348 wishes; IPv6 needs it.
    fn infos(&self) -> Vec<InfoVxlan> {
        let mut infos =
            vec![InfoVxlan::Id(self.vni), InfoVxlan::Port(self.port), InfoVxlan::Learning(self.learning)];
        match self.local {
            Some(IpAddr::V4(ip)) => infos.extend([InfoVxlan::Local(ip), InfoVxlan::UDPCsum(false)]),
            Some(IpAddr::V6(ip)) => infos.push(InfoVxlan::Local6(ip)),
            None => {}
        }
        infos.extend(self.lower.map(InfoVxlan::Link));
        infos
    }

    fn from_infos(infos: Vec<InfoVxlan>) -> Vxlan {
        let mut vxlan = Vxlan { vni: 0, port: 0, local: None, lower: None, learning: false };
        for info in infos {
            match info {
                InfoVxlan::Id(vni) => vxlan.vni = vni,
                InfoVxlan::Port(port) => vxlan.port = port,
                InfoVxlan::Local(ip) => vxlan.local = Some(ip.into()),
                InfoVxlan::Local6(ip) => vxlan.local = Some(ip.into()),
                InfoVxlan::Link(index) => vxlan.lower = Some(index),
                InfoVxlan::Learning(on) => vxlan.learning = on,
                _ => {}
            }
        }
        vxlan
    }
}

/// Properties of a bridge's port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Frames may leave by the port they came from.
    pub hairpin: bool,
    /// No frames to other isolated ports.
    pub isolated: bool,
}

/// A pair of interfaces to create.
pub struct Veth<'a> {
    /// Name of the end in this network namespace.
    pub name: &'a str,
    /// Name of the other end.
    pub peer: &'a str,
    /// MTU of both, in bytes; `None`: the kernel's choice.
    pub mtu: Option<u32>,
    /// Hardware address of the other end; `None`: a random one.
    pub peer_mac: Option<[u8; 6]>,
}

/// A hardware address as people write it.
pub fn mac_text(mac: &[u8]) -> String {
    mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

impl Link {
    fn from_message(message: LinkMessage) -> Link {
        let up = message.header.flags.contains(LinkFlags::Up);
        let mut link = Link { index: message.header.index, up, ..Link::default() };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Promiscuity(n) => link.promiscuity = n,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::LinkInfo(infos) => link.read_infos(infos),
                _ => {}
            }
        }
        link
    }

    fn read_infos(&mut self, infos: Vec<LinkInfo>) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = kind.to_string(),
                LinkInfo::PortData(InfoPortData::BridgePort(properties)) => {
                    let mut port = Port::default();
                    for property in properties {
                        match property {
                            InfoBridgePort::HairpinMode(on) => port.hairpin = on,
                            InfoBridgePort::Isolated(on) => port.isolated = on,
                            _ => {}
                        }
                    }
                    self.port = Some(port);
                }
                LinkInfo::Data(InfoData::Vxlan(infos)) => self.vxlan = Some(Vxlan::from_infos(infos)),
                _ => {}
            }
        }
    }
}

impl Route {
    /// Every interface.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let request = LinkMessage::default();
        self.socket.dump(
            "list the links",
            RTM_GETLINK,
            |b| emit(b, &request),
            |_, body| parse(body).map(Some),
        )
    }

    /// The interface of that name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        if name.len() > NAME_BYTES_MAX {
            return Ok(None);
        }
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(&format!("look up link {name}"), &request)
    }

    /// The interface of that number.
    pub fn link_at(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        self.get_link(&format!("look up link {index}"), &message(index))
    }

    fn get_link(&mut self, what: &str, request: &LinkMessage) -> Result<Option<Link>, NetlinkError> {
        let mut found = None;
        let done = self.socket.transact(
            what,
            RTM_GETLINK,
            NLM_F_ACK,
            |b| emit(b, request),
            |_, body| {
                found = Some(parse(body)?);
                Ok(())
            },
        );
        match done {
            Err(e) if e.errno() == Some(Errno::NODEV) => Ok(None),
            done => done.map(|()| found),
        }
    }

    /// Makes a bridge, down and without addresses. Refused if the name is taken.
    pub fn create_bridge(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        request.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.request(&format!("create bridge {name}"), RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &request)
    }

    /// Makes a veth pair, both ends down, the other end in `peer_netns` from the start: no name can collide on the
    /// way. Refused if a name is taken on its side.
    pub fn create_veth(&mut self, veth: &Veth<'_>, peer_netns: impl AsFd) -> Result<(), NetlinkError> {
        let mtu = veth.mtu.map(LinkAttribute::Mtu);
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(veth.peer.to_owned()));
        peer.attributes.push(LinkAttribute::NetNsFd(peer_netns.as_fd().as_raw_fd()));
        peer.attributes.extend(veth.peer_mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        peer.attributes.extend(mtu.clone());
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(veth.name.to_owned()));
        request.attributes.extend(mtu);
        request.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let what = format!("create veth {} with peer {}", veth.name, veth.peer);
        self.request(&what, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &request)
    }

    /// Makes a VXLAN device, down and without addresses. Refused if the name is taken, or network and port are.
    pub fn create_vxlan(
        &mut self,
        name: &str,
        vxlan: &Vxlan,
        mac: [u8; 6],
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        request.attributes.push(LinkAttribute::Address(mac.to_vec()));
        request.attributes.push(LinkAttribute::Mtu(mtu));
        request.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(vxlan.infos())),
        ]));
        self.request(&format!("create VXLAN device {name}"), RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &request)
    }

    /// Removes an interface, and with one end of a veth pair the other.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.request(&format!("delete link {index}"), RTM_DELLINK, 0, &message(index))
    }

    /// Up or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let what = format!("set link {index} {}", if up { "up" } else { "down" });
        self.set_flag(&what, index, LinkFlags::Up, up)
    }

    /// Takes every frame, whomever it is for.
    pub fn set_promiscuous(&mut self, index: u32, on: bool) -> Result<(), NetlinkError> {
        self.set_flag(&format!("set link {index} promiscuous"), index, LinkFlags::Promisc, on)
    }

    fn set_flag(&mut self, what: &str, index: u32, flag: LinkFlags, on: bool) -> Result<(), NetlinkError> {
        let mut request = message(index);
        request.header.change_mask = flag;
        request.header.flags = if on { flag } else { LinkFlags::empty() };
        self.request(what, RTM_SETLINK, 0, &request)
    }

    /// MTU in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.set(&format!("set MTU of link {index} to {mtu}"), index, LinkAttribute::Mtu(mtu))
    }

    /// Hardware address.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let what = format!("set MAC of link {index} to {}", mac_text(&mac));
        self.set(&what, index, LinkAttribute::Address(mac.to_vec()))
    }

    /// Makes it a port of a bridge, or of none.
    pub fn set_controller(&mut self, index: u32, bridge: Option<u32>) -> Result<(), NetlinkError> {
        let what = match bridge {
            Some(bridge) => format!("make link {index} a port of bridge {bridge}"),
            None => format!("take link {index} from its bridge"),
        };
        self.set(&what, index, LinkAttribute::Controller(bridge.unwrap_or(0)))
    }

    /// A new name. The link must be down.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<(), NetlinkError> {
        self.set(&format!("rename link {index} to {name}"), index, LinkAttribute::IfName(name.to_owned()))
    }

    /// Moves it to another network namespace, where it arrives down and without addresses.
    pub fn move_to(&mut self, index: u32, netns: impl AsFd) -> Result<(), NetlinkError> {
        let fd = LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd());
        self.set(&format!("move link {index} to another network namespace"), index, fd)
    }

    /// Properties of a bridge's port.
    pub fn set_port(&mut self, index: u32, port: Port) -> Result<(), NetlinkError> {
        use netlink_packet_route::link::InfoPortKind;
        let properties =
            vec![InfoBridgePort::HairpinMode(port.hairpin), InfoBridgePort::Isolated(port.isolated)];
        let info = LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(properties)),
        ]);
        let mut request = message(index);
        request.attributes.push(info);
        self.request(&format!("set bridge port properties of link {index}"), RTM_NEWLINK, 0, &request)
    }

    fn set(&mut self, what: &str, index: u32, attribute: LinkAttribute) -> Result<(), NetlinkError> {
        let mut request = message(index);
        request.attributes.push(attribute);
        self.request(what, RTM_SETLINK, 0, &request)
    }
}

fn message(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn parse(body: &[u8]) -> Result<Link, String> {
    LinkMessage::parse(body).map(Link::from_message).map_err(|e| e.to_string())
}
