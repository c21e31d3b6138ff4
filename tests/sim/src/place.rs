//! The process of the scheduler: as `control`'s loop, but one request at a time, and whoever holds the dice says which.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use controllers::{Key, Mutation};
use fastrand::Rng;
use proto_kube::object;
use scheduler::placing::{Bound, HEEDED, Placing, READS, Task};
use scheduler::{Pod, Refusal};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::laws;
use crate::server::{Answer, Change, Server, Trouble, served};
use crate::time::Now;

const NAME: &str = "default-scheduler";
const WHO: &str = "scheduler";

/// Requests about a pod, one after the other.
struct Errand {
    pod: Arc<Pod>,
    todo: VecDeque<Mutation>,
    /// A binding; else a refusal that is told, with the room that is made.
    binds: bool,
    /// All that was asked for was done.
    is_done: bool,
    /// What the server has said to the first, if it was asked; and when that is known.
    answer: Option<Answer>,
    at: Duration,
}

/// The process.
pub(crate) struct Placer {
    pub(crate) cache: Cache,
    placing: Placing,
    errands: Vec<Errand>,
    /// Something has happened since nobody was to be placed.
    awake: bool,
}

enum Step {
    See(usize),
    Place,
    Go(usize),
    Ask,
}

impl Placer {
    /// Starts it anew.
    pub(crate) fn new(server: &mut Server, now: Now) -> Self {
        let cache = Cache::new(&READS, None, server);
        let placing = Placing::new(NAME.to_owned());
        let mut placer = Self { cache, placing, errands: Vec::new(), awake: true };
        (0..READS.len()).for_each(|at| placer.relist(at, server, now));
        placer
    }

    /// A watch broke.
    pub(crate) fn relist(&mut self, at: usize, server: &Server, now: Now) {
        let events = self.cache.relist(at, server);
        self.tell(at, &events, now);
    }

    fn tell(&mut self, at: usize, events: &[Change], now: Now) {
        for Change { resource, old, new } in events.iter().filter(|_| at < HEEDED) {
            self.placing.heed(resource.plural, old.as_deref(), new.as_ref(), now.since);
        }
        self.awake = true;
    }

    fn steps(&self, server: &Server, now: Duration) -> Vec<Step> {
        let mut steps: Vec<Step> = self.cache.behind(server, now).map(Step::See).collect();
        if self.awake || self.placing.queue().wake_at().is_some_and(|at| at <= now) {
            steps.push(Step::Place);
        }
        let due = self.errands.iter().enumerate().filter(|(_, errand)| errand.at <= now);
        steps.extend(due.map(|(at, _)| Step::Go(at)));
        if self.placing.ask_at().is_some_and(|at| at <= now) {
            steps.push(Step::Ask);
        }
        steps
    }

    /// When there is something to do; now, if there is already.
    pub(crate) fn wake_at(&self, server: &Server, now: Duration) -> Option<Duration> {
        if !self.steps(server, now).is_empty() {
            return Some(now);
        }
        let errands = self.errands.iter().map(|errand| errand.at);
        let own = errands.chain(self.placing.ask_at()).chain(self.placing.queue().wake_at());
        own.chain(self.cache.wake_at(server)).min()
    }

    /// Does one thing.
    pub(crate) fn step(&mut self, server: &mut Server, now: Now, rng: &mut Rng) {
        let mut steps = self.steps(server, now.since);
        if steps.is_empty() {
            return;
        }
        match steps.swap_remove(rng.usize(..steps.len())) {
            Step::See(at) => {
                let events = self.cache.see(at, server, rng.usize(1..8));
                self.tell(at, &events, now);
                server.say(|| format!("{WHO} sees {} of {}", events.len(), self.cache.of(at)));
            }
            Step::Place => self.place(server, now),
            Step::Go(at) => self.go(at, server, now, rng),
            Step::Ask => {
                for pod in self.placing.overdue(now.since) {
                    server.say(|| format!("{WHO} asks for {}", pod.name));
                    self.placing.bound(&pod, &find(server, &pod), now.since);
                }
            }
        }
    }

