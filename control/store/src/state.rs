//! The pure state: what every key holds now, and what happened lately.
//!
//! The present is an ordered set of entries; the past is the list of recent events, each with what it replaced.
//! A reading at an older revision is the present with the events since then taken back, so that a list in pages
//! stays consistent without a copy, and a watch is a walk along the same events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    CommitError, Entry, Event, Expect, Op, Txn,
    entry::{ByKey, NEVER},
};

/// How much of the past is kept. Whichever bound is met first holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// How long an event is kept.
    pub age: Duration,
    /// How many events are kept.
    pub events: usize,
    /// How many bytes the kept events and what they replaced may weigh.
    pub bytes: usize,
}

impl Default for History {
    fn default() -> Self {
        History { age: Duration::from_secs(300), events: 100_000, bytes: 64 << 20 }
    }
}

/// The asked revision is not kept any more (410 Gone).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} is compacted: the oldest that can be read is {oldest}")]
pub struct Compacted {
    /// The revision that was asked for.
    pub asked: i64,
    /// The oldest revision that can still be read or watched from.
    pub oldest: i64,
}

/// Which part of a prefix is read, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range<'a> {
    /// Only keys behind this one.
    pub after: Option<&'a str>,
    /// At most this many entries.
    pub limit: Option<usize>,
    /// As it was at this revision; `None`, and any revision that is not reached yet: as it is now.
    pub at: Option<i64>,
}

/// A part of what a prefix holds at one revision.
pub struct Page<I = ()> {
    /// The entries in the order of their keys.
    pub entries: Vec<Arc<Entry<I>>>,
    /// The revision of the reading: the same for all pages read `at` it.
    pub revision: i64,
    /// How many more there are behind the last entry.
    pub remaining: usize,
}

/// Everything the store knows. Changes only by [`State::publish`].
pub struct State<I = ()> {
    current: BTreeSet<ByKey<I>>,
    history: VecDeque<Event<I>>,
    /// When what part of the history came: the last revision of a publication, and its time.
    marks: VecDeque<(i64, u64)>,
    /// The keys that expire, soonest first.
    deadlines: BTreeSet<(u64, Box<str>)>,
    revision: i64,
    compacted: i64,
    live: usize,
    held: usize,
}

impl<I> State<I> {
    /// A state without past: it holds `entries` since `revision`. An empty store begins at revision 1, as etcd does.
    pub fn new(revision: i64, entries: impl IntoIterator<Item = Arc<Entry<I>>>) -> State<I> {
        let mut state = State {
            current: BTreeSet::new(),
            history: VecDeque::new(),
            marks: VecDeque::new(),
            deadlines: BTreeSet::new(),
            revision,
            compacted: revision,
            live: 0,
            held: 0,
        };
        for entry in entries {
            state.put(entry);
        }
        state
    }

    /// The revision of the last change.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The oldest revision that can be read or watched from.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Bytes of all current keys and values.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Number of current keys.
    pub fn keys(&self) -> usize {
        self.current.len()
    }

    /// Every current entry, in the order of their keys.
    pub(crate) fn all(&self) -> Vec<Arc<Entry<I>>> {
        self.current.iter().map(|ByKey(entry)| entry.clone()).collect()
    }

    /// What a key holds now.
    pub fn get(&self, key: &str) -> Option<&Arc<Entry<I>>> {
        self.current.get(key).map(|ByKey(entry)| entry)
    }

    /// What a key held at a revision.
    ///
    /// # Errors
    /// The revision is compacted.
    pub fn get_at(&self, key: &str, at: i64) -> Result<Option<Arc<Entry<I>>>, Compacted> {
        let change = self.since(at)?.find(|event| event.key() == key);
        Ok(change.map_or_else(|| self.get(key).cloned(), |event| event.previous.clone()))
    }

    /// The events after a revision, oldest first.
    ///
    /// # Errors
    /// The revision is compacted.
    pub fn since(&self, revision: i64) -> Result<impl Iterator<Item = &Event<I>>, Compacted> {
        if revision < self.compacted {
            return Err(Compacted { asked: revision, oldest: self.compacted });
        }
        let first = self.history.partition_point(|event| event.revision <= revision);
        Ok(self.history.range(first..))
    }

    /// The events of one revision.
    pub(crate) fn events_of(&self, revision: i64) -> impl Iterator<Item = &Event<I>> {
        let first = self.history.partition_point(|event| event.revision < revision);
        self.history.range(first..).take_while(move |event| event.revision == revision)
    }

