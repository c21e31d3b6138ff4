//! The scheduling loop: keeps the snapshot and the row of waiting pods up to date, places one pod at a time, and binds
//! many at once. A pod counts as placed from the decision on; whether its binding was really made is asked of the server
//! whenever there is doubt.

mod bind;
mod tell;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Event};
use proto_kube::object;
use scheduler::queue::{Change, Queue};
use scheduler::{Decision, Pod, Snapshot, schedule};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::apply::of;
use crate::metrics::{self, Metrics};
use crate::run;

use bind::Bound;
pub(crate) use tell::Teller;

/// So many bindings and messages are under way at once.
const TASKS_MAX: usize = 64;
/// How long the cache is trusted to show a binding by itself. Then the server is asked.
const PATIENCE: Duration = Duration::from_secs(15);
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What the decisions look things up in, beside pods and nodes; and whether a change of it can help a waiting pod.
const READS: [(&str, &str); 11] = [
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
/// Of the first so many every change is heeded.
const HEEDED: usize = 6;

/// What has come back from the server.
enum Back {
    Bound(Arc<Pod>, Bound),
    /// A pod's refusal has been told; room could not be made where it says so.
    Told(String, bool),
}

/// A pod that has a node by our decision, but not yet in the cache.
struct Assumed {
    pod: Arc<Pod>,
    /// When to ask the server; none while somebody asks already.
    ask_at: Option<Duration>,
}

/// The scheduler of the pods that name it.
pub(crate) struct Scheduler {
    cache: Cache,
    name: String,
    teller: Teller,
    metrics: Metrics,
    started: Instant,
    snapshot: Snapshot,
    queue: Queue,
    assumed: HashMap<String, Assumed>,
    tasks: JoinSet<Back>,
}

impl Scheduler {
    pub(crate) fn new(cache: Cache, name: String, teller: Teller, metrics: Metrics) -> Self {
        Self {
            cache,
            name,
            teller,
            metrics,
            started: Instant::now(),
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            assumed: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Works until it is told to stop; then finishes what is under way.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let reads = READS.map(|(group, plural)| of(group, plural));
        let mut events: Vec<_> =
            reads[..HEEDED].iter().map(|resource| self.cache.subscribe(resource)).collect();
        tokio::select! {
            () = self.cache.synced(&reads) => {}
            () = stop.cancelled() => return,
        }
        while !stop.is_cancelled() {
            self.drain(&mut events);
            self.ask();
            if self.tasks.len() < TASKS_MAX
                && let Some(pod) = self.queue.next(self.now())
            {
                self.place(&pod);
                // The bindings go out meanwhile.
                tokio::task::yield_now().await;
                continue;
            }
            for (queue, depth) in self.queue.depths() {
                self.metrics.set(metrics::PENDING, ("queue", queue), depth);
            }
            let wake = self.started + self.wake_at();
            tokio::select! {
                event = run::next(&mut events) => match event {
                    Some(event) => self.heed(&event),
                    None => break,
                },
                Some(Ok(back)) = self.tasks.join_next() => self.back(back),
                () = tokio::time::sleep_until(wake) => {}
                () = stop.cancelled() => {}
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wake_at(&self) -> Duration {
        let asked = self.assumed.values().filter_map(|assumed| assumed.ask_at);
        // A full house waits for its tasks, not for the queue.
        let queue = self.queue.wake_at().filter(|_| self.tasks.len() < TASKS_MAX);
        asked.chain(queue).min().unwrap_or(self.now() + SLEEP_MAX)
    }

    fn drain(&mut self, events: &mut [UnboundedReceiver<Event>]) {
        for receiver in events {
            while let Ok(event) = receiver.try_recv() {
                self.heed(&event);
            }
        }
        while let Some(Ok(back)) = self.tasks.try_join_next() {
            self.back(back);
        }
    }

    fn heed(&mut self, event: &Event) {
        let now = self.now();
        let (old, new) = (event.old.as_deref(), event.new.as_deref());
        let Some(object) = new.or(old) else { return };
        match (event.resource.plural, new) {
            ("pods", None) => self.gone(object::uid(object)),
            ("pods", Some(_)) => {
                if let Some(old) = old.filter(|old| object::uid(old) != object::uid(object)) {
                    self.gone(object::uid(old));
                }
                if let Some(new) = &event.new {
                    self.pod(old, Arc::new(Pod::new(new.clone())));
                }
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
    fn pod(&mut self, old: Option<&Value>, pod: Arc<Pod>) {
        let (now, uid) = (self.now(), pod.uid.clone());
        if pod.is_over() {
            return self.gone(&uid);
        }
        if pod.node.is_empty() {
            if pod.is_terminating() || pod.scheduler() != self.name {
                self.queue.remove(&uid);
                self.snapshot.forget_nomination(&uid);
            } else {
                if !pod.nominated.is_empty() {
                    self.snapshot.nominate(&pod, &pod.nominated);
                } else if old
                    .is_some_and(|old| !object::text(old, &["status", "nominatedNodeName"]).is_empty())
                {
                    self.snapshot.forget_nomination(&uid);
                }
                self.queue.set(pod, now);
            }
            return;
        }
        self.assumed.remove(&uid);
        self.queue.remove(&uid);
        self.snapshot.forget_nomination(&uid);
        let old = old.filter(|old| !object::text(old, &["spec", "nodeName"]).is_empty());
        let is_lighter = old.is_some_and(|old| old["spec"] != pod.object["spec"]);
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

    /// A pod is gone, or over.
    fn gone(&mut self, uid: &str) {
        self.assumed.remove(uid);
        self.queue.remove(uid);
        self.snapshot.forget_nomination(uid);
        if let Some(pod) = self.snapshot.remove_pod(uid) {
            let now = self.now();
            self.queue.heed(Change::Left(&pod), &self.snapshot, now);
        }
    }

    /// Decides about a pod.
    fn place(&mut self, pod: &Arc<Pod>) {
        let now = self.now();
        if self.assumed.contains_key(&pod.uid) {
            return;
        }
        match schedule(&self.snapshot, &self.cache, pod) {
            Decision::Bind(node) => {
                let placed = Arc::new(pod.on(&node));
                self.snapshot.set_pod(placed.clone(), &node);
                self.snapshot.forget_nomination(&pod.uid);
                self.assumed.insert(pod.uid.clone(), Assumed { pod: placed.clone(), ask_at: None });
                let client = self.teller.client.clone();
                self.tasks.spawn(async move {
                    let bound = bind::bind(&client, &placed).await;
                    Back::Bound(placed, bound)
                });
            }
            Decision::Unschedulable(refusal) => {
                self.metrics.count(metrics::ATTEMPTS, ("result", "unschedulable"));
                self.queue.refused(&pod.uid, refusal.filters.clone(), now);
                if let Some(preemption) = &refusal.preemption {
                    self.snapshot.nominate(pod, &preemption.node);
                    preemption.displaced.iter().for_each(|other| self.snapshot.forget_nomination(&other.uid));
                } else if !refusal.waits {
                    self.snapshot.forget_nomination(&pod.uid);
                }
                let (teller, pod) = (self.teller.clone(), pod.clone());
                self.tasks.spawn(async move {
                    let is_done = teller.refused(&pod, &refusal).await;
                    Back::Told(pod.uid.clone(), is_done)
                });
            }
        }
    }

    fn back(&mut self, back: Back) {
        let now = self.now();
        let (pod, bound) = match back {
            Back::Told(_, true) => return,
            Back::Told(uid, false) => return self.queue.retry(&uid, now),
            Back::Bound(pod, bound) => (pod, bound),
        };
        if bound == (Bound::Here { is_new: true }) {
            self.metrics.count(metrics::ATTEMPTS, ("result", "scheduled"));
            self.teller.placed(&pod);
        }
        // The cache may have been faster.
        let Some(assumed) = self.assumed.get_mut(&pod.uid) else { return };
        match bound {
            // The cache will tell.
            Bound::Here { .. } | Bound::Elsewhere => assumed.ask_at = Some(now + PATIENCE),
            Bound::Gone => self.gone(&pod.uid),
            Bound::Free(why) => {
                self.metrics.count(metrics::ATTEMPTS, ("result", "error"));
                self.teller.failed(&pod, &why);
                self.assumed.remove(&pod.uid);
                if let Some(pod) = self.snapshot.remove_pod(&pod.uid) {
                    self.queue.heed(Change::Left(&pod), &self.snapshot, now);
                }
                self.queue.failed(&pod.uid);
            }
        }
    }

    /// Asks the server about bindings that the cache does not show.
    fn ask(&mut self) {
        let now = self.now();
        for assumed in self.assumed.values_mut().filter(|a| a.ask_at.is_some_and(|at| at <= now)) {
            assumed.ask_at = None;
            let (client, pod) = (self.teller.client.clone(), assumed.pod.clone());
            self.tasks.spawn(async move {
                let bound = bind::find(&client, &pod, "the binding is lost", false).await;
                Back::Bound(pod, bound)
            });
        }
    }
}
