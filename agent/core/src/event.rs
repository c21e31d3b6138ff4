//! Events that a change of status is worth.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::desired::DesiredPod;
use crate::pod;
use crate::status::{REFUSED, containers};

/// An event about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Something is wrong.
    pub warning: bool,
    /// As Kubernetes names it: `BackOff`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The part of the pod it is about: `spec.containers{NAME}`.
    pub field_path: Option<String>,
}

impl Event {
    /// About a pod as a whole, or a node.
    #[must_use]
    pub fn new(warning: bool, reason: &str, message: &str) -> Self {
        Self { warning, reason: reason.into(), message: message.into(), field_path: None }
    }

    /// The same, about a container of the pod.
    #[must_use]
    pub fn of_container(self, pod: &Pod, name: &str) -> Self {
        Self { field_path: Some(pod::field_path(pod, name)), ..self }
    }
}

/// What happened between two statuses of a pod, as far as no action tells it: back-offs, exits are told by what
/// follows them, and a pod that is held up.
#[must_use]
pub fn between(desired: &DesiredPod, before: Option<&PodStatus>, after: &PodStatus) -> Vec<Event> {
    let pod = &desired.pod;
    let mut events = Vec::new();
    let why = |status: &PodStatus| (status.reason.clone(), status.message.clone());
    if let (Some(reason), message) = why(after)
        && before.is_none_or(|b| why(b) != why(after))
    {
        let reason = if reason == "Unschedulable" { "FailedScheduling" } else { &reason };
        let message = message.unwrap_or_default();
        let warning = reason != "DeadlineExceeded";
        events.push(Event::new(warning, reason, message.trim_start_matches(REFUSED)));
    }
    if let Some((reason, message)) = trouble(after)
        && before.and_then(trouble) != Some((reason, message))
    {
        events.push(Event::new(true, reason, message));
    }
    for status in containers(after) {
        let waiting = |s: &ContainerStatus| s.state.as_ref().and_then(|s| s.waiting.clone());
        let old = before.and_then(|b| containers(b).find(|s| s.name == status.name)).and_then(waiting);
        let Some(now) = waiting(status) else { continue };
        let reason = now.reason.unwrap_or_default();
        if old.and_then(|o| o.reason).as_deref() != Some(&reason) {
            let told = held_up(desired, &status.name, &reason, &now.message.unwrap_or_default());
            events.extend(told.into_iter().map(|event| event.of_container(pod, &status.name)));
        }
    }
    events
}

/// What is told of a container that has begun to wait.
fn held_up(desired: &DesiredPod, container: &str, reason: &str, message: &str) -> Vec<Event> {
    let pod = &desired.pod;
    match reason {
        "CrashLoopBackOff" => {
            let (name, namespace) = (pod::name(pod), pod::namespace(pod));
            let text = format!(
                "Back-off restarting failed container {container} in pod {name}_{namespace}({})",
                desired.uid
            );
            vec![Event::new(true, "BackOff", &text)]
        }
        "ImagePullBackOff" => {
            let spec = pod::container(pod, container);
            let text =
                format!("Back-off pulling image {:?}", spec.as_deref().map(pod::image).unwrap_or_default());
            vec![Event::new(false, "BackOff", &text), Event::new(true, "Failed", "Error: ImagePullBackOff")]
        }
        "InvalidImageName" => vec![Event::new(true, "InspectFailed", message)],
        _ => Vec::new(),
    }
}

/// Why a pod has no sandbox, where nobody else tells: an effect tells of its own failure.
fn trouble(status: &PodStatus) -> Option<(&str, &str)> {
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "PodReadyToStartContainers")?;
    let reason = condition.reason.as_deref()?;
    let own = matches!(reason, "NetworkNotReady" | "FailedCreatePodCgroup" | "FailedKillPod");
    own.then(|| (reason, condition.message.as_deref().unwrap_or_default()))
}
