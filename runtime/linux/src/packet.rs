//! Packets with descriptors riding along, over `SOCK_SEQPACKET` Unix sockets in the file system.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::socket::Short;

/// The most descriptors that ride along with one packet.
pub const DESCRIPTORS_MAX: usize = 4;

/// Listens on the socket `name` in `dir`, which only the owner may connect to. Non-blocking.
///
/// # Errors
/// `EADDRINUSE` when the name exists; else what `socket(2)`, `bind(2)` and `listen(2)` say.
pub fn listen(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let short = Short::of(&dir.join(name))?;
    // The mode of a socket's inode comes from the umask; there is no moment at which others could connect.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(short.path())?);
    rustix::process::umask(umask);
    bound?;
    rustix::net::listen(&socket, 1024)?;
    Ok(socket)
}

/// Connects to the socket `name` in `dir`. Non-blocking; the connection stands at once.
///
/// # Errors
/// `ENOENT` or `ECONNREFUSED` when nobody listens there, `EAGAIN` when too many wait to be accepted.
pub fn connect(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let short = Short::of(&dir.join(name))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(short.path())?)?;
    Ok(socket)
}

/// Accepts a connection, which is non-blocking.
///
/// # Errors
/// `EAGAIN` when none waits.
pub fn accept(listener: &impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

/// Two connected ends.
///
/// # Errors
/// What `socketpair(2)` says.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet with at most [`DESCRIPTORS_MAX`] descriptors.
///
/// # Errors
/// `EAGAIN` when the receiver does not keep up, `EPIPE` when it is gone.
pub fn send(socket: &impl AsFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(rustix::io::Errno::TOOBIG.into());
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet of at most `bytes_max` bytes and its descriptors (close-on-exec). An empty packet means
/// that the peer is gone.
///
/// # Errors
/// `EAGAIN` when none waits (non-blocking sockets), `EMSGSIZE` when the packet is too large or carries too many
/// descriptors.
pub fn receive(socket: &impl AsFd, bytes_max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    // Ask for the length first, so that no buffer of the largest size is kept or touched for small packets.
    let mut none = [0_u8; 1];
    let (_, length) = rustix::net::recv(socket, &mut none, RecvFlags::PEEK | RecvFlags::TRUNC)?;
    if length > bytes_max {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    let mut packet = vec![0; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let iov = &mut [IoSliceMut::new(&mut packet)];
    let received = rustix::net::recvmsg(socket, iov, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    if received.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    packet.truncate(received.bytes);
    Ok((packet, descriptors))
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}
