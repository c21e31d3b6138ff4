//! What upstream servers have answered, for as long as they allow, and longer while they do not answer. Pure: time comes
//! from the caller.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::message::{Passed, Query};
use crate::name::Name;

/// For how long at most an answer is fresh, in seconds, whatever it says.
const FRESH_MAX: u32 = 3600;
/// The same for "no such name".
const FRESH_MAX_DENIAL: u32 = 1800;
/// For how long an answer is kept to be given while no upstream server answers.
const STALE_MAX: Duration = Duration::from_secs(3600);
/// What an entry takes beside its message and its name, in bytes.
const ENTRY_BYTES: usize = 200;

/// What answers to two questions have to have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    name: Name,
    kind: u16,
    dnssec: bool,
    unchecked: bool,
}

impl Key {
    /// Of a question.
    #[must_use]
    pub fn of(query: &Query) -> Key {
        Key::named(query, query.name.clone())
    }

    /// Of the same question about another name.
    #[must_use]
    pub fn named(query: &Query, name: Name) -> Key {
        Key {
            name,
            kind: query.kind,
            dnssec: query.edns.is_some_and(|edns| edns.dnssec),
            unchecked: query.unchecked,
        }
    }

    /// The name asked for.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The question to ask an upstream server.
    #[must_use]
    pub fn query(&self, id: u16) -> Query {
        Query::new(id, &self.name, self.kind, self.dnssec, self.unchecked)
    }
}

/// An answer and when it came.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The answer.
    pub passed: Arc<Passed>,
    /// When it came.
    pub at: Instant,
}

impl Entry {
    /// Seconds since it came.
    #[must_use]
    pub fn age(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.at).as_secs()).unwrap_or(u32::MAX)
    }

    /// Whether it still holds.
    #[must_use]
    pub fn is_fresh(&self, now: Instant) -> bool {
        let max = if self.passed.rcode == 0 { FRESH_MAX } else { FRESH_MAX_DENIAL };
        self.age(now) < self.passed.ttl.min(max)
    }
}

/// At most so many bytes of answers. Two generations: when the young one is full it becomes the old one, and what
/// nobody has asked for since the last time is forgotten.
#[derive(Debug)]
pub struct Cache {
    bytes_max: usize,
    young: HashMap<Key, Entry>,
    young_bytes: usize,
    old: HashMap<Key, Entry>,
}

impl Cache {
    /// An empty one.
    #[must_use]
    pub fn new(bytes_max: usize) -> Cache {
        Cache { bytes_max, young: HashMap::new(), young_bytes: 0, old: HashMap::new() }
    }

    /// How many answers it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known, be it fresh or stale.
    pub fn get(&mut self, key: &Key, now: Instant) -> Option<Entry> {
        let entry = match self.young.get(key) {
            Some(entry) => entry.clone(),
            None => {
                let (key, entry) = self.old.remove_entry(key)?;
                self.insert(key, entry.clone());
                entry
            }
        };
        (now.saturating_duration_since(entry.at) < STALE_MAX).then_some(entry)
    }

    /// Remembers an answer that may be remembered.
    pub fn put(&mut self, key: Key, entry: Entry) {
        // NoError and NxDomain; failures are asked again
        if entry.passed.ttl > 0 && matches!(entry.passed.rcode, 0 | 3) {
            self.old.remove(&key);
            self.insert(key, entry);
        }
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        let bytes = |key: &Key, entry: &Entry| entry.passed.bytes() + key.name.wire().len() + ENTRY_BYTES;
        let new = bytes(&key, &entry);
        if self.young_bytes + new > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += new;
        if let Some(before) = self.young.insert(key.clone(), entry) {
            self.young_bytes = self.young_bytes.saturating_sub(bytes(&key, &before));
        }
    }
}