    /// What a prefix holds, wholly or in part, now or lately.
    ///
    /// # Errors
    /// The revision is compacted.
    pub fn range(&self, prefix: &str, range: Range<'_>) -> Result<Page<I>, Compacted> {
        let revision = range.at.unwrap_or(self.revision).min(self.revision);
        let past = self.undone(prefix, range.after, revision)?;
        let limit = range.limit.unwrap_or(usize::MAX);
        let mut page = Page { entries: Vec::new(), revision, remaining: 0 };
        let mut take = |entry: &Arc<Entry<I>>| {
            if page.entries.len() < limit { page.entries.push(entry.clone()) } else { page.remaining += 1 }
        };
        let mut past = past.into_iter().peekable();
        for entry in self.present(prefix, range.after) {
            while let Some((_, gone)) = past.next_if(|(key, _)| **key < *entry.key) {
                gone.into_iter().for_each(&mut take);
            }
            match past.next_if(|(key, _)| **key == *entry.key) {
                Some((_, before)) => before.into_iter().for_each(&mut take),
                None => take(entry),
            }
        }
        past.filter_map(|(_, gone)| gone).for_each(take);
        Ok(page)
    }

    fn present<'s>(
        &'s self,
        prefix: &'s str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'s Arc<Entry<I>>> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let keys = self.current.range::<str, _>((from, Bound::Unbounded)).map(|ByKey(entry)| entry);
        keys.take_while(move |entry| entry.key.starts_with(prefix))
    }

    /// What the keys that changed since a revision held at it.
    fn undone(&self, prefix: &str, after: Option<&str>, revision: i64) -> Result<Undone<'_, I>, Compacted> {
        let mut past = BTreeMap::new();
        for event in self.since(revision)? {
            let key = event.key();
            if key.starts_with(prefix) && after.is_none_or(|after| key > after) {
                past.entry(key).or_insert(event.previous.as_ref());
            }
        }
        Ok(past)
    }

    /// Decides a transaction and, if its expectations hold, makes it happen. Answers its revision and its events.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] or [`CommitError::Duplicate`]; the state is as it was.
    pub fn apply(&mut self, txn: Txn, now: u64) -> Result<(i64, Vec<Event<I>>), CommitError<I>> {
        let mut pending = Pending::new(self);
        let revision = pending.decide(txn, now)?;
        let events = pending.events;
        self.publish(&events, now);
        Ok((revision, events))
    }

    /// Takes decided events over. They must follow the state's revision.
    pub fn publish(&mut self, events: &[Event<I>], now: u64) {
        for event in events {
            debug_assert!(event.revision >= self.revision, "{event:?} lies before {}", self.revision);
            self.revision = event.revision;
            match &event.entry {
                Some(entry) => self.put(entry.clone()),
                None => self.remove(event.key()),
            }
            self.held += event.weight();
            self.history.push_back(event.clone());
        }
        if !events.is_empty() {
            self.marks.push_back((self.revision, now));
        }
    }

    /// The keys whose time has come, soonest first.
    pub fn expired(&self, now: u64) -> impl Iterator<Item = &Arc<Entry<I>>> {
        let due = self.deadlines.iter().take_while(move |(deadline, _)| *deadline <= now);
        due.filter_map(|(_, key)| self.get(key))
    }

    /// When the next key expires, in milliseconds of the store's clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// When the oldest part of the history came.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.marks.front().map(|(_, time)| *time)
    }

    /// Forgets what lies beyond the bounds of the history. Answers whether anything did.
    pub fn trim(&mut self, bounds: &History, now: u64) -> bool {
        let before = self.compacted;
        let age = u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX);
        while let Some((revision, time)) = self.marks.front().copied() {
            let young = now.saturating_sub(time) < age;
            if young && self.history.len() <= bounds.events && self.held <= bounds.bytes {
                break;
            }
            self.compact(revision);
        }
        self.compacted > before
    }

    /// Forgets the events up to a revision, which becomes the oldest that can be read.
    pub fn compact(&mut self, revision: i64) {
        let revision = revision.min(self.revision);
        while let Some(event) = self.history.pop_front_if(|event| event.revision <= revision) {
            self.held -= event.weight();
        }
        while self.marks.pop_front_if(|(last, _)| *last <= revision).is_some() {}
        self.compacted = self.compacted.max(revision);
    }

    /// The revision has moved on by changes that do not concern this state.
    pub(crate) fn advance(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    fn put(&mut self, entry: Arc<Entry<I>>) {
        self.live += entry.weight();
        if entry.expires != NEVER {
            self.deadlines.insert((entry.expires, entry.key.clone()));
        }
        let expires = entry.expires;
        if let Some(ByKey(old)) = self.current.replace(ByKey(entry)) {
            self.live -= old.weight();
            if old.expires != expires {
                self.forget_deadline(&old);
            }
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(ByKey(old)) = self.current.take(key) {
            self.live -= old.weight();
            self.forget_deadline(&old);
        }
    }

    fn forget_deadline(&mut self, old: &Entry<I>) {
        if old.expires != NEVER {
            self.deadlines.remove(&(old.expires, old.key.clone()));
        }
    }
}

/// What some keys held earlier, by key.
type Undone<'s, I> = BTreeMap<&'s str, Option<&'s Arc<Entry<I>>>>;

/// Transactions that are decided one after the other, each seeing the effects of those before it, while nobody
/// else sees any of them yet.
pub struct Pending<'s, I = ()> {
    state: &'s State<I>,
    revision: i64,
    effects: HashMap<Box<str>, Option<Arc<Entry<I>>>>,
    /// The events so far, to be written down and then published.
    pub events: Vec<Event<I>>,
}

