//! What is asked of the store: writes that happen together at one revision, or not at all.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::Entry;

/// Writes that all happen at one revision, or none of them does. A key may stand in it once.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// The writes, in any order.
    pub writes: Vec<Write>,
}

/// One write and what must hold for it.
#[derive(Clone, Debug)]
pub struct Write {
    /// The whole key.
    pub key: String,
    /// What the key must hold at the moment of the write.
    pub expect: Expect,
    /// What is done.
    pub op: Op,
}

/// What a key must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// Nothing.
    Absent,
    /// The version of this `mod_revision`.
    Revision(i64),
}

/// What is done with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Store these bytes.
    Put {
        /// The bytes.
        value: Bytes,
        /// How long they stay; `None`: until they are deleted.
        ttl: Option<Duration>,
    },
    /// Remove the key. Removing what is not there changes nothing and makes no event.
    Delete,
    /// Nothing: only the expectation counts.
    Check,
}

impl Txn {
    /// A transaction of one write.
    pub fn one(write: Write) -> Txn {
        Txn { writes: vec![write] }
    }

    /// Bytes of all keys and values.
    pub(crate) fn weight(&self) -> usize {
        self.writes.iter().map(Write::weight).sum()
    }
}

impl Write {
    /// A new object: the key must hold nothing.
    pub fn create(key: impl Into<String>, value: impl Into<Bytes>) -> Write {
        let op = Op::Put { value: value.into(), ttl: None };
        Write { key: key.into(), expect: Expect::Absent, op }
    }

    /// A new version of what was read at `mod_revision`.
    pub fn update(key: impl Into<String>, value: impl Into<Bytes>, mod_revision: i64) -> Write {
        let op = Op::Put { value: value.into(), ttl: None };
        Write { key: key.into(), expect: Expect::Revision(mod_revision), op }
    }

    /// Removal of what was read at `mod_revision`.
    pub fn delete(key: impl Into<String>, mod_revision: i64) -> Write {
        Write { key: key.into(), expect: Expect::Revision(mod_revision), op: Op::Delete }
    }

    /// No change, but the others of the transaction happen only if this expectation holds.
    pub fn check(key: impl Into<String>, expect: Expect) -> Write {
        Write { key: key.into(), expect, op: Op::Check }
    }

    /// Gives a `Put` a time to live. Other operations stay as they are.
    #[must_use]
    pub fn expiring(mut self, after: Duration) -> Write {
        if let Op::Put { ttl, .. } = &mut self.op {
            *ttl = Some(after);
        }
        self
    }

    fn weight(&self) -> usize {
        let value = if let Op::Put { value, .. } = &self.op { value.len() } else { 0 };
        self.key.len() + value
    }
}

/// Why a transaction did not happen. After `Unavailable` it may have happened; after the others it has not.
#[derive(thiserror::Error)]
pub enum CommitError<I = ()> {
    /// A key does not hold what was expected.
    #[error("{key}: {}", held(.current.as_deref()))]
    Conflict {
        /// The first write whose expectation does not hold.
        key: String,
        /// What the key holds instead.
        current: Option<Arc<Entry<I>>>,
    },
    /// A key stands twice in one transaction.
    #[error("{key} stands twice in one transaction")]
    Duplicate {
        /// The key.
        key: String,
    },
    /// The transaction is larger than the store takes at once.
    #[error("a transaction of {size} bytes or {writes} writes is too large: the limit is {limit}")]
    TooLarge {
        /// Bytes of all keys and values.
        size: usize,
        /// Number of writes.
        writes: usize,
        /// What the store takes, in words.
        limit: &'static str,
    },
    /// The disk (or etcd's quota) is full: reading goes on, writing does once there is room again.
    #[error("the store is full: {reason}")]
    Full {
        /// What the kernel or etcd said.
        reason: String,
    },
    /// The disk refuses writes: reading goes on, writing is tried again.
    #[error("the store is read-only: {reason}")]
    ReadOnly {
        /// What the kernel said.
        reason: String,
    },
    /// etcd did not answer in time: whether the writes happened is not known.
    #[error("etcd does not answer: {reason}")]
    Unavailable {
        /// What the last attempt met.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

fn held<I>(current: Option<&Entry<I>>) -> String {
    match current {
        Some(entry) => {
            format!("holds the version of revision {}, which was not expected", entry.mod_revision)
        }
        None => "does not exist, which was not expected".to_owned(),
    }
}

impl<I> fmt::Debug for CommitError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
