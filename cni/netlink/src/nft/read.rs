//! Reading back: what a table holds.

use rustix::io::Errno;

use super::batch::{GETGEN, GETRULE, GETSETELEM, GETTABLE, NEWRULE, NEWSETELEM, NEWTABLE, header};
use super::{Family, Nft, SUBSYSTEM};
use crate::attr::put_str;
use crate::socket::{NLM_F_ACK, NetlinkError, attributes};

/// `struct nfgenmsg`.
const HEADER_BYTES: usize = 4;

/// A rule as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRule {
    /// The chain it is in.
    pub chain: String,
    /// Its number in its table.
    pub handle: u64,
    /// Its comment.
    pub comment: String,
}

/// An element of a set or map as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundElement {
    /// Its key.
    pub key: Vec<u8>,
    /// A map's value; empty for sets and verdict maps.
    pub value: Vec<u8>,
    /// A verdict map's chain.
    pub chain: Option<String>,
    /// Its comment.
    pub comment: String,
}

impl Nft {
    /// The table is there.
    pub fn has_table(&mut self, family: Family, table: &str) -> Result<bool, NetlinkError> {
        let what = format!("look up nf_tables table {table}");
        let mut found = false;
        let done = self.socket.transact(
            &what,
            SUBSYSTEM << 8 | GETTABLE,
            NLM_F_ACK,
            |b| {
                header(b, family);
                put_str(b, 1, table);
            },
            |kind, _| {
                found |= kind == SUBSYSTEM << 8 | NEWTABLE;
                Ok(())
            },
        );
        match done {
            Err(e) if e.errno() == Some(Errno::NOENT) => Ok(false),
            done => done.map(|()| found),
        }
    }

    /// The number of the last transaction in this network namespace.
    pub fn generation(&mut self) -> Result<u32, NetlinkError> {
        let mut generation = None;
        self.socket.transact(
            "read the nf_tables generation",
            SUBSYSTEM << 8 | GETGEN,
            NLM_F_ACK,
            |b| b.extend_from_slice(&[0; HEADER_BYTES]),
            |_, body| {
                let id =
                    attributes(body.get(HEADER_BYTES..).unwrap_or_default()).find(|(kind, _)| *kind == 1);
                generation = id.and_then(|(_, value)| value.first_chunk().map(|v| u32::from_be_bytes(*v)));
                Ok(())
            },
        )?;
        generation.ok_or_else(|| NetlinkError::Answer {
            what: "read the nf_tables generation".into(),
            reason: "it has no NFTA_GEN_ID".into(),
        })
    }

    /// The rules of a table, chain by chain, each in order; none where there is no such table.
    pub fn rules(&mut self, family: Family, table: &str) -> Result<Vec<FoundRule>, NetlinkError> {
        let what = format!("list the rules of nf_tables table {table}");
        let write = |b: &mut Vec<u8>| {
            header(b, family);
            put_str(b, 1, table);
        };
        let found = self.socket.dump(&what, SUBSYSTEM << 8 | GETRULE, write, |kind, body| {
            if kind != SUBSYSTEM << 8 | NEWRULE {
                return Ok(None);
            }
            let mut rule = FoundRule { chain: String::new(), handle: 0, comment: String::new() };
            for (kind, value) in attributes(body.get(HEADER_BYTES..).unwrap_or_default()) {
                match kind {
                    2 => rule.chain = text(value),
                    3 => {
                        rule.handle = value.first_chunk().map(|v| u64::from_be_bytes(*v)).unwrap_or_default()
                    }
                    7 => rule.comment = comment(value),
                    _ => {}
                }
            }
            Ok(Some(rule))
        });
        absent_is_empty(found)
    }

    /// The elements of a set or map; none where there is no such set or table.
    pub fn elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> Result<Vec<FoundElement>, NetlinkError> {
        let what = format!("list the elements of set {set} in nf_tables table {table}");
        let write = |b: &mut Vec<u8>| {
            header(b, family);
            put_str(b, 1, table);
            put_str(b, 2, set);
        };
        let found = self.socket.dump(&what, SUBSYSTEM << 8 | GETSETELEM, write, |kind, body| {
            if kind != SUBSYSTEM << 8 | NEWSETELEM {
                return Ok(None);
            }
            let list =
                attributes(body.get(HEADER_BYTES..).unwrap_or_default()).filter(|(kind, _)| *kind == 3);
            Ok(Some(list.flat_map(|(_, list)| attributes(list)).map(|(_, e)| element(e)).collect::<Vec<_>>()))
        });
        Ok(absent_is_empty(found)?.into_iter().flatten().collect())
    }
}

fn absent_is_empty<T>(found: Result<Vec<T>, NetlinkError>) -> Result<Vec<T>, NetlinkError> {
    match found {
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(Vec::new()),
        found => found,
    }
}

fn element(bytes: &[u8]) -> FoundElement {
    let mut found = FoundElement { key: Vec::new(), value: Vec::new(), chain: None, comment: String::new() };
    for (kind, value) in attributes(bytes) {
        match kind {
            1 => found.key = inner(value, 1).unwrap_or_default().to_vec(),
            2 => {
                found.value = inner(value, 1).unwrap_or_default().to_vec();
                let chain = inner(value, 2).and_then(|verdict| inner(verdict, 2));
                found.chain = chain.map(text);
            }
            6 => found.comment = comment(value),
            _ => {}
        }
    }
    found
}

fn inner(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// The comment in libnftnl's user data: type, length, value, one after the other.
fn comment(mut data: &[u8]) -> String {
    while let [kind, length, rest @ ..] = data {
        let (value, rest) = rest.split_at(rest.len().min((*length).into()));
        if *kind == 0 {
            return text(value);
        }
        data = rest;
    }
    String::new()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}
