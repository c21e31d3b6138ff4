//! What a controller has before it: the keys to look at, the writes that its view does not show yet, and what the server
//! has refused. It does no I/O and has no clock: time is what the caller says, since any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use controllers::{Key, Refused};
use jiff::Timestamp;
use proto_kube::Resource;
use proto_kube::view::View;
use serde_json::Value;

use crate::answer::End;
use crate::pending::{Expected, Id, Pending};
use crate::queue::Queue;

/// A wish to be looked at again at once, or in the past, waits for so long: it might be wished again and again.
const SLEEP_MIN: Duration = Duration::from_millis(20);
/// A wish to be looked at again is never trusted for longer: the clock by which it was meant may jump.
pub(crate) const SLEEP_MAX: Duration = Duration::from_secs(60);

/// A decision has been made and its changes have been asked for.
#[derive(Debug)]
pub struct Round {
    /// About what.
    pub key: Key,
    /// What the view must show before the next one about the same.
    pub expected: Vec<Expected>,
    /// How it ended.
    pub end: End,
    /// When to look again, though nothing changes.
    pub again: Option<Duration>,
}

/// How long to wait for a moment that a controller wants to be asked again at.
#[must_use]
pub fn wait(again: Timestamp, clock: Timestamp) -> Duration {
    Duration::try_from(again.duration_since(clock)).unwrap_or_default().clamp(SLEEP_MIN, SLEEP_MAX)
}

/// The work of one controller.
#[derive(Debug, Default)]
pub struct Work {
    queue: Queue<Key>,
    pending: Pending<Key>,
    /// What the server has refused of a key's last round.
    refused: BTreeMap<Key, Refused>,
    /// Rounds in which the controller was told of a refusal: whatever they come to, the key is in trouble.
    told: BTreeSet<Key>,
}

impl Work {
    /// An object has changed, as the view shows by now, and these keys are concerned.
    pub fn heed(
        &mut self,
        keys: Vec<Key>,
        resource: &'static Resource,
        old: Option<&Value>,
        new: Option<&Value>,
    ) {
        keys.into_iter().for_each(|key| self.queue.add(key));
        let clear = self.pending.saw(resource, old, new);
        self.settle(&clear);
    }

    /// The next key to decide about, and what the server has refused of the last decision. It is busy until
    /// [`Work::finish`].
    pub fn take(&mut self, now: Duration) -> Option<(Key, Option<Refused>)> {
        let key = self.queue.take(now)?;
        let refused = self.refused.remove(&key);
        if refused.is_some() {
            self.told.insert(key.clone());
        }
        Some((key, refused))
    }

    /// A round is over: its key is free again when the view shows what was written. Whether it has failed, and is tried
    /// again later.
    pub fn finish(&mut self, round: Round, view: &dyn View, now: Duration) -> bool {
        let Round { key, expected, end, again } = round;
        for expected in expected {
            self.pending.expect(&key, expected, view, now);
        }
        let least = match (end, self.told.remove(&key)) {
            (End::Refused(refused), false) => {
                self.refused.insert(key.clone(), *refused);
                self.queue.add(key.clone());
                None
            }
            (End::Done, false) => {
                self.queue.succeeded(&key);
                if let Some(wait) = again {
                    self.queue.add_at(key.clone(), now.saturating_add(wait));
                }
                None
            }
            (End::Again(least), _) => Some(least),
            (End::Refused(_) | End::Done, true) => Some(Duration::ZERO),
        };
        if let Some(least) = least {
            self.queue.failed(key.clone(), now, least);
        }
        if self.pending.is_clear(&key) {
            self.queue.done(&key);
        }
        least.is_some()
    }

    /// What the controller will be told of a key's last round.
    #[must_use]
    pub fn refused(&self, key: &Key) -> Option<&Refused> {
        self.refused.get(key)
    }

    /// The objects that the server is to be asked for, as the view does not show what was written of them.
    pub fn overdue(&mut self, now: Duration) -> Vec<Id> {
        self.pending.overdue(now)
    }

    /// The server has answered with the object, or that there is none.
    pub fn answered(&mut self, id: &Id, object: Option<&Value>, view: &dyn View) {
        let clear = self.pending.answered(id, object, view);
        self.settle(&clear);
    }

    fn settle(&mut self, clear: &[Key]) {
        clear.iter().for_each(|key| self.queue.done(key));
    }

    /// When [`Work::overdue`] has something next.
    #[must_use]
    pub fn ask_at(&self) -> Option<Duration> {
        self.pending.wake_at()
    }

    /// When [`Work::take`] may have something that it does not have now.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        self.queue.wake_at()
    }

    /// How many keys could be worked on now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.depth()
    }
}
