//! A pod's status as the Kubernetes API words it, from what is there and why it waits.

mod condition;
mod container;
mod phase;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, ContainerStatus, HostIP, Pod, PodIP, PodStatus};

use crate::desired::DesiredPod;
use crate::observed::{Container, HookState, Node, ObservedPod, State};
use crate::pod;
use crate::resources;
use crate::time::{k8s, seconds_later};

pub use phase::{Outcome, outcome, stay_ended};

/// Why something waits: a reason for machines and a message for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// As Kubernetes names it: `CrashLoopBackOff`.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

impl Waiting {
    /// From its parts.
    #[must_use]
    pub fn new(reason: &str, message: &str) -> Self {
        Self { reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// How the message of a pod begins that the node has refused.
pub(crate) const REFUSED: &str = "Pod was rejected: ";

/// What a status is made from.
pub(crate) struct Parts<'a> {
    pub(crate) desired: &'a DesiredPod,
    pub(crate) seen: &'a ObservedPod,
    pub(crate) node: &'a Node,
    /// Why containers wait, by name.
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    /// Why the pod as a whole does not go on.
    pub(crate) trouble: Option<&'a Waiting>,
    /// Why it may not even begin.
    pub(crate) held: Option<&'a Waiting>,
    /// Why it never may.
    pub(crate) refused: Option<&'a Waiting>,
    /// Why the resources that it wants are not granted.
    pub(crate) resize_held: Option<&'a Waiting>,
    /// A container does not have what it was granted yet.
    pub(crate) resizing: Option<&'a Waiting>,
    pub(crate) now: Timestamp,
}

/// The statuses of all containers.
pub fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten()
}

/// Whether a condition of a pod is the node's to set.
#[must_use]
pub fn is_own(condition: &str) -> bool {
    matches!(
        condition,
        "PodReadyToStartContainers"
            | "Initialized"
            | "Ready"
            | "ContainersReady"
            | "PodScheduled"
            | "PodResizePending"
            | "PodResizeInProgress"
    )
}

/// The status.
pub(crate) fn of(parts: &Parts<'_>) -> PodStatus {
    let pod = &parts.desired.pod;
    let old = parts.seen.status.as_ref();
    if let Some(status) = refused(parts, old) {
        return status;
    }
    let outcome = outcome(parts.desired, parts.seen, parts.now);
    let statuses = |specs: &[Spec]| {
        let all: Vec<_> =
            specs.iter().map(|spec| container::status(parts, spec, outcome.is_some())).collect();
        (!all.is_empty()).then_some(all)
    };
    let by_name = |mut statuses: Option<Vec<ContainerStatus>>| {
        statuses.iter_mut().for_each(|all| all.sort_by(|a, b| a.name.cmp(&b.name)));
        statuses
    };
    let mut status = PodStatus {
        init_container_statuses: statuses(pod::init_containers(pod)),
        container_statuses: by_name(statuses(pod::containers(pod))),
        ephemeral_container_statuses: by_name(statuses(&pod::ephemeral_containers(pod).collect::<Vec<_>>())),
        qos_class: Some(resources::qos(pod).name().to_owned()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    };
    if parts.held.is_none() {
        status.start_time = old.and_then(|o| o.start_time.clone()).or_else(|| Some(k8s(parts.now)));
    }
    if phase::closed(parts, outcome.as_ref()) {
        container::close(pod, &mut status);
    }
    let phase = phase::of(parts, &status, outcome.as_ref());
    status.phase = Some(phase.to_owned());
    (status.reason, status.message) = match (&outcome, parts.held) {
        (Some(outcome), _) => (outcome.reason.clone(), outcome.message.clone()),
        (None, Some(held)) => (Some(held.reason.clone()), Some(held.message.clone())),
        (None, None) => (None, None),
    };
    addresses(parts, &mut status);
    let conditions = condition::all(parts, &status, phase);
    status.conditions = Some(conditions);
    status
}

/// The status of a pod that the node has refused: of what it was to run nothing is told.
fn refused(parts: &Parts<'_>, old: Option<&PodStatus>) -> Option<PodStatus> {
    let told = old.filter(|o| o.message.as_deref().is_some_and(|m| m.starts_with(REFUSED)));
    let generation = parts.desired.pod.metadata.generation;
    let status = match (told, parts.refused) {
        (Some(told), _) => told.clone(),
        (None, Some(why)) => PodStatus {
            phase: Some("Failed".into()),
            reason: Some(why.reason.clone()),
            message: Some(format!("{REFUSED}{}", why.message)),
            qos_class: Some(resources::qos(&parts.desired.pod).name().to_owned()),
            conditions: old.and_then(|o| o.conditions.clone()),
            ..PodStatus::default()
        },
        (None, None) => return None,
    };
    Some(PodStatus { observed_generation: generation, ..status })
}

fn addresses(parts: &Parts<'_>, status: &mut PodStatus) {
    let texts = |ips: &[std::net::IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
    let host = texts(&parts.node.ips);
    let newest = parts.seen.newest_sandbox();
    let own = match newest {
        Some(_) if pod::host_network(&parts.desired.pod) => host.clone(),
        Some(sandbox) => texts(&sandbox.ips),
        None => Vec::new(),
    };
    // What was its own while it ran stays told.
    let over = parts.desired.end.is_some() || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let told = parts.seen.status.as_ref().and_then(|s| s.pod_ips.clone()).filter(|_| over && own.is_empty());
    let own = told.map_or(own, |told| told.into_iter().map(|ip| ip.ip).collect());
    status.host_ip = host.first().cloned();
    status.host_ips = (!host.is_empty()).then(|| host.into_iter().map(|ip| HostIP { ip }).collect());
    status.pod_ip = own.first().cloned();
    status.pod_ips = (!own.is_empty()).then(|| own.into_iter().map(|ip| PodIP { ip }).collect());
}

/// Whether a running container counts as started: its postStart hook and its startup probe have succeeded.
pub(crate) fn started(spec: &Spec, container: &Container, seen: &ObservedPod) -> bool {
    let running = matches!(container.state, State::Running { .. });
    let hook = seen.hooks.get(&container.id).map_or(&HookState::NotRun, |h| &h.post_start);
    let hooked = !pod::has_post_start(spec) || *hook == HookState::Done;
    let health = seen.health.get(&container.id);
    let probed = spec.startup_probe.is_none()
        || health.and_then(|h| h.startup.as_ref()).is_some_and(|verdict| verdict.ok);
    running && hooked && probed
}

/// Whether a running container counts as ready.
pub(crate) fn ready(spec: &Spec, container: &Container, seen: &ObservedPod) -> bool {
    let health = seen.health.get(&container.id);
    let probed = spec.readiness_probe.is_none()
        || health.and_then(|h| h.readiness.as_ref()).is_some_and(|verdict| verdict.ok);
    started(spec, container, seen) && probed
}

/// Whether the init containers of the newest sandbox are done for good: an app container was made in it.
pub(crate) fn initialized(pod: &Pod, seen: &ObservedPod) -> bool {
    let Some(sandbox) = seen.newest_sandbox() else { return false };
    let app = |c: &Container| pod::containers(pod).iter().any(|spec| spec.name == c.name);
    seen.containers.iter().any(|c| c.sandbox == sandbox.id && app(c))
}

/// When `activeDeadlineSeconds` ends the pod.
pub(crate) fn deadline(desired: &DesiredPod, seen: &ObservedPod) -> Option<Timestamp> {
    let seconds = pod::spec(&desired.pod).active_deadline_seconds?;
    let start = seen.status.as_ref()?.start_time.as_ref()?;
    Some(seconds_later(start.0, seconds))
}
