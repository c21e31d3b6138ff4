//! What to do next.
//!
//! ```text
//!  held ──────> prepare ──> sandbox ──> init containers ──> app containers ──> (all have ended) finish
//!   (another pod   (cgroup,     │ dead: stop all, make anew      │ ended: back-off, again
//!    in the way)    volumes)    └────────────────────────────────┘
//!  end asked for: preStop hooks ──> containers stop ──> sandbox stops ──> all is removed ──> Forget
//! ```
//! `run` walks a pod towards running, `stop` towards nothing; both only ever add actions whose objects are idle.

mod init;
mod run;
mod start;
mod stop;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

use crate::action::{Action, Object, PodAction, Wait};
use crate::admit::{self, Hold};
use crate::backoff;
use crate::desired::{Desired, DesiredPod};
use crate::observed::{Container, Image, Node, Observed, ObservedPod};
use crate::probe::{self, Target};
use crate::resize;
use crate::status::{self, Waiting};

/// What to do, and how things stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Actions to begin now, in any order. None is on an object that is being acted on.
    pub actions: Vec<PodAction>,
    /// The uids of pods that are granted the resources that they want.
    pub granted: Vec<String>,
    /// Every desired pod by uid.
    pub pods: BTreeMap<String, PodView>,
    /// When to plan again if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// How a pod stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodView {
    /// Its status for the API.
    pub status: PodStatus,
    /// What it waits for.
    pub waits: Vec<Wait>,
    /// The probes to run now.
    pub probes: Vec<Target>,
}

/// Decides what to do next for all pods. Applying the actions and planning again yields none.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let holds = admit::holds(desired, observed);
    let nothing = ObservedPod::default();
    let mut images = BTreeSet::new();
    for pod in &desired.pods {
        let seen = observed.pods.get(&pod.uid).unwrap_or(&nothing);
        let mut planner = Planner::new(pod, seen, observed, now);
        if let Some(wanted) = pod.wanted.as_ref().filter(|_| pod.end.is_none()) {
            planner.resize_held = resize::refusal(wanted, pod, desired, observed);
            plan.granted.extend(planner.resize_held.is_none().then(|| pod.uid.clone()));
        }
        match holds.get(&pod.uid) {
            Some(Hold::Wait(hold)) if pod.end.is_none() => planner.hold(hold),
            Some(Hold::Refuse(why)) if pod.end.is_none() => planner.refused = Some(why.clone()),
            _ => planner.walk(),
        }
        for action in std::mem::take(&mut planner.actions) {
            let shared =
                matches!(&action, Action::EnsureImage { image, .. } if !images.insert(image.clone()));
            if !shared {
                plan.actions.push(PodAction { uid: pod.uid.clone(), action });
            }
        }
        plan.wake_at = earlier(plan.wake_at, planner.wake_at);
        plan.pods.insert(pod.uid.clone(), planner.view());
    }
    plan
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The plan of one pod in the making.
struct Planner<'a> {
    desired: &'a DesiredPod,
    seen: &'a ObservedPod,
    images: &'a BTreeMap<String, Image>,
    node: &'a Node,
    now: Timestamp,
    actions: Vec<Action>,
    waits: Vec<Wait>,
    /// Why containers wait, by name.
    waiting: BTreeMap<String, Waiting>,
    /// Why the pod as a whole does not go on: reason and message.
    trouble: Option<Waiting>,
    /// Set when the pod may not be started at all yet.
    held: Option<Waiting>,
    /// Set when it never may.
    refused: Option<Waiting>,
    /// Why the resources that it wants are not granted.
    resize_held: Option<Waiting>,
    /// A container does not have what it was granted yet; with the reason if that has failed.
    resizing: Option<Waiting>,
    wake_at: Option<Timestamp>,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a DesiredPod, seen: &'a ObservedPod, observed: &'a Observed, now: Timestamp) -> Self {
        Self {
            desired,
            seen,
            images: &observed.images,
            node: &observed.node,
            now,
            actions: Vec::new(),
            waits: Vec::new(),
            waiting: BTreeMap::new(),
            trouble: None,
            held: None,
            refused: None,
            resize_held: None,
            resizing: None,
            wake_at: None,
        }
    }

    fn walk(&mut self) {
        match self.desired.end {
            Some(end) => self.terminate(end),
            None => self.run(),
        }
    }

    /// The pod may not start yet.
    fn hold(&mut self, hold: &Waiting) {
        self.wait("pod", &hold.message, None);
        self.held = Some(hold.clone());
    }

    fn view(self) -> PodView {
        let parts = status::Parts {
            desired: self.desired,
            seen: self.seen,
            node: self.node,
            waiting: &self.waiting,
            trouble: self.trouble.as_ref(),
            held: self.held.as_ref(),
            refused: self.refused.as_ref(),
            resize_held: self.resize_held.as_ref(),
            resizing: self.resizing.as_ref(),
            now: self.now,
        };
        let status = status::of(&parts);
        let mut probes = match self.outcome() {
            Some(_) => Vec::new(),
            None => probe::targets(&self.desired.pod, self.seen),
        };
        // Who is about to go may still serve those who have nobody else.
        probes.retain(|target| self.desired.end.is_none() || target.kind == probe::Kind::Readiness);
        PodView { status, waits: self.waits, probes }
    }

    /// Adds an action unless its object is busy or has to wait after a failure. Returns that failure.
    fn act(&mut self, action: Action) -> Option<&'a crate::observed::Failure> {
        let object = action.object();
        let failure = self.seen.failures.get(&object);
        if self.busy(&object) {
            self.wait(&object.to_string(), "being worked on", None);
            return failure;
        }
        if let Some(failure) = failure {
            let retry_at = backoff::retry_at(failure);
            if backoff::waits(self.now, failure.at, retry_at) {
                let what = format!("next try after {}: {}", failure.reason, failure.message);
                self.wait(&object.to_string(), &what, Some(retry_at));
                return Some(failure);
            }
        }
        self.actions.push(action);
        failure
    }

    fn busy(&self, object: &Object) -> bool {
        self.seen.in_flight.contains(object) || self.actions.iter().any(|a| a.object() == *object)
    }

    fn wait(&mut self, who: &str, what: &str, until: Option<Timestamp>) {
        self.wake_at = earlier(self.wake_at, until);
        self.waits.push(Wait { who: who.to_owned(), what: what.to_owned(), until });
    }

    /// The newest attempt at a container if it is in this sandbox.
    fn current(&self, name: &str, sandbox: &str) -> Option<&'a Container> {
        self.seen.latest(name).filter(|c| c.sandbox == sandbox)
    }

    /// How the pod ended, if it will not run any more.
    fn outcome(&self) -> Option<status::Outcome> {
        status::outcome(self.desired, self.seen, self.now)
    }
}

#[cfg(test)]
mod tests;
