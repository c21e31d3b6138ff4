//! What upstream servers answer, passed on as bytes.

use super::{Data, HEADER_BYTES, OPT, Query, Rcode, Record, TRUNCATED, kind, u16_at, u32_at};
use crate::name::{self, Name};

/// A record as it stands in a message.
pub(super) struct Found {
    pub(super) name: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    /// Where the time to live stands.
    pub(super) ttl_at: usize,
    /// Where its data stands.
    pub(super) data: std::ops::Range<usize>,
    pub(super) end: usize,
}

impl Found {
    pub(super) fn read(message: &[u8], at: usize) -> Option<Found> {
        let (name, at) = name::read(message, at)?;
        let length = usize::from(u16_at(message, at + 8)?);
        let end = at + 10 + length;
        message.get(..end)?;
        Some(Found {
            name,
            kind: u16_at(message, at)?,
            class: u16_at(message, at + 2)?,
            ttl: u32_at(message, at + 4)?,
            ttl_at: at + 4,
            data: at + 10..end,
            end,
        })
    }
}

/// What an upstream server answered, ready to be passed on to whoever asks the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Header, question and records, without EDNS.
    message: Box<[u8]>,
    /// Where times to live stand.
    ttls: Box<[u16]>,
    /// For how many seconds all of it may be remembered.
    pub ttl: u32,
    /// How it ended.
    pub rcode: u8,
}

/// Why an upstream server's message is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Not to this question; wait on.
    Other,
    /// It does not fit into UDP.
    Truncated,
}

