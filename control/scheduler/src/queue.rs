//! Which pod is placed next: the most important first, then the one that waits longest. One that fits nowhere rests until
//! something changes that could help it. There is no clock here: time is what the caller says, since any moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::filter::{self, Filter};
use crate::pod::Pod;
use crate::snapshot::{Node, Snapshot};

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Even without a change that could help it a pod is looked at again after so long.
const REST_MAX: Duration = Duration::from_secs(300);

/// Something that has changed. The snapshot shows it already.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A node of this name is there, or other than it was.
    Node(&'a str),
    /// A node is gone.
    NodeGone,
    /// This pod is on a node now, or its labels are others.
    Placed(&'a Pod),
    /// This pod has left its node, or holds less of it.
    Left(&'a Pod),
    /// Claims, volumes or their classes.
    Volumes,
    /// The labels of a namespace.
    Namespace,
}

/// Where a pod that has no node waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the row.
    Active,
    /// Not before this time; after a fault of somebody else's not earlier even if nobody else is there.
    Backoff(Duration, bool),
    /// Until a change, since this time.
    Resting(Duration),
    /// It is being placed; whether something has changed meanwhile that could help it.
    Busy(bool),
    /// Its gates are not open.
    Gated,
}

struct Entry {
    pod: Arc<Pod>,
    place: Place,
    attempts: u32,
    /// When it was last looked at.
    last: Duration,
    /// By what it was refused.
    filters: BTreeSet<Filter>,
    /// Its turn among equals.
    turn: u64,
}

/// The pods that wait for a node.
#[derive(Default)]
pub struct Queue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<(Reverse<i64>, u64, String)>,
    turns: u64,
}

impl Queue {
    /// A pod waits for a node, or one that does has changed. A change of its own may help it, unless only its status is
    /// other.
    pub fn set(&mut self, pod: Arc<Pod>, now: Duration) {
        let uid = pod.uid.clone();
        let is_gated = !pod.gates().is_empty();
        let Some(entry) = self.entries.get_mut(&uid) else {
            self.turns += 1;
            let entry = Entry {
                pod,
                place: Place::Gated,
                attempts: 0,
                last: now,
                filters: BTreeSet::new(),
                turn: self.turns,
            };
            self.entries.insert(uid.clone(), entry);
            if !is_gated {
                self.activate(&uid);
            }
            return;
        };
        let same = entry.pod.object["spec"] == pod.object["spec"] && entry.pod.labels == pod.labels;
        let (old, place) = (std::mem::replace(&mut entry.pod, pod), entry.place);
        match place {
            _ if same => {}
            Place::Busy(_) => entry.place = Place::Busy(true),
            Place::Gated if !is_gated => self.activate(&uid),
            Place::Active => {
                self.active.remove(&(Reverse(old.priority), entry.turn, uid.clone()));
                self.activate(&uid);
            }
            Place::Resting(_) => self.wake(&uid, now),
            Place::Gated | Place::Backoff(..) => {}
        }
    }