    fn place(&mut self, server: &mut Server, now: Now) {
        let Some(task) = self.placing.next(&self.cache, now.since) else {
            self.awake = false;
            return;
        };
        let (pod, todo, binds) = match task {
            Task::Bind(pod) => {
                server.say(|| format!("{WHO} gives {} to {}", pod.name, pod.node));
                let body = json!({
                    "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
                    "target": {"kind": "Node", "name": pod.node},
                });
                let todo = [Mutation::Post(served("", "pods"), place(&pod), "binding", body)].into();
                (pod, todo, true)
            }
            Task::Refuse(pod, refusal) => {
                server.say(|| format!("{WHO} leaves {}: {}", pod.name, refusal.message));
                if let Err(broken) = laws::lesser(&pod, &refusal) {
                    server.broken.get_or_insert(broken);
                }
                let todo = room(&pod, &refusal);
                (pod, todo, false)
            }
        };
        self.errands.push(Errand { pod, todo, binds, is_done: true, answer: None, at: now.since });
    }

    fn go(&mut self, at: usize, server: &mut Server, now: Now, rng: &mut Rng) {
        let errand = &mut self.errands[at];
        let Some(answer) = errand.answer.take() else {
            if let Some(request) = errand.todo.front() {
                errand.answer = Some(server.ask(WHO, request, now, rng));
                errand.at = now.since + server.takes(rng);
                return;
            }
            let errand = self.errands.swap_remove(at);
            return self.placing.told(&errand.pod.uid, errand.is_done);
        };
        errand.todo.pop_front();
        if !errand.binds {
            errand.is_done &= match answer {
                Ok(_) => true,
                Err(Trouble::Status(status)) => status.code == 404,
                Err(Trouble::Unanswered) => false,
            };
            return;
        }
        let bound = match answer {
            Ok(_) => Bound::Here { is_new: true },
            Err(Trouble::Status(status)) if !matches!(status.code, 404 | 409 | 500..) => {
                Bound::Free(status.message)
            }
            Err(_) => find(server, &errand.pod),
        };
        let errand = self.errands.swap_remove(at);
        self.placing.bound(&errand.pod, &bound, now.since);
    }
}

/// Finds out where a pod is.
fn find(server: &Server, pod: &Pod) -> Bound {
    let found = server.get(("", "pods"), &pod.namespace, &pod.name);
    match found.filter(|found| object::uid(found) == pod.uid) {
        None => Bound::Gone,
        Some(found) => match object::text(&found, &["spec", "nodeName"]) {
            "" => Bound::Free("the binding is lost".to_owned()),
            node if node == pod.node => Bound::Here { is_new: false },
            _ => Bound::Elsewhere,
        },
    }
}

fn place(pod: &Pod) -> Key {
    (pod.namespace.clone(), pod.name.clone())
}

/// The requests that a refusal asks for: others have to go, and the pod waits for that.
fn room(pod: &Pod, refusal: &Refusal) -> VecDeque<Mutation> {
    let pods = served("", "pods");
    let tell = |pod: &Pod, status: Value| {
        Mutation::Merge(
            pods,
            place(pod),
            Some("status"),
            json!({"metadata": {"uid": pod.uid}, "status": status}),
        )
    };
    let mut todo = VecDeque::new();
    if let Some(preemption) = &refusal.preemption {
        todo.extend(preemption.displaced.iter().map(|pod| tell(pod, json!({"nominatedNodeName": null}))));
        for victim in preemption.victims.iter().filter(|victim| !victim.is_terminating()) {
            let reason =
                json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"});
            let known = object::items(&victim.object, &["status", "conditions"]);
            let others = known.filter(|c| c["type"] != reason["type"]).cloned();
            let conditions: Vec<Value> = others.chain([reason.clone()]).collect();
            todo.push_back(tell(victim, json!({"conditions": conditions})));
            let options = json!({"preconditions": {"uid": victim.uid}});
            todo.push_back(Mutation::Delete(pods, place(victim), options));
        }
    }
    match &refusal.preemption {
        Some(preemption) => todo.push_back(tell(pod, json!({"nominatedNodeName": preemption.node}))),
        None if refusal.waits || pod.nominated.is_empty() => {}
        None => todo.push_back(tell(pod, json!({"nominatedNodeName": null}))),
    }
    todo
}
