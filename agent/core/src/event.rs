//! Events that a change of status is worth.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

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
    /// The container it is about.
    pub container: Option<String>,
}

impl Event {
    /// From its parts.
    #[must_use]
    pub fn new(warning: bool, reason: &str, message: &str, container: Option<&str>) -> Self {
        Self {
            warning,
            reason: reason.into(),
            message: message.into(),
            container: container.map(str::to_owned),
        }
    }
}

/// What happened between two statuses of a pod, as far as no action tells it: back-offs, exits are told by what
/// follows them, and a pod that is held up.
#[must_use]
pub fn between(before: Option<&PodStatus>, after: &PodStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let why = |status: &PodStatus| (status.reason.clone(), status.message.clone());
    if let (Some(reason), message) = why(after)
        && before.is_none_or(|b| why(b) != why(after))
    {
        let reason = if reason == "Unschedulable" { "FailedScheduling" } else { &reason };
        let message = message.unwrap_or_default();
        events.push(Event::new(true, reason, message.trim_start_matches(REFUSED), None));
    }
    if let Some((reason, message)) = trouble(after)
        && before.and_then(trouble) != Some((reason, message))
    {
        events.push(Event::new(true, reason, message, None));
    }
    for status in containers(after) {
        let waiting = |s: &ContainerStatus| s.state.as_ref().and_then(|s| s.waiting.clone());
        let old = before.and_then(|b| containers(b).find(|s| s.name == status.name)).and_then(waiting);
        let Some(now) = waiting(status) else { continue };
        let reason = now.reason.unwrap_or_default();
        let back_off = matches!(reason.as_str(), "CrashLoopBackOff" | "ImagePullBackOff");
        let invalid = reason == "InvalidImageName";
        if (back_off || invalid) && old.and_then(|o| o.reason).as_deref() != Some(&reason) {
            let name = if back_off { "BackOff" } else { "InspectFailed" };
            events.push(Event::new(true, name, &now.message.unwrap_or_default(), Some(&status.name)));
        }
    }
    events
}

/// Why a pod has no sandbox, where nobody else tells: an effect tells of its own failure.
fn trouble(status: &PodStatus) -> Option<(&str, &str)> {
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "PodReadyToStartContainers")?;
    let reason = condition.reason.as_deref()?;
    let own = matches!(reason, "NetworkNotReady" | "FailedCreatePodCgroup" | "FailedKillPod");
    own.then(|| (reason, condition.message.as_deref().unwrap_or_default()))
}
