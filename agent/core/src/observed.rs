//! What is there: the node as the agent sees it at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, ContainerStatus, LinuxContainerUser, Pod, PodStatus};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Object};
use crate::quantity::Amount;
use crate::resources::Limits;
use crate::status::Outcome;
use crate::time::seconds_later;
use crate::{pod, status};

/// The node at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Pods by uid.
    pub pods: BTreeMap<String, ObservedPod>,
    /// Images by the name that pods give them. An image that nobody has looked for is not here.
    pub images: BTreeMap<String, Image>,
    /// The node itself.
    pub node: Node,
}

/// Facts about the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses, the primary one first.
    pub ips: Vec<IpAddr>,
    /// The runtime's name, which container ids in statuses begin with.
    pub runtime_name: String,
    /// Memory it has, in bytes.
    pub memory_bytes: i64,
    /// What of it is for pods, by resource (`cpu`, `memory`, `pods` ...); what is not here has no limit.
    pub allocatable: BTreeMap<String, Amount>,
    /// Sysctls that pods may set beside the safe ones; a `*` at the end stands for all that begin so.
    pub unsafe_sysctls: Vec<String>,
    /// The labels and taints of its object in the API; null while that is not known.
    pub object: serde_json::Value,
    /// Why pods with an own network cannot run now; `None` when they can.
    pub network_problem: Option<String>,
}

/// What is there of one pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedPod {
    /// Its sandboxes, in any order.
    pub sandboxes: Vec<Sandbox>,
    /// Its containers, all attempts, in any order.
    pub containers: Vec<Container>,
    /// Its volumes.
    pub volumes: Presence,
    /// The pod as it was when its volumes were written last: some tell of it.
    pub volumes_of: Option<Arc<Pod>>,
    /// When the volumes have to be written anew: what they are made from has changed, or a token grows old.
    pub volumes_due: Option<Timestamp>,
    /// Its cgroup.
    pub cgroup: Presence,
    /// What failed when last tried.
    pub failures: BTreeMap<Object, Failure>,
    /// What is being done right now.
    pub in_flight: BTreeSet<Object>,
    /// By when containers that are being stopped are killed, by name.
    pub stopping: BTreeMap<String, Timestamp>,
    /// Probe results by container id.
    pub health: BTreeMap<String, Health>,
    /// Lifecycle hooks by container id.
    pub hooks: BTreeMap<String, Hooks>,
    /// It takes more of the node than it may: when that was seen, and what, for people.
    pub evicted: Option<(Timestamp, String)>,
    /// How it has ended for the API, be it by somebody else's word.
    pub closed: Option<Outcome>,
    /// The status last given: transition times and what is kept after containers are gone come from it.
    pub status: Option<PodStatus>,
}

/// Whether something that the agent itself makes is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nothing is there.
    #[default]
    Absent,
    /// Something may be there: made by an agent that has ended since, or half torn down.
    Unknown,
    /// All of it is there.
    Ready,
}

/// A pod sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// It can take containers.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its addresses; none on the host's network.
    pub ips: Vec<IpAddr>,
    /// A stop has succeeded, so its network is gone.
    pub stopped: bool,
}

