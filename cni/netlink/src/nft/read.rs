//! Reading back: what a table holds.

use rustix::io::Errno;

use super::batch::{
    GETCHAIN, GETGEN, GETRULE, GETSET, GETSETELEM, GETTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWTABLE,
    header,
};
use super::{Family, Nft, SUBSYSTEM, Verdict};
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

/// A set or map as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSet {
    /// Its name.
    pub name: String,
    /// `NFT_SET_*`.
    pub flags: u32,
    /// Number of the key's type, and the key's length in bytes.
    pub key: (u32, u32),
    /// The same of a map's data; zero for sets.
    pub data: (u32, u32),
}

/// An element of a set or map as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundElement {
    /// Its key.
    pub key: Vec<u8>,
    /// For an interval of a concatenated key: the last key that belongs to it.
    pub last: Option<Vec<u8>>,
    /// In a set of intervals of single keys: this key is the first after one.
    pub is_end: bool,
    /// A map's value; empty for sets and verdict maps.
    pub value: Vec<u8>,
    /// A verdict map's chain.
    pub chain: Option<String>,
    /// A verdict map's verdict.
    pub verdict: Option<Verdict>,
    /// Its comment.
    pub comment: String,
}

impl Nft {
    /// The names of all tables, of whatever family.
    pub fn tables(&mut self) -> Result<Vec<String>, NetlinkError> {
        // NFPROTO_UNSPEC: of all families.
        let write = |b: &mut Vec<u8>| b.extend_from_slice(&[0; HEADER_BYTES]);
        let found =
            self.socket.dump("list the nf_tables tables", SUBSYSTEM << 8 | GETTABLE, write, |kind, body| {
                let body = body.get(HEADER_BYTES..).unwrap_or_default();
                Ok((kind == SUBSYSTEM << 8 | NEWTABLE).then(|| inner(body, 1).map(text)).flatten())
            });
        absent_is_empty(found)
    }

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

    /// The number the kernel gave the table when it was made; `None` where there is no such table.
    pub fn table_handle(&mut self, family: Family, table: &str) -> Result<Option<u64>, NetlinkError> {
        let what = format!("look up nf_tables table {table}");
        let mut found = None;
        let write = |b: &mut Vec<u8>| {
            header(b, family);
            put_str(b, 1, table);
        };
        let done = self.socket.transact(&what, SUBSYSTEM << 8 | GETTABLE, NLM_F_ACK, write, |_, body| {
            found = inner(body.get(HEADER_BYTES..).unwrap_or_default(), 4).map(number64);
            Ok(())
        });
        match done {
            Err(e) if e.errno() == Some(Errno::NOENT) => Ok(None),
            done => done.map(|()| found),
        }
    }

    /// The names of a table's chains.
    pub fn chains(&mut self, family: Family, table: &str) -> Result<Vec<String>, NetlinkError> {
        let what = format!("list the chains of nf_tables table {table}");
        let write = |b: &mut Vec<u8>| header(b, family);
        let found = self.socket.dump(&what, SUBSYSTEM << 8 | GETCHAIN, write, |kind, body| {
            let body = body.get(HEADER_BYTES..).unwrap_or_default();
            let ours =
                kind == SUBSYSTEM << 8 | NEWCHAIN && inner(body, 1).map(text).as_deref() == Some(table);
            Ok(ours.then(|| inner(body, 3).map(text)).flatten())
        });
        absent_is_empty(found)
    }

    /// The sets and maps of a table, without their elements.
    pub fn sets(&mut self, family: Family, table: &str) -> Result<Vec<FoundSet>, NetlinkError> {
        let what = format!("list the sets of nf_tables table {table}");
        let write = |b: &mut Vec<u8>| {
            header(b, family);
            put_str(b, 1, table);
        };
        let found = self.socket.dump(&what, SUBSYSTEM << 8 | GETSET, write, |kind, body| {
            if kind != SUBSYSTEM << 8 | NEWSET {
                return Ok(None);
            }
            let mut set = FoundSet { name: String::new(), flags: 0, key: (0, 0), data: (0, 0) };
            for (kind, value) in attributes(body.get(HEADER_BYTES..).unwrap_or_default()) {
                match kind {
                    2 => set.name = text(value),
                    3 => set.flags = number(value),
                    4 => set.key.0 = number(value),
                    5 => set.key.1 = number(value),
                    6 => set.data.0 = number(value),
                    7 => set.data.1 = number(value),
                    _ => {}
                }
            }
            Ok(Some(set))
        });
        absent_is_empty(found)
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
                    3 => rule.handle = number64(value),
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
    let mut found = FoundElement {
        key: Vec::new(),
        last: None,
        is_end: false,
        value: Vec::new(),
        chain: None,
        verdict: None,
        comment: String::new(),
    };
    for (kind, value) in attributes(bytes) {
        match kind {
            1 => found.key = inner(value, 1).unwrap_or_default().to_vec(),
            2 => {
                found.value = inner(value, 1).unwrap_or_default().to_vec();
                if let Some(verdict) = inner(value, 2) {
                    found.chain = inner(verdict, 2).map(text);
                    let code = inner(verdict, 1).map(number).unwrap_or_default().cast_signed();
                    found.verdict = Verdict::read(code, found.chain.clone());
                }
            }
            3 => found.is_end = number(value) & 1 != 0,
            10 => found.last = inner(value, 1).map(<[u8]>::to_vec),
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

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map(|v| u32::from_be_bytes(*v)).unwrap_or_default()
}

fn number64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map(|v| u64::from_be_bytes(*v)).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}
