//! The scheduling loop without its requests: keeps the snapshot and the row of waiting pods up to date, and places one
//! pod at a time. A pod counts as placed from the decision on; whether its binding was really made is asked of the server
//! whenever there is doubt. There is no clock here: time is what the caller says, since any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto_kube::object;
use proto_kube::view::View;
use serde_json::Value;

use crate::amounts::Amounts;
use crate::pod::Pod;
use crate::queue::{Change, Queue};
use crate::schedule::{Decision, Refusal, schedule};
use crate::snapshot::Snapshot;

/// How long the caller's view is trusted to show a binding by itself. Then the server is asked.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the decisions look things up in; of the first [`HEEDED`] every change is to be told.
pub const READS: [(&str, &str); 11] = [
    ("", "pods"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "storageclasses"),
    ("", "services"),
    ("", "replicationcontrollers"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("policy", "poddisruptionbudgets"),
];
/// How many of [`READS`] can help a waiting pod.
pub const HEEDED: usize = 6;

/// What a decision asks for.
#[derive(Debug)]
pub enum Task {
    /// This pod is to be bound to the node it names; [`Placing::bound`] is told what became of it.
    Bind(Arc<Pod>),
    /// This pod fits nowhere, and somebody may have to make room; [`Placing::told`] is told whether all was done.
    Refuse(Arc<Pod>, Refusal),
}

/// What has become of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// The pod is on the node; by this request, or since before.
    Here {
        /// By this request.
        is_new: bool,
    },
    /// It is on another node.
    Elsewhere,
    /// There is no such pod any more.
    Gone,
    /// It is nowhere, and this is why.
    Free(String),
}

/// A pod that has a node by our decision, but not yet in the caller's view.
struct Assumed {
    pod: Arc<Pod>,
    /// When to ask the server; none while somebody asks already.
    ask_at: Option<Duration>,
}

/// What a scheduler knows.
pub struct Placing {
    name: String,
    snapshot: Snapshot,
    queue: Queue,
    assumed: BTreeMap<String, Assumed>,
}

