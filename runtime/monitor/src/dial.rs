//! Connections to the pod's loopback: the monitor lives in the pod's network namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

/// A connection being made.
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) socket: OwnedFd,
    port: u16,
    /// IPv4 was refused, this is the second try.
    second: bool,
}

/// How far it got.
#[derive(Debug)]
pub(crate) enum Dialed {
    /// Ask again when the socket is writable.
    Pending(Dialing),
    /// Connected; non-blocking.
    Connected(OwnedFd),
    /// Neither address family answers.
    Refused(io::Error),
}

/// Begins to connect to `127.0.0.1`.
pub(crate) fn begin(port: u16) -> Dialed {
    open(port, false)
}

impl Dialing {
    /// The socket is writable: it is connected, or `::1` is next.
    pub(crate) fn proceed(self) -> Dialed {
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => Dialed::Connected(self.socket),
            Ok(Err(error)) | Err(error) => self.next(error),
        }
    }

    fn next(self, error: Errno) -> Dialed {
        if self.second { Dialed::Refused(error.into()) } else { open(self.port, true) }
    }
}

fn open(port: u16, second: bool) -> Dialed {
    let (family, address) = if second {
        (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::LOCALHOST, port)))
    } else {
        (AddressFamily::INET, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match socket_with(family, SocketType::STREAM, flags, None) {
        Ok(socket) => socket,
        Err(error) => return Dialed::Refused(error.into()),
    };
    let dialing = Dialing { socket, port, second };
    match connect(&dialing.socket, &address) {
        Ok(()) => Dialed::Connected(dialing.socket),
        Err(Errno::INPROGRESS) => Dialed::Pending(dialing),
        Err(error) => dialing.next(error),
    }
}
