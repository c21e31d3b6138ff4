//! The process of the scheduler: as `control`'s loop, but one thing at a time, and whoever holds the dice says which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controllers::Mutation;
use fastrand::Rng;
use proto_kube::object;
use scheduler::queue::{Change as News, Queue};
use scheduler::{Decision, Pod, Snapshot, schedule};
use serde_json::json;

use crate::cache::Cache;
use crate::server::{Change, Of, Server, Trouble, said, served};
use crate::time::{Now, seconds};

const READS: [Of; 11] = [
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

/// A pod that has a node by our decision, but not yet in the cache.
struct Assumed {
    pod: Arc<Pod>,
    /// When to ask the server; none while the binding is under way.
    ask_at: Option<Duration>,
}

/// The process.
pub(crate) struct Placer {
    pub(crate) cache: Cache,
    snapshot: Snapshot,
    queue: Queue,
    assumed: BTreeMap<String, Assumed>,
    binding: Vec<Arc<Pod>>,
    /// Something has happened since nobody was to be placed.
    awake: bool,
}

enum Step {
    See(Of),
    Place,
    Bind(usize),
    Ask(String),
}

impl Placer {
    /// Starts it anew.
    pub(crate) fn new(server: &Server, now: Now) -> Self {
        let (cache, events) = Cache::new(&READS, None, server);
        let mut placer = Self {
            cache,
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            assumed: BTreeMap::new(),
            binding: Vec::new(),
            awake: true,
        };
        placer.tell(&events, now);
        placer
    }

    /// A watch broke.
    pub(crate) fn relist(&mut self, of: Of, server: &Server, now: Now) {
        let events = self.cache.relist(of, server);
        self.tell(&events, now);
    }

    fn steps(&self, server: &Server, now: Duration) -> Vec<Step> {
        let mut steps: Vec<Step> = self.cache.behind(server, now).into_iter().map(Step::See).collect();
        if self.awake || self.queue.wake_at().is_some_and(|at| at <= now) {
            steps.push(Step::Place);
        }
        steps.extend((0..self.binding.len()).map(Step::Bind));
        let due = self.assumed.iter().filter(|(_, a)| a.ask_at.is_some_and(|at| at <= now));
        steps.extend(due.map(|(uid, _)| Step::Ask(uid.clone())));
        steps
    }

    /// When there is something to do; now, if there is already.
    pub(crate) fn wake_at(&self, server: &Server, now: Duration) -> Option<Duration> {
        if !self.steps(server, now).is_empty() {
            return Some(now);
        }
        let asks = self.assumed.values().filter_map(|a| a.ask_at);
        asks.chain(self.queue.wake_at()).chain(self.cache.wake_at(server)).min()
    }

    /// Does one thing; what, for people.
    pub(crate) fn step(&mut self, server: &mut Server, now: Now, rng: &mut Rng) -> Option<String> {
        let mut steps = self.steps(server, now.since);
        if steps.is_empty() {
            return None;
        }
        match steps.swap_remove(rng.usize(..steps.len())) {
            Step::See(of) => {
                let events = self.cache.see(of, server, rng.usize(1..8));
                self.tell(&events, now);
                Some(format!("scheduler sees {} of {}", events.len(), of.1))
            }
            Step::Place => self.place(now),
            Step::Bind(at) => Some(self.bind(at, server, now, rng)),
            Step::Ask(uid) => {
                let assumed = self.assumed.get_mut(&uid)?;
                assumed.ask_at = None;
                let pod = assumed.pod.clone();
                self.find(server, &pod, now);
                Some(format!("scheduler asks for {}", pod.name))
            }
        }
    }

    fn tell(&mut self, events: &[Change], now: Now) {
        for event in events {
            self.heed(event, now.since);
        }
        self.awake = true;
    }

    fn heed(&mut self, event: &Change, now: Duration) {
        let (old, new) = (event.old.as_deref(), event.new.as_deref());
        let Some(object) = new.or(old) else { return };
        match (event.resource.plural, &event.new) {
            ("pods", None) => self.gone(object::uid(object), now),
            ("pods", Some(new)) => {
                if let Some(old) = old.filter(|old| object::uid(old) != object::uid(new)) {
                    self.gone(object::uid(old), now);
                }
                let labels = old.map(|old| old["metadata"]["labels"].clone());
                let is_news = labels.is_none_or(|labels| labels != new["metadata"]["labels"]);
                self.pod(Arc::new(Pod::new(new.clone())), is_news, now);
            }
            ("nodes", None) => {
                self.snapshot.remove_node(object::name(object));
                self.queue.heed(News::NodeGone, &self.snapshot, now);
            }
            ("nodes", Some(new)) if old.is_none_or(|old| Snapshot::differs(old, new)) => {
                self.snapshot.set_node(new);
                self.queue.heed(News::Node(object::name(new)), &self.snapshot, now);
            }
            ("namespaces", _) => self.queue.heed(News::Namespace, &self.snapshot, now),
            ("persistentvolumeclaims" | "persistentvolumes" | "storageclasses", _) => {
                self.queue.heed(News::Volumes, &self.snapshot, now);
            }
            _ => {}
        }
    }

    fn pod(&mut self, pod: Arc<Pod>, is_news: bool, now: Duration) {
        let uid = pod.uid.clone();
        if pod.is_over() {
            return self.gone(&uid, now);
        }
        if pod.node.is_empty() {
            match pod.is_terminating() {
                true => drop(self.queue.remove(&uid)),
                false => self.queue.set(pod, now),
            }
            return;
        }
        self.assumed.remove(&uid);
        self.queue.remove(&uid);
        let node = pod.node.clone();
        self.snapshot.set_pod(pod.clone(), &node);
        if is_news {
            self.queue.heed(News::Placed(&pod), &self.snapshot, now);
        }
    }

    fn gone(&mut self, uid: &str, now: Duration) {
        self.assumed.remove(uid);
        self.queue.remove(uid);
        self.snapshot.forget_nomination(uid);
        if let Some(pod) = self.snapshot.remove_pod(uid) {
            self.queue.heed(News::Left(&pod), &self.snapshot, now);
        }
    }

    fn place(&mut self, now: Now) -> Option<String> {
        let Some(pod) = self.queue.next(now.since) else {
            self.awake = false;
            return None;
        };
        if self.assumed.contains_key(&pod.uid) {
            return None;
        }
        match schedule(&self.snapshot, &self.cache, &pod) {
            Decision::Bind(node) => {
                let placed = Arc::new(pod.on(&node));
                self.snapshot.set_pod(placed.clone(), &node);
                self.assumed.insert(pod.uid.clone(), Assumed { pod: placed.clone(), ask_at: None });
                self.binding.push(placed);
                Some(format!("scheduler gives {} to {node}", pod.name))
            }
            Decision::Unschedulable(refusal) => {
                self.queue.refused(&pod.uid, refusal.filters.clone(), now.since);
                Some(format!("scheduler leaves {}: {}", pod.name, refusal.message))
            }
        }
    }

    fn bind(&mut self, at: usize, server: &mut Server, now: Now, rng: &mut Rng) -> String {
        let pod = self.binding.swap_remove(at);
        let body = json!({
            "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            "target": {"kind": "Node", "name": pod.node},
        });
        let place = (pod.namespace.clone(), pod.name.clone());
        let mutation = Mutation::Post(served("", "pods"), place, "binding", body);
        let answer = server.ask("scheduler", &mutation, now.clock, rng);
        let line = format!("scheduler binds {} to {} -> {}", pod.name, pod.node, said(&answer));
        let refused = |code: u16| !matches!(code, 404 | 409 | 500..);
        match answer {
            Ok(_) => self.here(&pod, now),
            Err(Trouble::Status(status)) if refused(status.code) => self.free(&pod, now),
            Err(_) => self.find(server, &pod, now),
        }
        line
    }

    /// Finds out where a pod is.
    fn find(&mut self, server: &Server, pod: &Pod, now: Now) {
        match server.get(("", "pods"), &pod.namespace, &pod.name) {
            Some(found) if object::uid(&found) == pod.uid => {
                match object::text(&found, &["spec", "nodeName"]) {
                    "" => self.free(pod, now),
                    _ => self.here(pod, now),
                }
            }
            _ => self.gone(&pod.uid, now.since),
        }
    }

    fn here(&mut self, pod: &Pod, now: Now) {
        if let Some(assumed) = self.assumed.get_mut(&pod.uid) {
            assumed.ask_at = Some(now.since + seconds(15));
        }
    }

    fn free(&mut self, pod: &Pod, now: Now) {
        if self.assumed.remove(&pod.uid).is_none() {
            return;
        }
        if let Some(pod) = self.snapshot.remove_pod(&pod.uid) {
            self.queue.heed(News::Left(&pod), &self.snapshot, now.since);
        }
        self.queue.failed(&pod.uid);
        self.awake = true;
    }
}