impl Placing {
    /// For the pods whose `spec.schedulerName` is this.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, snapshot: Snapshot::default(), queue: Queue::default(), assumed: BTreeMap::new() }
    }

    /// An object of one of the heeded resources, by its plural, has come, changed or gone.
    pub fn heed(&mut self, plural: &str, old: Option<&Value>, new: Option<&Arc<Value>>, now: Duration) {
        let Some(object) = new.map(|new| &**new).or(old) else { return };
        match (plural, new) {
            ("pods", None) => self.gone(object::uid(object), now),
            ("pods", Some(new)) => {
                if let Some(old) = old.filter(|old| object::uid(old) != object::uid(new)) {
                    self.gone(object::uid(old), now);
                }
                self.pod(old, Arc::new(Pod::new(new.clone())), now);
            }
            ("nodes", None) => {
                self.snapshot.remove_node(object::name(object));
                self.queue.heed(Change::NodeGone, &self.snapshot, now);
            }
            ("nodes", Some(new)) => {
                if old.is_none_or(|old| Snapshot::differs(old, new)) {
                    self.snapshot.set_node(new);
                    self.queue.heed(Change::Node(object::name(new)), &self.snapshot, now);
                }
            }
            ("namespaces", _) => self.queue.heed(Change::Namespace, &self.snapshot, now),
            _ => self.queue.heed(Change::Volumes, &self.snapshot, now),
        }
    }

    /// A pod is there or has changed.
    fn pod(&mut self, old: Option<&Value>, pod: Arc<Pod>, now: Duration) {
        let uid = pod.uid.clone();
        if pod.is_over() {
            return self.gone(&uid, now);
        }
        if pod.node.is_empty() {
            return self.waits(old, pod, now);
        }
        self.assumed.remove(&uid);
        self.queue.remove(&uid);
        self.snapshot.forget_nomination(&uid);
        let old = old.filter(|old| !object::text(old, &["spec", "nodeName"]).is_empty());
        // A resize frees room only when the status follows the spec: that is another change.
        let is_lighter =
            old.is_some_and(|old| old["spec"] != pod.object["spec"] || Amounts::held(old) != pod.held);
        let is_news = old.is_none_or(|old| old["metadata"]["labels"] != pod.object["metadata"]["labels"]);
        let node = pod.node.clone();
        self.snapshot.set_pod(pod.clone(), &node);
        if is_news {
            self.queue.heed(Change::Placed(&pod), &self.snapshot, now);
        }
        if is_lighter {
            self.queue.heed(Change::Left(&pod), &self.snapshot, now);
        }
    }

    /// A pod has no node.
    fn waits(&mut self, old: Option<&Value>, pod: Arc<Pod>, now: Duration) {
        if pod.is_terminating() || pod.scheduler() != self.name {
            self.queue.remove(&pod.uid);
            return self.snapshot.forget_nomination(&pod.uid);
        }
        let was_nominated = |old: &Value| !object::text(old, &["status", "nominatedNodeName"]).is_empty();
        if !pod.nominated.is_empty() {
            self.snapshot.nominate(&pod, &pod.nominated);
        } else if old.is_some_and(was_nominated) {
            self.snapshot.forget_nomination(&pod.uid);
        }
        self.queue.set(pod, now);
    }

    /// A pod is gone, or over.
    fn gone(&mut self, uid: &str, now: Duration) {
        self.assumed.remove(uid);
        self.queue.remove(uid);
        self.snapshot.forget_nomination(uid);
        self.leaves(uid, now);
    }

    fn leaves(&mut self, uid: &str, now: Duration) {
        if let Some(pod) = self.snapshot.remove_pod(uid) {
            self.queue.heed(Change::Left(&pod), &self.snapshot, now);
        }
    }

    /// Decides about the next pod; `None` when it is nobody's turn.
    pub fn next(&mut self, view: &dyn View, now: Duration) -> Option<Task> {
        let pod = loop {
            let pod = self.queue.next(now)?;
            if !self.assumed.contains_key(&pod.uid) {
                break pod;
            }
        };
        match schedule(&self.snapshot, view, &pod) {
            Decision::Bind(node) => {
                let placed = Arc::new(pod.on(&node));
                self.snapshot.set_pod(placed.clone(), &node);
                self.snapshot.forget_nomination(&pod.uid);
                self.assumed.insert(pod.uid.clone(), Assumed { pod: placed.clone(), ask_at: None });
                Some(Task::Bind(placed))
            }
            Decision::Unschedulable(refusal) => {
                self.queue.refused(&pod.uid, refusal.filters.clone(), now);
                if let Some(preemption) = &refusal.preemption {
                    self.snapshot.nominate(&pod, &preemption.node);
                    preemption.displaced.iter().for_each(|other| self.snapshot.forget_nomination(&other.uid));
                } else if !refusal.waits {
                    self.snapshot.forget_nomination(&pod.uid);
                }
                Some(Task::Refuse(pod, refusal))
            }
        }
    }

    /// A pod's refusal has been told; whether room was made where it says so.
    pub fn told(&mut self, uid: &str, is_done: bool) {
        if !is_done {
            self.queue.retry(uid);
        }
    }

    /// What has become of a pod's binding. Whether that is news: the view may have been faster.
    pub fn bound(&mut self, pod: &Pod, bound: &Bound, now: Duration) -> bool {
        let Some(assumed) = self.assumed.get_mut(&pod.uid) else { return false };
        match bound {
            // The view will tell.
            Bound::Here { .. } | Bound::Elsewhere => assumed.ask_at = Some(now + PATIENCE),
            Bound::Gone => self.gone(&pod.uid, now),
            Bound::Free(_) => {
                self.assumed.remove(&pod.uid);
                self.leaves(&pod.uid, now);
                self.queue.failed(&pod.uid);
            }
        }
        true
    }

    /// The pods whose bindings the view does not show in time: [`Placing::bound`] waits for what the server says of them.
    pub fn overdue(&mut self, now: Duration) -> Vec<Arc<Pod>> {
        let late = |assumed: &&mut Assumed| assumed.ask_at.is_some_and(|at| at <= now);
        let asked = self.assumed.values_mut().filter(late).map(|assumed| {
            assumed.ask_at = None;
            assumed.pod.clone()
        });
        asked.collect()
    }

    /// When [`Placing::overdue`] has something next.
    #[must_use]
    pub fn ask_at(&self) -> Option<Duration> {
        self.assumed.values().filter_map(|assumed| assumed.ask_at).min()
    }

    /// The row of waiting pods.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}

#[cfg(test)]
mod tests;