impl Passed {
    /// Reads an answer to `query`.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn read(query: &Query, message: &[u8]) -> Result<Passed, NoAnswer> {
        let flags = u16_at(message, 2).ok_or(NoAnswer::Other)?;
        let same = u16_at(message, 0) == Some(query.id) && flags & 0xf800 == 0x8000;
        let body = HEADER_BYTES + query.question.len();
        let question = message.get(HEADER_BYTES..body).ok_or(NoAnswer::Other)?;
        let counts = [4, 6, 8, 10].map(|at| u16_at(message, at).unwrap_or(0));
        if !same || counts[0] != 1 || !question.eq_ignore_ascii_case(&query.question) {
            return Err(NoAnswer::Other);
        }
        if flags & TRUNCATED != 0 {
            return Err(NoAnswer::Truncated);
        }
        let rcode = flags & 0xf;
        Passed::records(query, message, counts, u8::try_from(rcode).unwrap_or(2)).ok_or(NoAnswer::Other)
    }

    fn records(query: &Query, message: &[u8], counts: [u16; 4], rcode: u8) -> Option<Passed> {
        let mut kept = message[..HEADER_BYTES + query.question.len()].to_vec();
        let (mut ttls, mut ttl, mut negative) = (Vec::new(), u32::MAX, None);
        let mut at = kept.len();
        let mut left = [0u16; 3];
        'sections: for (section, count) in counts[1..].iter().enumerate() {
            for _ in 0..*count {
                let found = Found::read(message, at)?;
                // records after EDNS's would stand elsewhere without it: they are only extra
                if found.kind == OPT {
                    break 'sections;
                }
                ttls.push(u16::try_from(found.ttl_at).ok()?);
                ttl = ttl.min(found.ttl);
                if found.kind == kind::SOA && section == 1 {
                    let minimum = u32_at(message, found.end.checked_sub(4)?)?;
                    negative = Some(found.ttl.min(minimum));
                }
                left[section] += 1;
                at = found.end;
            }
        }
        kept.extend_from_slice(message.get(kept.len()..at)?);
        for (at, count) in [6, 8, 10].into_iter().zip(left) {
            kept[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        // RFC 2308: what does not exist is remembered as its SOA says, and not without one
        let empty = left[0] == 0;
        let ttl = if empty { negative.unwrap_or(0).min(ttl) } else { ttl };
        Some(Passed { message: kept.into(), ttls: ttls.into(), ttl, rcode })
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.message.len() + 2 * self.ttls.len()
    }

    /// How much of it fits into so many bytes: where that ends, how many records of each section it has, and whether
    /// it is too little. Extra records go first, then who knows (RFC 2181, 9), each section whole; of answers as many as
    /// fit are kept.
    fn fit(&self, query: &Query, room: usize) -> (usize, [u16; 3], bool) {
        // behind the time to live stand the length of the data and the data
        let end = |ttl_at: u16| {
            let data = usize::from(ttl_at) + 6;
            data + usize::from(u16_at(&self.message, data - 2).unwrap_or(0))
        };
        let end_of = |records: u16| match self.ttls.get(usize::from(records).wrapping_sub(1)) {
            Some(ttl_at) => end(*ttl_at),
            None => HEADER_BYTES + query.question.len(),
        };
        let all = [6, 8, 10].map(|at| u16_at(&self.message, at).unwrap_or(0));
        // without an answer, authority says that there is none; signed, it may be part of the proof
        let needs_authority = all[1] > 0 && (all[0] == 0 || query.edns.is_some_and(|edns| edns.dnssec));
        for (counts, missing) in
            [(all, false), ([all[0], all[1], 0], false), ([all[0], 0, 0], needs_authority)]
        {
            let end = end_of(counts.iter().sum());
            if end <= room {
                return (end, counts, missing);
            }
        }
        let answers = self.ttls[..usize::from(all[0])].iter().take_while(|at| end(**at) <= room).count();
        let answers = u16::try_from(answers).unwrap_or(0);
        (end_of(answers), [answers, 0, 0], true)
    }

    /// As an answer to `query`, which asks the same, of at most `limit` bytes. `age`: seconds since it was read.
    /// `stale`: times to live are this many seconds whatever they were. Where answers are missing it says to ask over
    /// TCP; what fits is for clients that never do.
    #[must_use]
    pub fn write(&self, query: &Query, limit: usize, age: u32, stale: Option<u32>) -> Vec<u8> {
        let limit = limit.min(usize::from(u16::MAX));
        let room = limit.saturating_sub(if query.edns.is_some() { 11 } else { 0 });
        if HEADER_BYTES + query.question.len() > self.message.len() {
            return query.refusal(Rcode::ServFail);
        }
        let flags = u16_at(&self.message, 2).unwrap_or(0);
        // of upstream's flags, AD for those who asked for it, and how it ended; never AA
        let verified = if query.edns.is_some_and(|edns| edns.dnssec) { flags & 0x20 } else { 0 };
        let asked = u16::from(query.recursion) << 8 | u16::from(query.unchecked) << 4;
        let (end, counts, missing) = self.fit(query, room);
        let truncated = if missing { TRUNCATED } else { 0 };
        let flags = 0x8080 | truncated | asked | verified | flags & 0xf;
        let mut message = self.message[..end].to_vec();
        message[..2].copy_from_slice(&query.id.to_be_bytes());
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[HEADER_BYTES..HEADER_BYTES + query.question.len()].copy_from_slice(&query.question);
        let records = counts.iter().map(|count| usize::from(*count)).sum();
        for at in self.ttls.iter().take(records).map(|at| usize::from(*at)) {
            let ttl = u32_at(&message, at).unwrap_or(0);
            let ttl = stale.unwrap_or_else(|| ttl.saturating_sub(age));
            message[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        query.finish(&mut message, counts, Rcode::NoError);
        message
    }

    /// The records of its answer that are addresses and other names.
    #[must_use]
    pub fn answers(&self, age: u32) -> Vec<Record> {
        let count = u16_at(&self.message, 6).unwrap_or(0);
        let Some((_, after)) = name::read(&self.message, HEADER_BYTES) else { return Vec::new() };
        let mut at = after + 4;
        let mut records = Vec::new();
        for _ in 0..count {
            let Some(found) = Found::read(&self.message, at) else { break };
            at = found.end;
            let bytes = self.message.get(found.data.clone()).unwrap_or_default();
            let data = match found.kind {
                kind::A => <[u8; 4]>::try_from(bytes).ok().map(|b| Data::Ip(b.into())),
                kind::AAAA => <[u8; 16]>::try_from(bytes).ok().map(|b| Data::Ip(b.into())),
                kind::CNAME => name::read(&self.message, found.data.start).map(|(name, _)| Data::Cname(name)),
                _ => None,
            };
            let ttl = found.ttl.saturating_sub(age);
            records.extend(data.map(|data| Record { name: found.name, ttl, data }));
        }
        records
    }
}