/// One attempt at a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// The id of the sandbox it is in.
    pub sandbox: String,
    /// How many attempts were before.
    pub attempt: u32,
    /// How many of the attempts right before ended too soon; see [`crate::backoff::crashes`].
    pub crashes: u32,
    /// Its image, as the pod names it.
    pub image: String,
    /// Its image, as the runtime does.
    pub image_ref: String,
    /// Its image, as the pod named it when this was made; none where nobody has written that down.
    pub made_of: Option<String>,
    /// As whom it runs, where the runtime says so.
    pub user: Option<LinuxContainerUser>,
    /// What the kernel was told about it, where the runtime says so.
    pub limits: Option<Limits>,
    /// What it does.
    pub state: State,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It waits for its start.
    Created,
    /// It runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// It has ended.
    Exited(Exit),
    /// The runtime cannot tell.
    Unknown,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its exit code.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`.
    pub reason: String,
    /// Its termination message.
    pub message: String,
}

/// An image that a pod asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The runtime's reference to it when it is on the node.
    pub reference: Option<String>,
    /// When it was last pulled.
    pub pulled_at: Option<Timestamp>,
    /// Why it could not be had when last tried, by the uid of the pod that tried: another's credentials may do.
    pub failures: BTreeMap<String, Failure>,
    /// It is being looked for or pulled right now.
    pub in_flight: bool,
}

/// Something failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For machines, as Kubernetes names it: `CreateContainerError`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// How many times in a row.
    pub count: u32,
}

/// What the probes of a container say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The startup probe.
    pub startup: Option<Verdict>,
    /// The liveness probe.
    pub liveness: Option<Verdict>,
    /// The readiness probe.
    pub readiness: Option<Verdict>,
}

/// A probe's result, after its thresholds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// It succeeds.
    pub ok: bool,
    /// Since when.
    pub at: Timestamp,
    /// What it said then.
    pub message: String,
}

/// The lifecycle hooks of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// After its start.
    pub post_start: HookState,
    /// Before its stop.
    pub pre_stop: HookState,
}

/// A hook's outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookState {
    /// It has not ended, or there is none.
    #[default]
    NotRun,
    /// It succeeded.
    Done,
    /// It failed.
    Failed {
        /// When.
        at: Timestamp,
        /// How.
        message: String,
    },
}

impl ObservedPod {
    /// The API tells of its status: a pod that has ended there ends here.
    pub fn hear(&mut self, told: &PodStatus, now: Timestamp) {
        let phase = told.phase.as_deref();
        if self.closed.is_none() && matches!(phase, Some("Succeeded" | "Failed")) {
            self.closed = Some(Outcome {
                succeeded: phase == Some("Succeeded"),
                since: now,
                why: "The pod has ended".into(),
                grace_seconds: 0,
                reason: told.reason.clone(),
                message: told.message.clone(),
            });
        }
    }

    /// An action begins; its object is busy until [`ObservedPod::end`].
    pub fn begin(&mut self, action: &Action, now: Timestamp) {
        if let Action::StopContainer { name, grace_seconds, .. }
        | Action::HurryContainer { name, grace_seconds, .. } = action
        {
            self.stopping.insert(name.clone(), seconds_later(now, *grace_seconds));
        }
        self.in_flight.insert(action.object());
    }

    /// An action is over, and its pod has been looked at since.
    pub fn end(&mut self, action: &Action) {
        if let Action::StopContainer { name, .. } = action {
            self.stopping.remove(name);
        }
        self.in_flight.remove(&action.object());
    }

    /// The newest sandbox.
    #[must_use]
    pub fn newest_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.iter().max_by(|a, b| (a.attempt, a.created_at).cmp(&(b.attempt, b.created_at)))
    }

    /// The newest attempt at a container.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|c| c.name == name).max_by_key(|c| c.attempt)
    }

    /// The newest attempt at a container before `attempt`.
    #[must_use]
    pub fn before(&self, name: &str, attempt: u32) -> Option<&Container> {
        self.containers.iter().filter(|c| c.name == name && c.attempt < attempt).max_by_key(|c| c.attempt)
    }

    /// Whether a container was made of another image than its pod names now: then it is made anew, whatever the restart
    /// policy says. What the API was told to have ended is left to the policy.
    #[must_use]
    pub fn is_outdated(&self, spec: &Spec, made: &Container) -> bool {
        let over = |status: &ContainerStatus| {
            let id = status.container_id.as_deref().and_then(|id| id.split_once("://"));
            id.is_some_and(|(_, id)| id == made.id)
                && status.state.as_ref().is_some_and(|state| state.terminated.is_some())
        };
        made.made_of.as_deref().is_some_and(|made_of| made_of != pod::image(spec))
            && !self.status.as_ref().is_some_and(|told| status::containers(told).any(over))
    }

    /// The exit code of a container that has ended and is not started again: of its newest attempt or, where the record
    /// of that is gone, as the API was told.
    #[must_use]
    pub fn last_exit_code(&self, pod: &Pod, spec: &Spec) -> Option<i32> {
        let exit_code = match self.latest(&spec.name) {
            Some(last) => last.exit().filter(|_| !self.is_outdated(spec, last))?.exit_code,
            None => {
                let told = status::containers(self.status.as_ref()?).find(|told| told.name == spec.name)?;
                told.state.as_ref()?.terminated.as_ref()?.exit_code
            }
        };
        (!pod::restarts(pod, spec, exit_code)).then_some(exit_code)
    }
}

impl Container {
    /// It runs, or may.
    #[must_use]
    pub fn alive(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Unknown)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}
