//! The work queue of a controller: each key at most once at a time, again later after a failure. It has no clock: time is
//! what the caller says, since any moment.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How long to wait after so many failures in a row: it doubles.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    BACKOFF_MIN.saturating_mul(doubled).min(BACKOFF_MAX)
}

/// Keys to be worked on. One that is added while it is being worked on comes again afterwards, once.
#[derive(Debug)]
pub struct Queue<K> {
    ready: VecDeque<K>,
    /// What is ready, or will be when it is done.
    dirty: HashSet<K>,
    busy: HashSet<K>,
    waiting: BTreeSet<(Duration, K)>,
    /// The moment under which a key is in `waiting`.
    due: HashMap<K, Duration>,
    failures: HashMap<K, u32>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            busy: HashSet::new(),
            waiting: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// Something about the key has changed.
    pub fn add(&mut self, key: K) {
        if self.dirty.insert(key.clone()) && !self.busy.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// The key is to be looked at then, if not before. The earlier of two such moments counts.
    pub fn add_at(&mut self, key: K, at: Duration) {
        if let Some(known) = self.due.get(&key).copied() {
            if known <= at {
                return;
            }
            self.waiting.remove(&(known, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.waiting.insert((at, key));
    }

    /// The next key to work on, which is busy until [`Queue::done`].
    pub fn take(&mut self, now: Duration) -> Option<K> {
        while self.waiting.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.waiting.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    /// The work on a key is over.
    pub fn done(&mut self, key: &K) {
        if self.busy.remove(key) && self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        }
    }

    /// The work on a key has failed: it comes again, the later the more often this was said, and not before `least` from
    /// now.
    pub fn failed(&mut self, key: K, now: Duration, least: Duration) {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let wait = backoff(*failures).max(least);
        self.add_at(key, now.saturating_add(wait));
    }

    /// The work on a key has not failed.
    pub fn succeeded(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// When [`Queue::take`] may have something that it does not have now; `None` before anything is added.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// How many keys could be worked on now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests;
