//! Requests to the kernel and their answers: framing, acknowledgements, dumps, errors with the kernel's own words.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt;

/// The message is a request.
pub(crate) const NLM_F_REQUEST: u16 = 0x1;
/// More messages of the same answer follow.
const NLM_F_MULTI: u16 = 0x2;
/// Answer with an acknowledgement.
pub(crate) const NLM_F_ACK: u16 = 0x4;
/// The dump was interrupted by a change.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The error repeats only the header of the request.
const NLM_F_CAPPED: u16 = 0x100;
/// The error has attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// Create what is not there.
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// Refuse if it is there.
pub(crate) const NLM_F_EXCL: u16 = 0x200;
/// Replace what is there.
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
/// After those that are there.
pub(crate) const NLM_F_APPEND: u16 = 0x800;
/// All objects.
pub(crate) const NLM_F_DUMP: u16 = 0x300;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const HEADER_BYTES: usize = 16;
/// The kernel answers at once; this only keeps a caller from hanging for ever.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The kernel's refusal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub errno: Errno,
    /// Why, in the kernel's words, where it has some.
    pub text: Option<String>,
    /// Where in the request the offending attribute stands, in bytes.
    pub offset: Option<u32>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from(self.errno))?;
        if let Some(text) = &self.text {
            write!(f, ": {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// Why a request over netlink failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused it.
    #[error("cannot {what}")]
    Refused {
        /// What was asked for, with the object's name.
        what: String,
        /// Why.
        source: Refusal,
    },
    /// The socket failed.
    #[error("netlink, {what}")]
    Io {
        /// What was asked for.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel's answer has another form than its ABI says.
    #[error("netlink, {what}: cannot read the kernel's answer: {reason}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, where it refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetlinkError::Refused { source, .. } => Some(source.errno),
            _ => None,
        }
    }

    /// The object is not there (any more).
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOENT | Errno::NODEV | Errno::SRCH | Errno::ADDRNOTAVAIL))
    }

    /// The kernel had more to tell than the socket could hold.
    pub(crate) fn is_overrun(&self) -> bool {
        const ENOBUFS: i32 = Errno::NOBUFS.raw_os_error();
        matches!(self, NetlinkError::Io { source, .. } if source.raw_os_error() == Some(ENOBUFS))
    }

    /// The object is there already.
    pub fn is_present(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }
}

impl From<NetlinkError> for io::Error {
    fn from(error: NetlinkError) -> io::Error {
        io::Error::other(error)
    }
}

/// One message of an answer.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Splits what one `recv` gave.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let length = u32_at(header, 0) as usize;
        let body = bytes.get(HEADER_BYTES..length)?;
        let message =
            Message { kind: u16_at(header, 4), flags: u16_at(header, 6), sequence: u32_at(header, 8), body };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Splits attributes; the kind is without the flags for nesting and byte order.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16_at(header, 0));
        let value = bytes.get(4..length)?;
        let kind = u16_at(header, 2) & 0x3fff;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Writes a message's header, with a length that [`finish`] fills in. Gives the message's position.
pub(crate) fn begin(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32) -> usize {
    let at = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(&flags.to_ne_bytes());
    buffer.extend_from_slice(&sequence.to_ne_bytes());
    buffer.extend_from_slice(&[0; 4]);
    at
}

/// Fills in the length of the message that begins at `at`.
pub(crate) fn finish(buffer: &mut Vec<u8>, at: usize) {
    buffer.resize(buffer.len().next_multiple_of(4), 0);
    let length = u32::try_from(buffer.len() - at).expect("a message is shorter than 4 GiB");
    buffer[at..at + 4].copy_from_slice(&length.to_ne_bytes());
}

/// The refusal in an error message; `None` is an acknowledgement.
pub(crate) fn refusal(message: &Message<'_>) -> Option<Refusal> {
    let code = message.body.first_chunk::<4>().map(|c| i32::from_ne_bytes(*c)).unwrap_or(-71);
    if code == 0 {
        return None;
    }
    let mut refusal = Refusal { errno: Errno::from_raw_os_error(-code), text: None, offset: None };
    if message.flags & NLM_F_ACK_TLVS != 0 {
        // the request's header, and its body unless capped, stand between
        let request = message.body.get(4..).unwrap_or_default();
        let skip = match request.first_chunk::<4>() {
            Some(_) if message.flags & NLM_F_CAPPED != 0 => HEADER_BYTES,
            Some(length) => (u32::from_ne_bytes(*length) as usize).next_multiple_of(4),
            None => 0,
        };
        for (kind, value) in attributes(request.get(skip..).unwrap_or_default()) {
            match kind {
                NLMSGERR_ATTR_MSG => {
                    let text = value.strip_suffix(&[0]).unwrap_or(value);
                    refusal.text = Some(String::from_utf8_lossy(text).into_owned());
                }
                NLMSGERR_ATTR_OFFS => refusal.offset = value.first_chunk().map(|v| u32::from_ne_bytes(*v)),
                _ => {}
            }
        }
    }
    Some(refusal)
}

/// A socket of one netlink family, in the network namespace of the thread that opened it.
pub(crate) struct Socket {
    raw: RawSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

impl Socket {
    pub(crate) fn open(protocol: isize) -> Result<Socket, NetlinkError> {
        let open = || {
            let mut raw = RawSocket::new(protocol)?;
            raw.bind_auto()?;
            raw.connect(&SocketAddr::new(0, 0))?;
            raw.set_ext_ack(true)?;
            raw.set_cap_ack(true)?;
            sockopt::set_socket_timeout(&raw, sockopt::Timeout::Recv, Some(ANSWER_LIMIT))?;
            Ok(raw)
        };
        let raw = open().map_err(|source| NetlinkError::Io { what: "open a socket".into(), source })?;
        Ok(Socket { raw, sequence: 0, buffer: Vec::new() })
    }

