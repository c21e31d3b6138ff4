//! Links, addresses, routes and neighbours of one network namespace: [`Route`] asks and changes, [`Monitor`] listens.

mod address;
mod link;
mod monitor;
mod neighbour;

use std::os::fd::AsFd;

use netlink_packet_core::Emitable;

use crate::netns;
use crate::socket::{NetlinkError, Socket};

pub use address::{Address, RouteEntry};
pub use link::{Link, Port, Veth, Vxlan, mac_text};
pub use monitor::{Changed, Monitor};
pub use neighbour::{Forwarding, Neighbour};

/// `NETLINK_ROUTE`.
const PROTOCOL: isize = 0;

/// A conversation with the routing half of one network namespace's kernel.
pub struct Route {
    socket: Socket,
}

impl Route {
    /// For the network namespace of the calling thread.
    pub fn open() -> Result<Route, NetlinkError> {
        Ok(Route { socket: Socket::open(PROTOCOL)? })
    }

    /// For another network namespace; may be used from any thread.
    pub fn open_in(netns: impl AsFd) -> Result<Route, NetlinkError> {
        let what = || "enter a network namespace".to_owned();
        netns::enter(netns, Route::open).map_err(|source| NetlinkError::Io { what: what(), source })?
    }

    fn request(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        body: &impl Emitable,
    ) -> Result<(), NetlinkError> {
        self.socket.request(what, kind, flags, |buffer| emit(buffer, body))
    }
}

/// Appends what the codec emits.
fn emit(buffer: &mut Vec<u8>, body: &impl Emitable) {
    let at = buffer.len();
    buffer.resize(at + body.buffer_len(), 0);
    body.emit(&mut buffer[at..]);
}

#[cfg(test)]
mod tests;
