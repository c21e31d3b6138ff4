//! DNS messages (RFC 1035, EDNS0 of RFC 6891): questions are read, answers written, and what upstream servers answer is
//! passed on as bytes with its times to live counted down. Pure; any bytes are read without a panic.

mod passed;

use std::net::IpAddr;

use crate::name::{self, Name};

use passed::Found;
pub use passed::{NoAnswer, Passed};

const HEADER_BYTES: usize = 12;
/// What a client without EDNS can take over UDP.
const UDP_BYTES: u16 = 512;
/// What fits into a packet everywhere: the size that is offered and never exceeded over UDP.
pub const UDP_BYTES_MAX: u16 = 1232;
/// The flag of an answer that is not whole.
const TRUNCATED: u16 = 0x200;
const OPT: u16 = 41;
const IN: u16 = 1;

/// Types of records.
pub mod kind {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const ANY: u16 = 255;
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rcode {
    /// It has an answer, be it an empty one.
    NoError = 0,
    /// The question is no question.
    FormErr = 1,
    /// The server cannot tell now.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// The server does not do such a thing.
    NotImp = 4,
    /// The server does not want to.
    Refused = 5,
    /// The client's EDNS is of a version to come.
    BadVers = 16,
}

/// What a client's EDNS says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// What it can take over UDP, in bytes.
    pub size: u16,
    /// It wants DNSSEC's records.
    pub dnssec: bool,
    version: u8,
}

/// A question as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// To be repeated in the answer.
    pub id: u16,
    /// Find out what is not known here.
    pub recursion: bool,
    /// Do not check signatures.
    pub unchecked: bool,
    /// The name asked for.
    pub name: Name,
    /// The type of record.
    pub kind: u16,
    /// The client's EDNS.
    pub edns: Option<Edns>,
    /// The question as it stood in the message, letters as they were.
    question: Vec<u8>,
}

/// Why there is no question to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Say nothing: it is no question at all, or an answer.
    Silent,
    /// Say so, with this message.
    Refuse(Rcode, Vec<u8>),
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

