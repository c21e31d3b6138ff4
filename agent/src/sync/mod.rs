//! The one loop. This task owns all state; everybody else sends it happenings.
//!
//! ```text
//!  files ──────┐                          ┌──> checkpoints ──> effects (a task each) ──┐
//!  CRI events ─┤                          │                                            │
//!  audit ──────┼──> happening ──> state ──┼──> plan ──> probers                        │
//!  probers ────┤                          │                                            │
//!  effects ────┘                          └──> view (server)                           │
//!       ^───────────────────────── result and a fresh look at the pod ─────────────────┘
//! ```
//! An object of a pod is busy from the start of an effect until its result *and* a look at the pod that began after
//! it are in; so no decision is made on what an effect has made stale. After a crash nothing is busy: the first look
//! shows how far the effects got, and every action may be repeated.

mod apply;
mod cluster;
mod persist;
mod source;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::probe::Kind;
use agent_core::{
    Action, Desired, DesiredPod, Object, Observed, ObservedPod, Plan, Verdict, plan, resources,
};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoint;
use crate::effect::{EffectFailed, Effects, Order, Outcome};
use crate::observe::{Look, Observer};
use crate::prober::{Probers, Wanted};
use crate::source::{Problem, Update, api};

pub(crate) use cluster::Cluster;
pub(crate) use view::{PodEntry, View};

/// How often all pods are looked at while the runtime tells its events.
const AUDIT: Duration = Duration::from_secs(10);
/// How often when it does not.
const AUDIT_BLIND: Duration = Duration::from_secs(1);
/// How often before the first look has succeeded: the runtime may just be starting.
const AUDIT_FIRST: Duration = Duration::from_millis(50);
/// How long a changed status may wait for its checkpoint.
const STATUS_WRITE: Duration = Duration::from_secs(1);

/// Something happened.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The source has changed.
    Source(Update),
    /// The API server's pods have changed.
    Api(api::Change),
    /// The node's object in the API, as far as pods care: its labels and taints.
    Node(serde_json::Value),
    /// Somebody has looked.
    Looked(Look),
    /// The runtime's facts: its name, and why the network is not ready.
    Runtime { name: String, network_problem: Option<String> },
    /// Something about a pod may have changed.
    Hint(String),
    /// The runtime's events can be heard, or not.
    Listening(bool),
    /// A probe's verdict has changed.
    Probed { uid: String, id: String, kind: Kind, verdict: Verdict },
    /// A pod takes more than it may.
    Evict { uid: String, message: String },
    /// Config maps or secrets have changed that these pods use.
    Objects(BTreeSet<String>),
    /// An effect has ended, and here is how its pod looks now.
    Done { uid: String, action: Action, result: Result<Outcome, EffectFailed>, look: Option<Look> },
}

/// What the loop remembers of a pod beside what is desired and observed.
#[derive(Debug, Default)]
struct Book {
    /// The number of the last look that was used.
    look: u64,
    /// A look at this pod is under way; another is wanted after it.
    looking: bool,
    look_again: bool,
    /// Sandboxes that were stopped.
    stopped: BTreeSet<String>,
    /// What is on disk.
    written: Option<Checkpoint>,
    /// Something changed that must be on disk before the next effect.
    urgent: bool,
    /// The status changed.
    dirty: bool,
    /// Its status has been told the API server since this agent started.
    reported: bool,
}

/// The loop's state.
pub(crate) struct Sync {
    effects: Arc<Effects>,
    observer: Observer,
    desired: Desired,
    observed: Observed,
    books: BTreeMap<String, Book>,
    /// What the source said last; `None` until it has spoken.
    source: Option<Update>,
    /// The API server, if there is one.
    cluster: Option<Cluster>,
    /// The runtime has said how it is.
    runtime_known: bool,
    /// The first look at everything is in.
    looked: bool,
    /// Looks up to this number may still show pods that are gone.
    stale_look: u64,
    listening: bool,
    /// An audit is under way.
    auditing: Arc<AtomicBool>,
    reported: BTreeSet<Problem>,
    probers: Probers,
    tasks: JoinSet<()>,
    happenings: mpsc::UnboundedSender<Happening>,
    view: watch::Sender<Arc<View>>,
    write_at: Option<tokio::time::Instant>,
}