impl<'s, I> Pending<'s, I> {
    /// Nothing is decided yet.
    pub fn new(state: &'s State<I>) -> Self {
        Pending { state, revision: state.revision, effects: HashMap::new(), events: Vec::new() }
    }

    fn get(&self, key: &str) -> Option<&Arc<Entry<I>>> {
        self.effects.get(key).map_or_else(|| self.state.get(key), Option::as_ref)
    }

    /// Decides one more transaction at the store's time `now`. Answers its revision: a new one, unless it changes
    /// nothing.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] or [`CommitError::Duplicate`]; nothing is added.
    pub fn decide(&mut self, txn: Txn, now: u64) -> Result<i64, CommitError<I>> {
        if let Some(key) = duplicate(&txn) {
            return Err(CommitError::Duplicate { key: key.to_owned() });
        }
        for write in &txn.writes {
            let current = self.get(&write.key);
            let holds = match write.expect {
                Expect::Any => true,
                Expect::Absent => current.is_none(),
                Expect::Revision(revision) => current.is_some_and(|entry| entry.mod_revision == revision),
            };
            if !holds {
                return Err(CommitError::Conflict { key: write.key.clone(), current: current.cloned() });
            }
        }
        let revision = self.revision + 1;
        for write in txn.writes {
            let previous = self.get(&write.key).cloned();
            let entry = match write.op {
                Op::Check => continue,
                Op::Delete if previous.is_none() => continue,
                Op::Delete => None,
                Op::Put { value, ttl } => {
                    let created = previous.as_ref().map_or(revision, |entry| entry.create_revision);
                    let key = write.key.clone().into_boxed_str();
                    Some(Entry::new(key, exact(&value), created, revision, deadline(ttl, now)))
                }
            };
            self.effect(write.key.into_boxed_str(), entry, previous, revision);
        }
        Ok(self.revision)
    }

    /// Repeats what was decided earlier: a deletion, or a value with its create revision and its deadline.
    pub(crate) fn replay(&mut self, key: &str, put: Option<(&[u8], i64, u64)>, revision: i64) {
        let entry = put.map(|(value, created, expires)| {
            Entry::new(key.into(), exact(value), created, revision, expires)
        });
        let previous = self.get(key).cloned();
        if entry.is_some() || previous.is_some() {
            self.effect(key.into(), entry, previous, revision);
        }
    }

    fn effect(
        &mut self,
        key: Box<str>,
        entry: Option<Arc<Entry<I>>>,
        previous: Option<Arc<Entry<I>>>,
        revision: i64,
    ) {
        self.effects.insert(key, entry.clone());
        self.events.push(Event { revision, entry, previous });
        self.revision = revision;
    }
}

/// A key that stands twice in a transaction.
pub(crate) fn duplicate(txn: &Txn) -> Option<&str> {
    let key = |at: usize| txn.writes[at].key.as_str();
    (1..txn.writes.len()).find(|at| (0..*at).any(|other| key(other) == key(*at))).map(key)
}

/// The bytes in an allocation of their own and of their size: what a request's buffer held beside them goes.
pub(crate) fn exact(value: &[u8]) -> Bytes {
    Bytes::from(Box::<[u8]>::from(value))
}

fn deadline(ttl: Option<Duration>, now: u64) -> u64 {
    let until = |ttl: Duration| now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(NEVER));
    ttl.map_or(NEVER, until)
}

#[cfg(test)]
mod tests;