impl Query {
    /// Reads a client's message.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn read(message: &[u8]) -> Result<Query, Unreadable> {
        let (Some(id), Some(flags), true) =
            (u16_at(message, 0), u16_at(message, 2), message.len() >= HEADER_BYTES)
        else {
            return Err(Unreadable::Silent);
        };
        if flags & 0x8000 != 0 {
            return Err(Unreadable::Silent);
        }
        let refuse = |rcode: Rcode| {
            let flags = 0x8000 | flags & 0x7900 | rcode as u16;
            let header = [id, flags, 0, 0, 0, 0].map(u16::to_be_bytes).concat();
            Err(Unreadable::Refuse(rcode, header))
        };
        if flags & 0x7800 != 0 {
            return refuse(Rcode::NotImp);
        }
        let Some(mut query) = Query::body(message) else { return refuse(Rcode::FormErr) };
        let class = u16_at(&query.question, query.question.len() - 2);
        (query.id, query.recursion, query.unchecked) = (id, flags & 0x100 != 0, flags & 0x10 != 0);
        if query.edns.is_some_and(|edns| edns.version > 0) {
            return Err(Unreadable::Refuse(Rcode::BadVers, query.refusal(Rcode::BadVers)));
        }
        match class {
            Some(IN) => Ok(query),
            _ => Err(Unreadable::Refuse(Rcode::Refused, query.refusal(Rcode::Refused))),
        }
    }

    fn body(message: &[u8]) -> Option<Query> {
        let counts = [4, 6, 8, 10].map(|at| u16_at(message, at).unwrap_or(0));
        let [1, 0, 0, extra] = counts else { return None };
        let (name, after) = name::read(message, HEADER_BYTES)?;
        let kind = u16_at(message, after)?;
        let question = message.get(HEADER_BYTES..after + 4)?.to_vec();
        // a question stands first: it points nowhere
        if question.len() != name.wire().len() + 4 {
            return None;
        }
        let mut edns = None;
        let mut at = after + 4;
        for _ in 0..extra {
            let record = Found::read(message, at)?;
            if record.kind == OPT {
                let [_, version, flags, _] = record.ttl.to_be_bytes();
                let twice = edns.replace(Edns { size: record.class, dnssec: flags & 0x80 != 0, version });
                if twice.is_some() || record.name != Name::root() {
                    return None;
                }
            }
            at = record.end;
        }
        Some(Query { id: 0, recursion: false, unchecked: false, name, kind, edns, question })
    }

    /// A question of our own.
    #[must_use]
    pub fn new(id: u16, name: &Name, kind: u16, dnssec: bool, unchecked: bool) -> Query {
        let question = [name.wire(), &kind.to_be_bytes(), &IN.to_be_bytes()].concat();
        let edns = Some(Edns { size: UDP_BYTES_MAX, dnssec, version: 0 });
        Query { id, recursion: true, unchecked, name: name.clone(), kind, edns, question }
    }

    /// As a message.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let flags = u16::from(self.recursion) << 8 | u16::from(self.unchecked) << 4;
        let extra = u16::from(self.edns.is_some());
        let mut message = [self.id, flags, 1, 0, 0, extra].map(u16::to_be_bytes).concat();
        message.extend_from_slice(&self.question);
        if let Some(edns) = self.edns {
            opt(&mut message, edns.dnssec, Rcode::NoError);
        }
        message
    }

    /// How long an answer over UDP may be.
    #[must_use]
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_BYTES, |edns| edns.size.clamp(UDP_BYTES, UDP_BYTES_MAX)).into()
    }

    /// An answer without records.
    #[must_use]
    pub fn refusal(&self, rcode: Rcode) -> Vec<u8> {
        Reply { rcode, ..Reply::default() }.write(self, usize::MAX)
    }

    fn header(&self, message: &mut Vec<u8>, flags: u16, rcode: Rcode) {
        let asked = u16::from(self.recursion) << 8 | u16::from(self.unchecked) << 4;
        // recursion is available
        let flags = 0x8080 | asked | flags | rcode as u16 & 0xf;
        message.extend([self.id, flags, 1, 0, 0, 0].map(u16::to_be_bytes).concat());
        message.extend_from_slice(&self.question);
    }

    fn finish(&self, message: &mut Vec<u8>, mut counts: [u16; 3], rcode: Rcode) {
        if let Some(edns) = self.edns {
            opt(message, edns.dnssec, rcode);
            counts[2] += 1;
        }
        for (at, count) in [6, 8, 10].into_iter().zip(counts) {
            message[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
    }
}

fn opt(message: &mut Vec<u8>, dnssec: bool, rcode: Rcode) {
    message.push(0);
    let flags = [(rcode as u16 >> 4).to_be_bytes()[1], 0, u8::from(dnssec) << 7, 0];
    message.extend([OPT, UDP_BYTES_MAX].map(u16::to_be_bytes).concat());
    message.extend(flags);
    message.extend([0, 0]);
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// A or AAAA.
    Ip(IpAddr),
    /// Another name for it.
    Cname(Name),
    /// The name of an address.
    Ptr(Name),
    /// A name server.
    Ns(Name),
    /// Priority, weight, port, host.
    Srv(u16, u16, u16, Name),
    /// Text of at most 255 bytes.
    Txt(String),
    /// Name server, mailbox of the responsible, serial number, and for how many seconds "no such name" holds.
    Soa(Name, Name, u32, u32),
}

impl Data {
    /// The type of the record.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Data::Ip(IpAddr::V4(_)) => kind::A,
            Data::Ip(IpAddr::V6(_)) => kind::AAAA,
            Data::Cname(_) => kind::CNAME,
            Data::Ptr(_) => kind::PTR,
            Data::Ns(_) => kind::NS,
            Data::Srv(..) => kind::SRV,
            Data::Txt(_) => kind::TXT,
            Data::Soa(..) => kind::SOA,
        }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Of what.
    pub name: Name,
    /// For how many seconds it may be remembered.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// An answer of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub rcode: Rcode,
    /// Whether this server is the one that knows.
    pub authoritative: bool,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// Who knows; with an empty answer, for how long that holds.
    pub authority: Vec<Record>,
    /// What will be asked for next.
    pub extra: Vec<Record>,
}

impl Default for Reply {
    fn default() -> Reply {
        Reply {
            rcode: Rcode::NoError,
            authoritative: false,
            answers: Vec::new(),
            authority: Vec::new(),
            extra: Vec::new(),
        }
    }
}

