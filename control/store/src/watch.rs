//! The state as many see it at once: readers, the one that publishes, and watchers.
//!
//! A watcher owns no queue. It holds a cursor, the revision up to which it has handed events out, and walks along
//! the history that all share; one that is slow holds nobody up and costs nothing, until its cursor falls behind
//! the compaction. Watchers of one prefix share a topic: the bell that wakes them and the last revisions that
//! concerned them, so that waking up costs no search and a change elsewhere costs nothing at all.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use crate::{Compacted, Event, History, State};

/// How many revisions a topic remembers. A watcher further behind searches the history.
const REMEMBERED: usize = 256;
/// A batch ends with the revision in which it reaches this many events.
const BATCH: usize = 256;

/// What the readers, the watchers and the one writer share.
pub(crate) struct Shared<I> {
    inner: RwLock<Inner<I>>,
    revision: watch::Sender<i64>,
    /// Why nothing can be written at present.
    trouble: Mutex<Option<String>>,
}

pub(crate) struct Inner<I> {
    pub(crate) state: State<I>,
    topics: Topics,
    /// Counts how often the state was replaced: no cursor outlives that.
    epoch: u64,
    closed: bool,
}

#[derive(Default)]
struct Topics {
    by_prefix: HashMap<Arc<str>, Topic>,
    /// How many topics have a prefix of this length: the only ones that a key is tried with.
    lengths: BTreeMap<usize, usize>,
}

struct Topic {
    bell: Arc<Notify>,
    /// The last revisions with an event under the prefix; all of them behind `since`.
    recent: VecDeque<i64>,
    since: i64,
    watchers: usize,
}

