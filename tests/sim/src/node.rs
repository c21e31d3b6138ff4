//! A node: a machine with a runtime and a disk, and on it an agent that decides by `agent_core::plan` and tells the API
//! server, as the real one does.

mod api;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Desired, DesiredPod, Observed, ObservedPod, PodAction, Presence};
use fastrand::Rng;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

use crate::cache::Cache;
use crate::runtime::Runtime;
use crate::server::{Change, Of, Server};
use crate::time::{Now, seconds};

/// How many pods it takes.
const PODS: i64 = 20;
const READS: [Of; 2] = [("", "nodes"), ("", "pods")];
/// Which of them is of the pods.
pub(crate) const PODS_WATCH: usize = 1;

/// What is told of a pod.
struct Told {
    namespace: String,
    name: String,
    status: PodStatus,
    over: bool,
    /// When to look whether there is something to tell.
    due: Option<Duration>,
    failures: u32,
}

/// What an agent knows until it crashes.
pub(crate) struct Agent {
    pub(crate) cache: Cache,
    desired: Desired,
    observed: Observed,
    bound: BTreeSet<String>,
    over: BTreeSet<String>,
    /// What is being done, and until when.
    under_way: Vec<(Duration, PodAction)>,
    told: BTreeMap<String, Told>,
    plan_at: Option<Duration>,
    beat_at: Duration,
    /// It has heard of all its pods.
    synced: bool,
}

/// The node.
pub(crate) struct Node {
    pub(crate) name: String,
    /// How much of it is for pods, in thousandths of a core.
    cpu: i64,
    pub(crate) runtime: Runtime,
    /// None while it does not run.
    pub(crate) agent: Option<Agent>,
    /// What is written of pods, with their statuses.
    disk: Vec<(DesiredPod, Option<PodStatus>)>,
    /// It reaches nobody until then.
    pub(crate) cut_until: Duration,
    /// It is off until then.
    pub(crate) off_until: Option<Duration>,
    /// How far its clock is ahead, in seconds.
    pub(crate) ahead: i64,
    /// What was written is lost, and the API server has not been heard since: nobody knows what is here.
    forgot: bool,
    /// A law that it has broken.
    pub(crate) broken: Option<String>,
}

enum Step {
    See(usize),
    Sync,
    Pass,
    Plan,
    Finish(usize),
    Report(String),
    Beat,
}

impl Node {
    /// A machine without anything.
    pub(crate) fn new(number: u8, cpu: i64) -> Self {
        Self {
            name: format!("n{number}"),
            cpu,
            runtime: Runtime::new(number),
            agent: None,
            disk: Vec::new(),
            cut_until: Duration::ZERO,
            off_until: None,
            ahead: 0,
            forgot: false,
            broken: None,
        }
    }

    /// The agent begins, with what the disk has.
    pub(crate) fn start(&mut self, now: Now) {
        let mut agent = Agent {
            cache: Cache::default(),
            desired: Desired::default(),
            observed: Observed::default(),
            bound: BTreeSet::new(),
            over: BTreeSet::new(),
            under_way: Vec::new(),
            told: BTreeMap::new(),
            plan_at: Some(now.since),
            beat_at: now.since,
            synced: false,
        };
        agent.observed.node = work::machine(&self.name, self.cpu);
        for (pod, status) in &self.disk {
            let seen = ObservedPod {
                status: status.clone(),
                volumes: Presence::Unknown,
                cgroup: Presence::Unknown,
                ..ObservedPod::default()
            };
            agent.observed.pods.insert(pod.uid.clone(), seen);
            agent.desired.pods.push(pod.clone());
        }
        self.agent = Some(agent);
    }

    /// The agent hears of the API server for the first time.
    fn sync(&mut self, server: &mut Server, now: Now) {
        let Some(agent) = &mut self.agent else { return };
        agent.cache = Cache::new(&READS, Some(&self.name), server);
        let events = agent.cache.list_all(server);
        agent.take(&events, &self.name, now);
        agent.synced(now);
        self.adopt(now);
        self.forgot = false;
        server.say(|| format!("{} has {} pods to look after", self.name, events.len()));
    }

    /// The agent dies; of what it was doing some has happened.
    pub(crate) fn crash(&mut self, now: Now, rng: &mut Rng) {
        let Some(agent) = self.agent.take() else { return };
        for (_, PodAction { uid, action }) in agent.under_way {
            if rng.bool() {
                self.act(&uid, &action, now, rng);
            }
        }
    }

    /// The machine dies, and its disk with it if that is to be.
    pub(crate) fn fail(&mut self, until: Duration, lost: bool, now: Timestamp) {
        self.agent = None;
        self.runtime.fail(now);
        self.off_until = Some(until);
        if lost {
            self.runtime.lose();
            self.disk.clear();
        }
    }

    /// What is written of pods is lost, though they run on.
    pub(crate) fn forget(&mut self) {
        self.disk.clear();
        self.forgot = true;
    }

