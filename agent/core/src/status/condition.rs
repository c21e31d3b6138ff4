//! The conditions of a pod, in upstream's order. A transition time moves only when the condition does.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

use super::{Parts, Waiting, initialized};
use crate::pod;
use crate::time::k8s;

/// What a condition says before its transition time is known.
struct Fact {
    kind: &'static str,
    holds: bool,
    why: Option<Waiting>,
}

impl Fact {
    fn of(kind: &'static str, problem: Option<Waiting>) -> Self {
        Self { kind, holds: problem.is_none(), why: problem }
    }
}

/// All conditions.
pub(super) fn all(parts: &Parts<'_>, status: &PodStatus, phase: &str) -> Vec<PodCondition> {
    let completed = matches!(phase, "Succeeded" | "Failed");
    let containers = containers_ready(parts, status, phase);
    let ready = ready(parts, containers.as_ref());
    let mut initialized = Fact::of("Initialized", not_initialized(parts, status, phase));
    if phase == "Succeeded" {
        initialized.why = Some(Waiting::new("PodCompleted", ""));
    }
    let facts = [
        Fact::of("PodReadyToStartContainers", no_sandbox(parts, completed)),
        initialized,
        Fact::of("Ready", ready),
        Fact::of("ContainersReady", containers),
        Fact::of("PodScheduled", parts.held.cloned()),
    ];
    let resize = [("PodResizePending", parts.resize_held), ("PodResizeInProgress", parts.resizing)];
    let resize = resize.into_iter().filter_map(|(kind, why)| {
        let why = why.filter(|_| !completed)?;
        Some(Fact { kind, holds: true, why: Some(why.clone()) })
    });
    facts.into_iter().chain(resize).map(|fact| condition(parts, fact)).collect()
}

fn condition(parts: &Parts<'_>, fact: Fact) -> PodCondition {
    let status = if fact.holds { "True" } else { "False" };
    let old = parts.seen.status.as_ref().and_then(|s| s.conditions.as_ref());
    let old = old.into_iter().flatten().find(|c| c.type_ == fact.kind && c.status == status);
    let since = old.and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: fact.kind.to_owned(),
        status: status.to_owned(),
        reason: fact.why.as_ref().map(|why| why.reason.clone()).filter(|r| !r.is_empty()),
        message: fact.why.map(|why| why.message).filter(|m| !m.is_empty()),
        last_transition_time: Some(since.unwrap_or_else(|| k8s(parts.now))),
        observed_generation: parts.desired.pod.metadata.generation,
        last_probe_time: None,
    }
}

/// Why there is no sandbox with a network.
fn no_sandbox(parts: &Parts<'_>, completed: bool) -> Option<Waiting> {
    let host_network = pod::host_network(&parts.desired.pod);
    let newest = parts.seen.newest_sandbox();
    if newest.is_some_and(|s| s.ready && !s.stopped && (host_network || !s.ips.is_empty())) {
        return None;
    }
    Some(parts.trouble.filter(|_| !completed).cloned().unwrap_or_else(|| Waiting::new("", "")))
}

fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn not_initialized(parts: &Parts<'_>, status: &PodStatus, phase: &str) -> Option<Waiting> {
    let pod = &parts.desired.pod;
    if phase == "Succeeded" || initialized(pod, parts.seen) {
        return None;
    }
    let done = |s: &&ContainerStatus| match pod::is_sidecar(pod, &s.name) {
        true => s.started == Some(true),
        false => s.ready,
    };
    let statuses = status.init_container_statuses.iter().flatten();
    let incomplete: Vec<&str> = statuses.filter(|s| !done(s)).map(|s| s.name.as_str()).collect();
    (!incomplete.is_empty()).then(|| {
        let text = format!("containers with incomplete status: {}", list(&incomplete));
        Waiting::new("ContainersNotInitialized", &text)
    })
}

/// Why not all containers that should be ready are: the app containers and the sidecars.
fn containers_ready(parts: &Parts<'_>, status: &PodStatus, phase: &str) -> Option<Waiting> {
    match phase {
        "Succeeded" => return Some(Waiting::new("PodCompleted", "")),
        "Failed" => return Some(Waiting::new("PodFailed", "")),
        _ => {}
    }
    let pod = &parts.desired.pod;
    let sidecars = status.init_container_statuses.iter().flatten().filter(|s| pod::is_sidecar(pod, &s.name));
    let all = sidecars.chain(status.container_statuses.iter().flatten());
    let unready: Vec<&str> = all.filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    (!unready.is_empty()).then(|| {
        Waiting::new("ContainersNotReady", &format!("containers with unready status: {}", list(&unready)))
    })
}

/// Why the pod is not ready: its containers, or a readiness gate that nobody has opened.
fn ready(parts: &Parts<'_>, containers: Option<&Waiting>) -> Option<Waiting> {
    if let Some(why) = containers {
        return Some(why.clone());
    }
    let gates = pod::spec(&parts.desired.pod).readiness_gates.iter().flatten();
    let given = parts.desired.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let shut: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match given.into_iter().flatten().find(|c| c.type_ == *kind) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist."))
                }
                Some(c) if c.status == "True" => None,
                Some(c) => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    c.status
                )),
            }
        })
        .collect();
    (!shut.is_empty()).then(|| Waiting::new("ReadinessGatesNotReady", &shut.join(", ")))
}