    /// A socket that only hears what the kernel tells these groups.
    pub(crate) fn listen(protocol: isize, groups: &[u32]) -> Result<Socket, NetlinkError> {
        let open = || {
            let mut raw = RawSocket::new(protocol)?;
            raw.bind_auto()?;
            groups.iter().try_for_each(|group| raw.add_membership(*group))?;
            Ok(raw)
        };
        let raw = open().map_err(|source| NetlinkError::Io { what: "open a socket".into(), source })?;
        Ok(Socket { raw, sequence: 0, buffer: Vec::new() })
    }

    /// The number of the next message.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Makes room for a datagram of so many bytes, whatever the machine's limits.
    pub(crate) fn make_room(&self, bytes: usize) {
        if sockopt::socket_send_buffer_size(&self.raw).is_ok_and(|size| size < bytes * 2) {
            // where that is not allowed, the send itself will tell
            let _ = sockopt::set_socket_send_buffer_size_force(&self.raw, bytes);
        }
    }

    pub(crate) fn make_answer_room(&self, bytes: usize) {
        if sockopt::socket_recv_buffer_size(&self.raw).is_ok_and(|size| size < bytes) {
            let _ = sockopt::set_socket_recv_buffer_size_force(&self.raw, bytes);
        }
    }

    pub(crate) fn send(&self, bytes: &[u8], what: &str) -> Result<(), NetlinkError> {
        self.raw.send(bytes, 0).map(drop).map_err(|source| NetlinkError::Io { what: what.to_owned(), source })
    }

    /// The next datagram, as long as it is.
    pub(crate) fn receive(&mut self, what: &str) -> Result<&[u8], NetlinkError> {
        let fail = |source| NetlinkError::Io { what: what.to_owned(), source };
        // dumps come in datagrams of up to 32 kB
        self.buffer.clear();
        self.buffer.reserve(32 * 1024);
        let flags = rustix::net::RecvFlags::TRUNC | rustix::net::RecvFlags::PEEK;
        let length = loop {
            match rustix::net::recv(&self.raw, &mut [0u8; 0][..], flags) {
                Err(Errno::INTR) => {}
                length => break length.map_err(|e| fail(e.into()))?.1,
            }
        };
        self.buffer.reserve(length);
        self.raw.recv(&mut self.buffer, 0).map_err(fail)?;
        Ok(&self.buffer)
    }

    /// Like [`Socket::receive`], but `None` where nothing is waiting.
    pub(crate) fn receive_waiting(&mut self, what: &str) -> Result<Option<&[u8]>, NetlinkError> {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.raw, &mut [0u8; 0][..], flags) {
            Err(Errno::AGAIN) => Ok(None),
            // told once, and by this call; what is waiting stays
            Err(error @ Errno::NOBUFS) => {
                Err(NetlinkError::Io { what: what.to_owned(), source: error.into() })
            }
            _ => self.receive(what).map(Some),
        }
    }

    /// Sends one message and waits for its acknowledgement. `body` is written by the caller.
    pub(crate) fn request(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), NetlinkError> {
        self.transact(what, kind, flags | NLM_F_ACK, write, |_, _| Ok(()))
    }

    /// Sends one message and gives each message of the answer to `read`. Repeats a dump that a change interrupted;
    /// `reset` is called before.
    pub(crate) fn dump<T>(
        &mut self,
        what: &str,
        kind: u16,
        write: impl Fn(&mut Vec<u8>),
        mut read: impl FnMut(u16, &[u8]) -> Result<Option<T>, String>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..16 {
            let mut found = Vec::new();
            let done = self.transact(what, kind, NLM_F_DUMP, &write, |kind, body| {
                found.extend(read(kind, body)?);
                Ok(())
            });
            match done {
                Err(NetlinkError::Io { source, .. }) if source.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(|()| found),
            }
        }
        let source = io::Error::other("the table changed during each of 16 tries to read it");
        Err(NetlinkError::Io { what: what.to_owned(), source })
    }

    /// One request and its answer: messages for `read`, until the acknowledgement, the end of the dump, or, for a
    /// request with neither, the first message.
    pub(crate) fn transact(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        write: impl FnOnce(&mut Vec<u8>),
        mut read: impl FnMut(u16, &[u8]) -> Result<(), String>,
    ) -> Result<(), NetlinkError> {
        let sequence = self.next_sequence();
        let mut request = Vec::with_capacity(256);
        let at = begin(&mut request, kind, flags | NLM_F_REQUEST, sequence);
        write(&mut request);
        finish(&mut request, at);
        self.send(&request, what)?;
        let mut interrupted = false;
        loop {
            let datagram = self.receive(what)?;
            for message in messages(datagram).filter(|m| m.sequence == sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        if let Some(source) = refusal(&message).filter(|r| r.errno.raw_os_error() > 0) {
                            return Err(NetlinkError::Refused { what: what.to_owned(), source });
                        }
                        if interrupted {
                            let source = io::ErrorKind::Interrupted.into();
                            return Err(NetlinkError::Io { what: what.to_owned(), source });
                        }
                        return Ok(());
                    }
                    kind => {
                        read(kind, message.body)
                            .map_err(|reason| NetlinkError::Answer { what: what.to_owned(), reason })?;
                        if message.flags & NLM_F_MULTI == 0 && flags & NLM_F_ACK == 0 {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }
}