impl<I> Shared<I> {
    pub(crate) fn new(state: State<I>) -> Arc<Shared<I>> {
        let revision = watch::Sender::new(state.revision());
        let inner = Inner { state, topics: Topics::default(), epoch: 0, closed: false };
        Arc::new(Shared { inner: RwLock::new(inner), revision, trouble: Mutex::default() })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner<I>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<I>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a revision is published. `false` when the time is over before.
    pub(crate) async fn reach(&self, revision: i64, timeout: Duration) -> bool {
        let mut published = self.revision.subscribe();
        let reached = published.wait_for(|published| *published >= revision);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }

    /// Makes durable events visible, moves the revision on to at least `revision`, and wakes who waits for them.
    pub(crate) fn publish(&self, events: &[Event<I>], revision: i64, bounds: &History, now: u64) {
        let mut guard = self.write();
        let inner = &mut *guard;
        inner.state.publish(events, now);
        inner.state.advance(revision);
        let bells = inner.topics.concern(events);
        inner.state.trim(bounds, now);
        let revision = inner.state.revision();
        drop(guard);
        self.revision.send_replace(revision);
        bells.iter().for_each(|bell| bell.notify_waiters());
    }

    /// Puts another state in place of this one. Every watch ends with [`Compacted`].
    pub(crate) fn replace(&self, state: State<I>) {
        let mut inner = self.write();
        let revision = state.revision();
        inner.state = state;
        inner.epoch += 1;
        inner.topics.forget(revision);
        let bells = inner.topics.all();
        drop(inner);
        self.revision.send_replace(revision);
        bells.iter().for_each(|bell| bell.notify_waiters());
    }

    /// Notes why nothing can be written, or that it can again.
    pub(crate) fn trouble(&self, why: Option<String>) {
        *self.troubled() = why;
    }

    pub(crate) fn troubled(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the past up to a revision.
    pub(crate) fn compact(&self, revision: i64) {
        self.write().state.compact(revision);
    }

    /// Forgets what is beyond the bounds.
    pub(crate) fn trim(&self, bounds: &History, now: u64) {
        self.write().state.trim(bounds, now);
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut inner = self.write();
        inner.closed = true;
        let bells = inner.topics.all();
        drop(inner);
        bells.iter().for_each(|bell| bell.notify_waiters());
    }

    /// Opens a watch that hands out what happens under a prefix after a revision.
    pub(crate) fn watch(self: &Arc<Self>, prefix: &str, after: i64) -> Result<Watch<I>, Compacted> {
        let mut guard = self.write();
        let inner = &mut *guard;
        drop(inner.state.since(after)?);
        let (prefix, bell) = inner.topics.join(prefix, inner.state.revision());
        let epoch = inner.epoch;
        drop(guard);
        Ok(Watch { shared: self.clone(), prefix, bell, cursor: after, epoch })
    }
}

impl Topics {
    fn join(&mut self, prefix: &str, revision: i64) -> (Arc<str>, Arc<Notify>) {
        if let Some((known, _)) = self.by_prefix.get_key_value(prefix) {
            let known = known.clone();
            let topic = self.by_prefix.get_mut(prefix).expect("was just found");
            topic.watchers += 1;
            return (known, topic.bell.clone());
        }
        let (name, bell) = (Arc::<str>::from(prefix), Arc::new(Notify::new()));
        let topic = Topic { bell: bell.clone(), recent: VecDeque::new(), since: revision, watchers: 1 };
        self.by_prefix.insert(name.clone(), topic);
        *self.lengths.entry(prefix.len()).or_default() += 1;
        (name, bell)
    }

    fn leave(&mut self, prefix: &str) {
        let Some(topic) = self.by_prefix.get_mut(prefix) else { return };
        topic.watchers -= 1;
        if topic.watchers > 0 {
            return;
        }
        self.by_prefix.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// Notes the events in the topics that they concern, and answers whom to wake.
    fn concern<I>(&mut self, events: &[Event<I>]) -> Vec<Arc<Notify>> {
        let mut bells = Vec::new();
        let first = events.first().map_or(0, |event| event.revision);
        for event in events {
            let key = event.key();
            let lengths = self.lengths.keys().take_while(|length| **length <= key.len());
            for prefix in lengths.filter_map(|length| key.get(..*length)) {
                let Some(topic) = self.by_prefix.get_mut(prefix) else { continue };
                let last = topic.recent.back().copied().unwrap_or(topic.since);
                if last < first {
                    bells.push(topic.bell.clone());
                }
                if last < event.revision {
                    topic.remember(event.revision);
                }
            }
        }
        bells
    }

    /// What was remembered belongs to a state that is no more.
    fn forget(&mut self, revision: i64) {
        for topic in self.by_prefix.values_mut() {
            topic.recent.clear();
            topic.since = revision;
        }
    }

    fn all(&self) -> Vec<Arc<Notify>> {
        self.by_prefix.values().map(|topic| topic.bell.clone()).collect()
    }
}

impl Topic {
    fn remember(&mut self, revision: i64) {
        if self.recent.len() == REMEMBERED {
            self.since = self.recent.pop_front().unwrap_or(self.since);
        }
        self.recent.push_back(revision);
    }
}

/// Events that happened one after the other under the watched prefix; a transaction is never torn apart.
pub struct Batch<I = ()> {
    /// Everything under the prefix up to this revision has been handed out, this batch included.
    pub revision: i64,
    /// The events, oldest first.
    pub events: Vec<Event<I>>,
}

/// The events under one prefix after one revision, in order, without gaps.
pub struct Watch<I = ()> {
    shared: Arc<Shared<I>>,
    prefix: Arc<str>,
    bell: Arc<Notify>,
    cursor: i64,
    epoch: u64,
}

impl<I> Watch<I> {
    /// Waits for events. `None` when the store is closed. May be dropped while waiting without losing anything.
    ///
    /// # Errors
    /// The reader was so slow that what comes next is compacted. Every further call answers the same.
    pub async fn next(&mut self) -> Option<Result<Batch<I>, Compacted>> {
        let bell = self.bell.clone();
        loop {
            let mut rung = pin!(bell.notified());
            rung.as_mut().enable();
            match self.try_next() {
                Ok(batch) if batch.events.is_empty() => {}
                other => return Some(other),
            }
            if self.shared.read().closed {
                return None;
            }
            rung.await;
        }
    }

    /// The events that are there already; the batch may be empty. Its revision is then the progress of the watch,
    /// as a bookmark tells it: nothing under the prefix up to it is still to come.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Batch<I>, Compacted> {
        let batch = self.shared.read().after(self.cursor, self.epoch, &self.prefix)?;
        self.cursor = self.cursor.max(batch.revision);
        Ok(batch)
    }

    /// Everything under the prefix up to this revision has been handed out.
    pub fn revision(&self) -> i64 {
        self.cursor
    }
}

impl<I> Drop for Watch<I> {
    fn drop(&mut self) {
        self.shared.write().topics.leave(&self.prefix);
    }
}

impl<I> Inner<I> {
    /// The next events under a prefix that a watcher at `cursor` has not seen.
    fn after(&self, cursor: i64, epoch: u64, prefix: &str) -> Result<Batch<I>, Compacted> {
        let state = &self.state;
        let gone = Compacted { asked: cursor, oldest: state.compacted() };
        if epoch != self.epoch {
            return Err(gone);
        }
        let mut batch = Batch { revision: state.revision(), events: Vec::new() };
        let topic = self.topics.by_prefix.get(prefix).filter(|topic| cursor >= topic.since);
        if let Some(topic) = topic {
            let first = topic.recent.partition_point(|revision| *revision <= cursor);
            for revision in topic.recent.range(first..).copied() {
                if batch.full() {
                    break;
                }
                if revision <= state.compacted() {
                    return Err(gone);
                }
                let of_prefix = state.events_of(revision).filter(|event| event.key().starts_with(prefix));
                batch.events.extend(of_prefix.cloned());
            }
        } else {
            for event in state.since(cursor)?.filter(|event| event.key().starts_with(prefix)) {
                if batch.full() && batch.last() < event.revision {
                    break;
                }
                batch.events.push(event.clone());
            }
        }
        if batch.full() {
            batch.revision = batch.last();
        }
        Ok(batch)
    }
}

impl<I> Batch<I> {
    fn full(&self) -> bool {
        self.events.len() >= BATCH
    }

    fn last(&self) -> i64 {
        self.events.last().map_or(0, |event| event.revision)
    }
}