    /// A pod is placed, or gone.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let entry = self.entries.remove(uid)?;
        self.active.remove(&(Reverse(entry.pod.priority), entry.turn, uid.to_owned()));
        Some(entry.pod)
    }

    /// A pod that waits, by its uid.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.entries.get(uid).map(|entry| &entry.pod)
    }

    /// The next pod to place, which is busy until one says what became of it. When nobody else is there, one that only
    /// rests a while from its last attempt does not have to.
    pub fn next(&mut self, now: Duration) -> Option<Arc<Pod>> {
        self.flush(now);
        if self.active.is_empty() {
            let early = self.entries.iter().filter_map(|(uid, entry)| match entry.place {
                Place::Backoff(until, false) => Some((until, uid)),
                _ => None,
            });
            let uid = early.min()?.1.clone();
            self.activate(&uid);
        }
        let (_, _, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::Busy(false);
        entry.attempts = entry.attempts.saturating_add(1);
        entry.last = now;
        Some(entry.pod.clone())
    }

    /// A busy pod fits nowhere, by these.
    pub fn refused(&mut self, uid: &str, filters: BTreeSet<Filter>, now: Duration) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.filters = filters;
        let has_moved = entry.place == Place::Busy(true);
        entry.place = Place::Resting(now);
        if has_moved {
            self.wake(uid, now);
        }
    }

    /// A busy pod could not be placed, and it is not its fault.
    pub fn failed(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Backoff(entry.last + backoff(entry.attempts), true);
        }
    }

    /// What was to help a resting pod has failed: it is looked at again, but not at once, as nothing has changed.
    pub fn retry(&mut self, uid: &str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match &mut entry.place {
            Place::Resting(_) => entry.place = Place::Backoff(entry.last + backoff(entry.attempts), true),
            Place::Busy(has_moved) => *has_moved = true,
            _ => {}
        }
    }

    /// Something has changed: who could be helped by it is looked at again.
    pub fn heed(&mut self, change: Change<'_>, snapshot: &Snapshot, now: Duration) {
        let mut woken = Vec::new();
        for (uid, entry) in &mut self.entries {
            match entry.place {
                // What it is refused by is not known yet.
                Place::Busy(_) => entry.place = Place::Busy(true),
                Place::Resting(_) if helps(change, entry, snapshot) => woken.push(uid.clone()),
                _ => {}
            }
        }
        woken.iter().for_each(|uid| self.wake(uid, now));
    }

    /// When [`Queue::next`] may have something that it does not have now.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let at = |entry: &Entry| match entry.place {
            Place::Backoff(until, _) => Some(until),
            Place::Resting(since) => Some(since + REST_MAX),
            _ => None,
        };
        self.entries.values().filter_map(at).min()
    }

    /// How many pods are in the row, back off, rest, and are gated.
    #[must_use]
    pub fn depths(&self) -> [(&'static str, usize); 4] {
        let count = |is: fn(&Place) -> bool| self.entries.values().filter(|entry| is(&entry.place)).count();
        [
            ("active", count(|place| matches!(place, Place::Active | Place::Busy(_)))),
            ("backoff", count(|place| matches!(place, Place::Backoff(..)))),
            ("unschedulable", count(|place| matches!(place, Place::Resting(_)))),
            ("gated", count(|place| *place == Place::Gated)),
        ]
    }

    fn flush(&mut self, now: Duration) {
        let due = |entry: &Entry| match entry.place {
            Place::Backoff(until, _) => until <= now,
            Place::Resting(since) => since + REST_MAX <= now,
            _ => false,
        };
        let due: Vec<String> =
            self.entries.iter().filter(|(_, e)| due(e)).map(|(uid, _)| uid.clone()).collect();
        due.iter().for_each(|uid| self.activate(uid));
    }

    fn wake(&mut self, uid: &str, now: Duration) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let until = entry.last + backoff(entry.attempts);
        if until > now {
            entry.place = Place::Backoff(until, false);
        } else {
            self.activate(uid);
        }
    }

    fn activate(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get_mut(uid) {
            entry.place = Place::Active;
            self.active.insert((Reverse(entry.pod.priority), entry.turn, uid.to_owned()));
        }
    }
}

/// By what a node's own words are judged.
const ON_LABELS: [Filter; 4] =
    [Filter::NodeUnschedulable, Filter::NodeName, Filter::TaintToleration, Filter::NodeAffinity];

/// How long a pod rests after so many attempts.
fn backoff(attempts: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(BACKOFF_MAX)
}

/// Whether a change could help a pod against what it was refused by.
fn helps(change: Change<'_>, entry: &Entry, snapshot: &Snapshot) -> bool {
    let pod = &*entry.pod;
    let by = |filters: &[Filter]| filters.iter().any(|filter| entry.filters.contains(filter));
    let open = |node: &str| snapshot.node(node).filter(|node| filter::on_labels(pod, node).is_ok());
    // Room there is, or it can be made.
    let lesser = |node: &Node| node.pods().any(|other| other.priority < pod.priority);
    let room = |node: &str| open(node).is_some_and(|node| filter::fits(pod, node).is_ok() || lesser(node));
    let by_others = by(&[Filter::PodTopologySpread, Filter::InterPodAffinity]);
    match change {
        // A pod that met no node at all was refused by nothing.
        Change::Node(node) => {
            entry.filters.is_empty() || by_others || room(node) || by(&ON_LABELS) && open(node).is_some()
        }
        Change::NodeGone => by(&[Filter::PodTopologySpread]),
        Change::Placed(other) => by_others && (other.namespace == pod.namespace || !pod.near.is_empty()),
        Change::Left(other) => {
            by_others
                || by(&[Filter::VolumeRestrictions])
                || by(&[Filter::NodePorts, Filter::NodeResourcesFit]) && room(&other.node)
        }
        Change::Volumes => by(&[Filter::VolumeBinding, Filter::VolumeRestrictions, Filter::VolumeZone]),
        Change::Namespace => by(&[Filter::InterPodAffinity]),
    }
}

#[cfg(test)]
mod tests;