impl Reply {
    /// As a message of at most `limit` bytes. Of answers and extra records as many as fit; where answers are missing
    /// it says to ask over TCP. What fits is for clients that never do. Who knows is told whole or not at all.
    #[must_use]
    pub fn write(&self, query: &Query, limit: usize) -> Vec<u8> {
        let limit = limit.min(usize::from(u16::MAX));
        let room = limit.saturating_sub(if query.edns.is_some() { 11 } else { 0 });
        let mut writer = Writer { message: Vec::with_capacity(256), suffixes: Vec::new() };
        query.header(&mut writer.message, u16::from(self.authoritative) << 10, self.rcode);
        writer.remember(&query.name, HEADER_BYTES);
        let mut counts = [0; 3];
        'sections: for (section, records) in
            [&self.answers, &self.authority, &self.extra].into_iter().enumerate()
        {
            let begin = writer.message.len();
            for record in records {
                let before = writer.message.len();
                writer.record(record);
                if writer.message.len() > room {
                    if section == 1 {
                        counts[1] = 0;
                    }
                    // nothing is written after this: what the cut names are remembered by is never used
                    writer.message.truncate(if section == 1 { begin } else { before });
                    let missing = section == 0 || section == 1 && counts[0] == 0;
                    writer.message[2] |= if missing { TRUNCATED.to_be_bytes()[0] } else { 0 };
                    break 'sections;
                }
                counts[section] += 1;
            }
        }
        query.finish(&mut writer.message, counts, self.rcode);
        writer.message
    }
}

/// A message being written. Names that end as one before point there.
struct Writer {
    message: Vec<u8>,
    /// Ends of names, and where they stand.
    suffixes: Vec<(Vec<u8>, u16)>,
}

impl Writer {
    fn record(&mut self, record: &Record) {
        self.name(&record.name);
        self.u16s(&[record.data.kind(), IN]);
        self.message.extend(record.ttl.to_be_bytes());
        let at = self.message.len();
        self.u16s(&[0]);
        match &record.data {
            Data::Ip(IpAddr::V4(ip)) => self.message.extend(ip.octets()),
            Data::Ip(IpAddr::V6(ip)) => self.message.extend(ip.octets()),
            Data::Cname(name) | Data::Ptr(name) | Data::Ns(name) => self.name(name),
            Data::Srv(priority, weight, port, host) => {
                self.u16s(&[*priority, *weight, *port]);
                // RFC 2782: not compressed
                self.message.extend_from_slice(host.wire());
            }
            Data::Txt(text) => {
                let text = &text.as_bytes()[..text.len().min(255)];
                self.message.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.message.extend_from_slice(text);
            }
            Data::Soa(server, mailbox, serial, negative) => {
                self.name(server);
                self.name(mailbox);
                for number in [*serial, 7200, 1800, 86400, *negative] {
                    self.message.extend(number.to_be_bytes());
                }
            }
        }
        let length = u16::try_from(self.message.len() - at - 2).expect("a record is shorter than 64 kB");
        self.message[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }

    fn u16s(&mut self, numbers: &[u16]) {
        numbers.iter().for_each(|number| self.message.extend(number.to_be_bytes()));
    }

    fn name(&mut self, name: &Name) {
        let wire = name.wire();
        let mut at = 0;
        while wire[at] != 0 {
            if let Some((_, target)) = self.suffixes.iter().find(|(suffix, _)| suffix == &wire[at..]) {
                let pointer = (0xc000 | target).to_be_bytes();
                self.remember_until(name, self.message.len(), at);
                self.message.extend_from_slice(&wire[..at]);
                self.message.extend(pointer);
                return;
            }
            at += 1 + usize::from(wire[at]);
        }
        self.remember(name, self.message.len());
        self.message.extend_from_slice(wire);
    }

    fn remember(&mut self, name: &Name, place: usize) {
        self.remember_until(name, place, name.wire().len() - 1);
    }

    /// Remembers the ends of a name that begin before `end` within it.
    fn remember_until(&mut self, name: &Name, place: usize, end: usize) {
        let wire = name.wire();
        let mut at = 0;
        while at < end {
            if let Ok(place) = u16::try_from(place + at)
                && place < 0x4000
            {
                self.suffixes.push((wire[at..].to_vec(), place));
            }
            at += 1 + usize::from(wire[at]);
        }
    }
}

#[cfg(test)]
mod tests;
