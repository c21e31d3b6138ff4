//! What is stored under a key, and what a caller computes from it once.

use std::{borrow::Borrow, cmp::Ordering, fmt, sync::Arc, sync::OnceLock};

use bytes::Bytes;

/// What the caller wants to know of a value again and again (labels, selectable fields): computed lazily, once for
/// each stored version of an object. `()` computes nothing.
pub trait Index: Send + Sync + 'static {
    /// The facts about one value. Must not fail: a value that does not parse has no facts.
    fn of(key: &str, value: &[u8]) -> Self;
}

impl Index for () {
    fn of(_: &str, _: &[u8]) {}
}

/// One version of one key. Shared by the current state, the history and every reader, never changed.
pub struct Entry<I = ()> {
    /// The whole key, such as `/registry/pods/default/web`.
    pub key: Box<str>,
    /// The stored bytes.
    pub value: Bytes,
    /// The revision at which the key came to be.
    pub create_revision: i64,
    /// The revision of this version.
    pub mod_revision: i64,
    /// Milliseconds of the store's clock at which the key expires; [`NEVER`] for most.
    pub(crate) expires: u64,
    index: OnceLock<I>,
}

/// The deadline of a key that does not expire.
pub(crate) const NEVER: u64 = u64::MAX;

impl<I> Entry<I> {
    pub(crate) fn new(
        key: Box<str>,
        value: Bytes,
        create: i64,
        modified: i64,
        expires: u64,
    ) -> Arc<Entry<I>> {
        let index = OnceLock::new();
        Arc::new(Entry { key, value, create_revision: create, mod_revision: modified, expires, index })
    }

    /// What the entry weighs: the bytes of its key and its value.
    pub(crate) fn weight(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl<I: Index> Entry<I> {
    /// The caller's facts about this value.
    pub fn index(&self) -> &I {
        self.index.get_or_init(|| I::of(&self.key, &self.value))
    }
}

impl<I> fmt::Debug for Entry<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({} bytes)", self.key, self.mod_revision, self.value.len())
    }
}

/// An entry in an ordered set: it is found by its own key, which so is kept once.
pub(crate) struct ByKey<I>(pub(crate) Arc<Entry<I>>);

impl<I> Borrow<str> for ByKey<I> {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}

impl<I> Ord for ByKey<I> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl<I> PartialOrd for ByKey<I> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<I> PartialEq for ByKey<I> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl<I> Eq for ByKey<I> {}

/// A change of one key.
pub struct Event<I = ()> {
    /// The revision of the change.
    pub revision: i64,
    /// What the key holds since; `None` when it was deleted.
    pub entry: Option<Arc<Entry<I>>>,
    /// What the key held before; `None` when it was created.
    pub previous: Option<Arc<Entry<I>>>,
}

impl<I> Event<I> {
    /// The key that changed.
    pub fn key(&self) -> &str {
        let either = self.entry.as_ref().or(self.previous.as_ref());
        &either.expect("an event has an entry, a previous one, or both").key
    }

    /// What the event weighs in the history.
    pub(crate) fn weight(&self) -> usize {
        let bytes = |entry: &Option<Arc<Entry<I>>>| entry.as_ref().map_or(0, |entry| entry.weight());
        bytes(&self.entry) + bytes(&self.previous) + 64
    }
}

impl<I> Clone for Event<I> {
    fn clone(&self) -> Self {
        Event { revision: self.revision, entry: self.entry.clone(), previous: self.previous.clone() }
    }
}

impl<I> fmt::Debug for Event<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (&self.entry, &self.previous) {
            (Some(_), None) => "created",
            (Some(_), Some(_)) => "changed",
            _ => "deleted",
        };
        write!(f, "{} {kind}@{}", self.key(), self.revision)
    }
}