    /// A watch broke.
    pub(crate) fn relist(&mut self, at: usize, server: &Server, now: Now) {
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.synced) else { return };
        let events = agent.cache.relist(at, server);
        agent.take(&events, &self.name, now);
    }

    fn steps(&self, server: &Server, now: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.off_until.is_some() {
            return steps;
        }
        if self.runtime.wake_at().is_some_and(|at| at <= now) {
            steps.push(Step::Pass);
        }
        let Some(agent) = &self.agent else { return steps };
        if agent.plan_at.is_some_and(|at| at <= now) {
            steps.push(Step::Plan);
        }
        let done = agent.under_way.iter().enumerate().filter(|(_, (at, _))| *at <= now);
        steps.extend(done.map(|(at, _)| Step::Finish(at)));
        if self.cut_until <= now && !agent.synced {
            steps.push(Step::Sync);
        } else if self.cut_until <= now {
            steps.extend(agent.cache.behind(server, now).map(Step::See));
            let due = agent.told.iter().filter(|(_, told)| told.due.is_some_and(|at| at <= now));
            steps.extend(due.map(|(uid, _)| Step::Report(uid.clone())));
            if agent.beat_at <= now {
                steps.push(Step::Beat);
            }
        }
        steps
    }

    /// When there is something to do; now, if there is already.
    pub(crate) fn wake_at(&self, server: &Server, now: Duration) -> Option<Duration> {
        if let Some(until) = self.off_until {
            return Some(until);
        }
        if !self.steps(server, now).is_empty() {
            return Some(now);
        }
        let runtime = self.runtime.wake_at();
        let Some(agent) = &self.agent else { return runtime };
        let told = agent.told.values().filter_map(|told| told.due);
        let sync = (!agent.synced).then_some(now);
        let talk = told.chain([agent.beat_at]).chain(sync).chain(agent.cache.wake_at(server)).min();
        let talk = talk.map(|at| at.max(self.cut_until));
        let work = agent.under_way.iter().map(|(at, _)| *at);
        work.chain(agent.plan_at).chain(talk).chain(runtime).min()
    }

    /// Does one thing.
    pub(crate) fn step(&mut self, server: &mut Server, now: Now, rng: &mut Rng) {
        if self.off_until.is_some_and(|until| until <= now.since) {
            self.off_until = None;
            self.start(now);
            return server.say(|| format!("{} is on again", self.name));
        }
        let mut steps = self.steps(server, now.since);
        if steps.is_empty() {
            return;
        }
        match (steps.swap_remove(rng.usize(..steps.len())), &mut self.agent) {
            (Step::Pass, _) => {
                let ended = self.runtime.pass(now);
                self.look(now.since);
                server.say(|| format!("{}: {ended:?} end", self.name));
            }
            (Step::Sync, _) => self.sync(server, now),
            (Step::Plan, _) => self.plan(server, now, rng),
            (Step::Finish(at), _) => self.finish(at, server, now, rng),
            (Step::See(at), Some(agent)) => {
                let events = agent.cache.see(at, server, rng.usize(1..8));
                agent.take(&events, &self.name, now);
                server.say(|| format!("{} sees {} of {}", self.name, events.len(), agent.cache.of(at)));
            }
            (Step::Report(uid), Some(agent)) => agent.report(&uid, &self.name, server, now, rng),
            (Step::Beat, Some(agent)) => {
                agent.beat_at = now.since + seconds(10);
                api::beat((&self.name, self.cpu), server, now, rng);
            }
            (Step::See(_) | Step::Report(_) | Step::Beat, None) => {}
        }
    }

    /// The runtime tells that something has happened.
    pub(crate) fn look(&mut self, now: Duration) {
        if let Some(agent) = &mut self.agent {
            agent.plan_at = Some(now);
        }
    }

    /// What the runtime has of a pod that the agent does not know, though it could.
    pub(crate) fn forgotten(&self) -> Option<&str> {
        let agent = self.agent.as_ref().filter(|_| !self.forgot)?;
        let is_known = |uid: &String| agent.desired.pods.iter().any(|pod| pod.uid == *uid);
        self.runtime.pods.keys().find(|uid| !is_known(uid)).map(String::as_str)
    }

    /// The uids of pods that the agent has or that are left in the runtime.
    pub(crate) fn has(&self) -> BTreeSet<&str> {
        let desired = self.agent.iter().flat_map(|agent| &agent.desired.pods).map(|pod| pod.uid.as_str());
        desired.chain(self.runtime.pods.keys().map(String::as_str)).collect()
    }
}

impl Agent {
    /// Takes news of the API server.
    fn take(&mut self, events: &[Change], node: &str, now: Now) {
        for event in events {
            match event.resource.plural {
                "nodes" => self.observed.node.object = api::concern(event.new.as_deref()),
                _ => self.pod(event, node, now),
            }
        }
        self.plan_at = Some(now.since);
    }

    fn want(&mut self, pod: Arc<k8s_openapi::api::core::v1::Pod>, uid: &str, status: PodStatus, now: Now) {
        if let Some(seen) = self.observed.pods.get_mut(uid) {
            seen.hear(&status, now.clock);
        }
        if self.over.contains(uid) || self.desired.pods.iter().any(|p| p.uid == uid) {
            return;
        }
        let seen = ObservedPod {
            volumes: Presence::Unknown,
            cgroup: Presence::Unknown,
            status: Some(status),
            ..ObservedPod::default()
        };
        self.observed.pods.insert(uid.to_owned(), seen);
        let (uid, seen_at) = (uid.to_owned(), now.clock);
        self.desired.pods.push(DesiredPod { uid, pod, wanted: None, seen_at, end: None });
    }
}
