//! Connections the kernel tracks: forgetting those whose translation is no longer true.

use std::net::IpAddr;
use std::os::fd::AsFd;

use crate::attr::{nest, put};
use crate::netns;
use crate::nft::PROTOCOL;
use crate::socket::{NetlinkError, Socket, attributes};

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_*`.
const NEW: u16 = 1 << 8;
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const HEADER_BYTES: usize = 4;

/// UDP as IP knows it.
pub const UDP: u8 = 17;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol over IP.
    pub protocol: u8,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// As its first packet had it.
    pub original: Tuple,
    /// As answers have it: from where the packets really go.
    pub reply: Tuple,
    family: u8,
    original_bytes: Vec<u8>,
    id: Vec<u8>,
}

/// A conversation with the connection tracking of one network namespace.
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// For the network namespace of the calling thread.
    pub fn open() -> Result<Conntrack, NetlinkError> {
        Ok(Conntrack { socket: Socket::open(PROTOCOL)? })
    }

    /// For another network namespace; may be used from any thread.
    pub fn open_in(netns: impl AsFd) -> Result<Conntrack, NetlinkError> {
        let what = || "enter a network namespace".to_owned();
        netns::enter(netns, Conntrack::open).map_err(|source| NetlinkError::Io { what: what(), source })?
    }

    /// Connections that `wanted` says yes to. Those without ports are left out.
    pub fn connections(
        &mut self,
        wanted: impl Fn(&Connection) -> bool,
    ) -> Result<Vec<Connection>, NetlinkError> {
        let write = |b: &mut Vec<u8>| b.extend_from_slice(&[0; HEADER_BYTES]);
        self.socket.dump("list the tracked connections", GET, write, |kind, body| {
            Ok((kind == NEW).then(|| connection(body)).flatten().filter(&wanted))
        })
    }

    /// Forgets the connections that `wanted` says yes to. Gives how many.
    pub fn forget(&mut self, wanted: impl Fn(&Connection) -> bool) -> Result<usize, NetlinkError> {
        let found = self.connections(wanted)?;
        for one in &found {
            let write = |b: &mut Vec<u8>| {
                b.extend_from_slice(&[one.family, 0, 0, 0]);
                nest(b, CTA_TUPLE_ORIG, |b| b.extend_from_slice(&one.original_bytes));
                put(b, CTA_ID, &one.id);
            };
            match self.socket.request("forget a tracked connection", DELETE, 0, write) {
                // it may end by itself meanwhile
                Err(e) if e.is_absent() => {}
                done => done?,
            }
        }
        Ok(found.len())
    }
}

fn connection(body: &[u8]) -> Option<Connection> {
    let mut parts = (None, None, Vec::new(), Vec::new());
    for (kind, value) in attributes(body.get(HEADER_BYTES..)?) {
        match kind {
            CTA_TUPLE_ORIG => (parts.0, parts.2) = (tuple(value), value.to_vec()),
            CTA_TUPLE_REPLY => parts.1 = tuple(value),
            CTA_ID => parts.3 = value.to_vec(),
            _ => {}
        }
    }
    let (original, reply, original_bytes, id) = parts;
    Some(Connection { original: original?, reply: reply?, family: *body.first()?, original_bytes, id })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (mut source, mut destination, mut protocol, mut ports) = (None, None, None, (None, None));
    for (kind, value) in attributes(bytes) {
        for (inner, value) in attributes(value) {
            match (kind, inner) {
                (1, 1 | 3) => source = ip(value),
                (1, 2 | 4) => destination = ip(value),
                (2, 1) => protocol = value.first().copied(),
                (2, 2) => ports.0 = value.first_chunk().map(|p| u16::from_be_bytes(*p)),
                (2, 3) => ports.1 = value.first_chunk().map(|p| u16::from_be_bytes(*p)),
                _ => {}
            }
        }
    }
    Some(Tuple {
        source: source?,
        destination: destination?,
        protocol: protocol?,
        source_port: ports.0?,
        destination_port: ports.1?,
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk().map(|b: &[u8; 4]| (*b).into()),
        _ => bytes.first_chunk().map(|b: &[u8; 16]| (*b).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::nft::{Base, Batch, Ct, Family, Hook, Nft, Rule};
    use crate::route::Route;

    #[test]
    fn forgets_what_it_is_asked_to() {
        let netns = netns::create().unwrap();
        let mut tracking = Conntrack::open_in(&netns).unwrap();
        let mut batch = Batch::new(Family::Inet, "track");
        batch.add_table();
        batch.add_chain("out", Some(Base { kind: "filter", hook: Hook::Output, priority: 0, accept: true }));
        batch.add_rule("out", &Rule::new().ct(0, Ct::State));
        Nft::open_in(&netns).unwrap().commit(&batch).unwrap();
        netns::enter(&netns, || {
            Route::open().unwrap().set_up(1, true).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for port in [4001, 4002] {
                socket.send_to(b"x", ("127.0.0.1", port)).unwrap();
            }
        })
        .unwrap();
        let to =
            |port| move |c: &Connection| c.original.protocol == UDP && c.original.destination_port == port;
        let found = tracking.connections(to(4001)).unwrap();
        assert_eq!((found.len(), found[0].reply.source_port), (1, 4001));
        assert_eq!(tracking.forget(to(4001)).unwrap(), 1);
        assert!(tracking.connections(to(4001)).unwrap().is_empty());
        assert_eq!(tracking.connections(to(4002)).unwrap().len(), 1);
    }
}