impl Sync {
    pub(crate) fn new(
        effects: Arc<Effects>,
        observer: Observer,
        node: agent_core::Node,
        happenings: mpsc::UnboundedSender<Happening>,
        view: watch::Sender<Arc<View>>,
        cluster: Option<Cluster>,
    ) -> Self {
        let probers = Probers::new(effects.clone(), happenings.clone());
        Self {
            effects,
            observer,
            desired: Desired::default(),
            observed: Observed { node, ..Observed::default() },
            books: BTreeMap::new(),
            source: None,
            cluster,
            runtime_known: false,
            looked: false,
            stale_look: 0,
            listening: false,
            auditing: Arc::default(),
            reported: BTreeSet::new(),
            probers,
            tasks: JoinSet::new(),
            happenings,
            view,
            write_at: None,
        }
    }

    /// Runs until told to stop. What effects have begun is left to the next start.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Happening>,
        shutdown: CancellationToken,
    ) -> bool {
        let mut audit = tokio::time::Instant::now();
        loop {
            let wake = self.step().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                happening = inbox.recv() => {
                    let Some(happening) = happening else { break };
                    self.take(happening);
                    while let Ok(happening) = inbox.try_recv() {
                        self.take(happening);
                    }
                }
                () = tokio::time::sleep_until(audit) => {
                    self.audit();
                    audit = tokio::time::Instant::now() + self.audit_period();
                }
                () = sleep_until(wake) => {}
            }
            while self.tasks.try_join_next().is_some() {}
        }
        self.flush(true).await;
        self.looked && self.source.is_some() && self.desired.pods.is_empty()
    }

    /// Decides and begins what is to be done. Returns when to do so again.
    async fn step(&mut self) -> Option<tokio::time::Instant> {
        if !self.looked || !self.runtime_known || self.source.is_none() {
            return None;
        }
        let clock = self.effects.clock;
        let now = clock.now();
        let mut plan = plan(&self.desired, &self.observed, now);
        while self.grant(&plan) {
            plan = agent_core::plan(&self.desired, &self.observed, now);
        }
        self.note(&plan);
        self.flush(false).await;
        for pod_action in &plan.actions {
            self.begin(&pod_action.uid, &pod_action.action);
        }
        self.probe(&plan);
        self.publish(&plan);
        let wake = plan.wake_at.map(|at| clock.instant(at));
        [wake, self.write_at].into_iter().flatten().min()
    }

    /// Gives pods the resources that they are granted; true when there are such pods.
    fn grant(&mut self, plan: &Plan) -> bool {
        for pod in self.desired.pods.iter_mut().filter(|p| plan.granted.contains(&p.uid)) {
            pod.pod = pod.wanted.take().unwrap_or_else(|| pod.pod.clone());
            self.books.entry(pod.uid.clone()).or_default().urgent = true;
        }
        !plan.granted.is_empty()
    }

    /// Keeps the new statuses, and records what their changes tell.
    fn note(&mut self, plan: &Plan) {
        let mut told = Vec::new();
        for pod in &self.desired.pods {
            let Some(view) = plan.pods.get(&pod.uid) else { continue };
            let seen = self.observed.pods.entry(pod.uid.clone()).or_default();
            let book = self.books.entry(pod.uid.clone()).or_default();
            let reported = std::mem::replace(&mut book.reported, true);
            let changed = seen.status.as_ref() != Some(&view.status);
            if changed || !reported {
                told.push(pod.uid.clone());
            }
            if !changed {
                continue;
            }
            let subject = crate::events::Subject::of(&pod.pod, &pod.uid);
            for event in agent_core::event::between(pod, seen.status.as_ref(), &view.status) {
                self.effects.events.record(&subject, event);
            }
            let phase =
                |s: &Option<k8s_openapi::api::core::v1::PodStatus>| s.as_ref().and_then(|s| s.phase.clone());
            let ended = matches!(view.status.phase.as_deref(), Some("Succeeded" | "Failed"));
            book.urgent |= ended && phase(&seen.status) != view.status.phase;
            book.dirty = true;
            self.write_at.get_or_insert_with(|| tokio::time::Instant::now() + STATUS_WRITE);
            seen.status = Some(view.status.clone());
        }
        for uid in told {
            self.report_pod(&uid);
        }
    }

    /// A change of a pod is on disk soon.
    fn write_soon(&mut self) {
        self.write_at.get_or_insert_with(|| tokio::time::Instant::now() + STATUS_WRITE);
    }

    /// Begins an effect.
    fn begin(&mut self, uid: &str, action: &Action) {
        let Some(pod) = self.desired.pods.iter().find(|p| p.uid == uid) else { return };
        let seen = self.observed.pods.entry(uid.to_owned()).or_default();
        match action.object() {
            Object::Image(image) => self.observed.images.entry(image).or_default().in_flight = true,
            _ => seen.begin(action, self.effects.clock.now()),
        }
        if matches!(action, Action::PrepareVolumes | Action::UpdateVolumes) {
            // What changes from now on may be seen by the effect, or not.
            (seen.volumes_of, seen.volumes_due) = (Some(pod.pod.clone()), None);
        }
        let newest = seen.newest_sandbox();
        let order = Order {
            uid: uid.to_owned(),
            pod: pod.pod.clone(),
            action: action.clone(),
            pod_ips: newest.map(|s| s.ips.clone()).unwrap_or_default(),
            sandbox_attempt: newest.map_or(0, |s| s.attempt),
            target: target(&pod.pod, seen, action),
            class_shares: self.class_shares(pod),
            node: self.observed.node.clone(),
        };
        tracing::debug!(pod.uid = %uid, ?action, "begin");
        let (effects, observer, happenings) =
            (self.effects.clone(), self.observer.clone(), self.happenings.clone());
        self.tasks.spawn(async move {
            let result = effects.run(&order).await;
            if let Action::ResizeContainer { id, .. } = &order.action {
                observer.forget(id);
            }
            let look = match changes_cri(&order.action) {
                true => Some(look_until_seen(&observer, &order.uid).await),
                false => None,
            };
            // The loop may have ended.
            let _ = happenings.send(Happening::Done { uid: order.uid, action: order.action, result, look });
        });
    }

    /// What the pods of this pod's class weigh together, those that are ending left out.
    fn class_shares(&self, pod: &DesiredPod) -> i64 {
        let staying = self.desired.pods.iter().filter(|p| p.end.is_none());
        resources::class_shares(resources::qos(&pod.pod), staying.map(|p| &*p.pod))
    }

    fn probe(&mut self, plan: &Plan) {
        let mut wanted = Vec::new();
        for pod in &self.desired.pods {
            let (Some(view), Some(seen)) = (plan.pods.get(&pod.uid), self.observed.pods.get(&pod.uid)) else {
                continue;
            };
            let ip = match agent_core::pod::host_network(&pod.pod) {
                true => self.observed.node.ips.first().copied(),
                false => seen.newest_sandbox().and_then(|s| s.ips.first().copied()),
            };
            wanted.extend(view.probes.iter().map(|target| Wanted {
                uid: pod.uid.clone(),
                pod: pod.pod.clone(),
                ip,
                health: seen.health.get(&target.id).cloned().unwrap_or_default(),
                target: target.clone(),
            }));
        }
        self.probers.reconcile(wanted);
    }

    fn audit_period(&self) -> Duration {
        match (self.looked, self.listening) {
            (false, _) => AUDIT_FIRST,
            (true, false) => AUDIT_BLIND,
            (true, true) => AUDIT,
        }
    }

    /// Looks at everything. One audit at a time.
    fn audit(&mut self) {
        if self.auditing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (observer, happenings, auditing) =
            (self.observer.clone(), self.happenings.clone(), self.auditing.clone());
        self.tasks.spawn(async move {
            let look = observer.look(None).await;
            auditing.store(false, Ordering::Relaxed);
            if let Ok(look) = look {
                let _ = happenings.send(Happening::Looked(look));
            }
        });
    }
}

