//! nf_tables: one [`Batch`] of changes to a table is one atomic transaction; [`Nft`] commits it and reads back.
//!
//! ```text
//! Batch: begin [generation] · table · chains · sets and maps · rules · elements · end  ──commit──> all or nothing
//! ```
//! The message layout is that of `linux/netfilter/nf_tables.h`. What is written here, `nft list ruleset` can read.

mod batch;
mod element;
mod expr;
mod read;

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::netns;
use crate::socket::{NetlinkError, Refusal, Socket, messages, refusal};

pub use batch::{Base, Batch, Hook, Set, Verdict};
pub use element::{Data, Element, key};
pub use expr::{Cmp, Ct, Header, Meta, Rule, TypeId};
pub use read::{FoundElement, FoundRule, FoundSet};

/// `NETLINK_NETFILTER`.
pub(crate) const PROTOCOL: isize = 12;
const NLMSG_ERROR: u16 = 2;
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

/// A conversation with nf_tables of one network namespace.
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// For the network namespace of the calling thread.
    pub fn open() -> Result<Nft, NetlinkError> {
        Ok(Nft { socket: Socket::open(PROTOCOL)? })
    }

    /// For another network namespace; may be used from any thread.
    pub fn open_in(netns: impl AsFd) -> Result<Nft, NetlinkError> {
        let what = || "enter a network namespace".to_owned();
        netns::enter(netns, Nft::open).map_err(|source| NetlinkError::Io { what: what(), source })?
    }

    /// Removes a table with all there is in it; one that is not there is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_table(&mut self, family: Family, table: &str) -> Result<(), NetlinkError> {
        if !self.has_table(family, table)? {
            return Ok(());
        }
        let mut batch = Batch::new(family, table);
        batch.delete_table();
        match self.commit(&batch) {
            // somebody was faster
            Err(error) if error.is_absent() => Ok(()),
            done => done,
        }
    }

    /// Makes all changes of a batch at once, or, with an error that names the object refused, none.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.bytes();
        self.socket.make_room(bytes.len());
        self.socket.make_answer_room(64 * batch.len());
        self.socket.send(&bytes, "commit an nf_tables transaction")?;
        // the kernel has worked it off when `send` returns: all it has to say is waiting
        let (mut done, mut first) = (false, None);
        while let Some(datagram) = self.socket.receive_waiting("commit an nf_tables transaction")? {
            for message in messages(datagram).filter(|m| m.kind == NLMSG_ERROR) {
                match refusal(&message) {
                    None => done |= message.sequence == batch.last(),
                    Some(source) => {
                        let what = batch.object(message.sequence);
                        first.get_or_insert(NetlinkError::Refused { what, source });
                    }
                }
            }
        }
        let lost = || NetlinkError::Refused {
            what: "commit an nf_tables transaction".into(),
            source: Refusal { errno: Errno::IO, text: Some("no acknowledgement".into()), offset: None },
        };
        match first {
            Some(error) => Err(error),
            None if done => Ok(()),
            None => Err(lost()),
        }
    }
}

#[cfg(test)]
mod tests;
