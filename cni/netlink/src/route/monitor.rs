//! What changes in the kernel's tables, as it tells those who listen.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::Parseable;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};

use super::PROTOCOL;
use crate::socket::{NetlinkError, Socket, messages};

/// `RTNLGRP_*`: links, neighbours, addresses and routes of both families.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

/// Something was added, changed or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// A link.
    Link(u32),
    /// An address of that link.
    Address(u32),
    /// A neighbour or a forwarding entry of that link.
    Neighbour(u32),
    /// A route.
    Route {
        /// Who made it.
        protocol: u8,
        /// The link it leaves by.
        index: Option<u32>,
    },
    /// More than the socket could hold: anything.
    Much,
}

/// Listens to a network namespace. Not blocking: wait until its descriptor can be read.
pub struct Monitor {
    socket: Socket,
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Monitor {
    /// For the network namespace of the calling thread.
    pub fn open() -> Result<Monitor, NetlinkError> {
        Ok(Monitor { socket: Socket::listen(PROTOCOL, &GROUPS)? })
    }

    /// What has happened since the last call.
    pub fn changes(&mut self) -> Result<Vec<Changed>, NetlinkError> {
        let mut changes = Vec::new();
        loop {
            match self.socket.receive_waiting("listen to changes") {
                Ok(None) => return Ok(changes),
                Ok(Some(datagram)) => {
                    changes.extend(messages(datagram).filter_map(|m| changed(m.kind, m.body)));
                }
                Err(error) if error.is_overrun() => changes.push(Changed::Much),
                Err(error) => return Err(error),
            }
        }
    }
}

fn changed(kind: u16, body: &[u8]) -> Option<Changed> {
    // `ifinfomsg`, `ifaddrmsg` and `ndmsg` all have the link's number there
    let index = || body.get(4..8)?.try_into().ok().map(u32::from_ne_bytes);
    match kind {
        RTM_NEWLINK | RTM_DELLINK => index().map(Changed::Link),
        RTM_NEWADDR | RTM_DELADDR => index().map(Changed::Address),
        RTM_NEWNEIGH | RTM_DELNEIGH => index().map(Changed::Neighbour),
        RTM_NEWROUTE | RTM_DELROUTE => {
            let message = RouteMessage::parse(body).ok()?;
            let index = message.attributes.iter().find_map(|a| match a {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            Some(Changed::Route { protocol: message.header.protocol.into(), index })
        }
        _ => None,
    }
}