/// The id of the running container whose processes the one to be made sees; empty when it names none.
fn target(pod: &Pod, seen: &ObservedPod, action: &Action) -> String {
    let Action::CreateContainer { name, .. } = action else { return String::new() };
    let running = agent_core::pod::target(pod, name).and_then(|name| seen.latest(name));
    running.filter(|c| c.alive()).map(|c| c.id.clone()).unwrap_or_default()
}

/// Whether an action changes what the runtime has.
fn changes_cri(action: &Action) -> bool {
    !matches!(
        action,
        Action::PrepareCgroup
            | Action::PrepareVolumes
            | Action::UpdateVolumes
            | Action::EnsureImage { .. }
            | Action::PostStart { .. }
            | Action::PreStop { .. }
            | Action::HurryContainer { .. }
            | Action::TeardownVolumes
            | Action::RemoveCgroup
            | Action::Forget
    )
}

/// Looks at a pod until that succeeds: without it nothing more can be decided about the pod anyway.
async fn look_until_seen(observer: &Observer, uid: &str) -> Look {
    loop {
        match observer.look(Some(uid)).await {
            Ok(look) => return look,
            Err(status) => {
                tracing::debug!(pod.uid = %uid, "cannot look at the pod: {}", status.message());
                tokio::time::sleep(AUDIT_BLIND).await;
            }
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
