//! A pod's phase, and whether it has come to its end.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use proto_kube::object;
use serde_json::Value;

use super::{Parts, deadline};
use crate::desired::DesiredPod;
use crate::observed::{Exit, ObservedPod};
use crate::pod;

/// The reason of a pod that took more than it may.
const EVICTED: &str = "Evicted";
/// How long its containers may take to end, in seconds.
const EVICTION_GRACE_SECONDS: i64 = 1;

/// How a pod ended by itself. It never runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// All app containers exited with 0.
    pub succeeded: bool,
    /// Since when.
    pub since: Timestamp,
    /// Why what still runs is stopped, for people.
    pub why: String,
    /// How long that may take, in seconds.
    pub grace_seconds: i64,
    /// `DeadlineExceeded`; none for a pod whose containers ended.
    pub reason: Option<String>,
    /// For people.
    pub message: Option<String>,
}

/// How a pod ended, if it has: once it has, it has for ever.
#[must_use]
pub fn outcome(desired: &DesiredPod, seen: &ObservedPod, now: Timestamp) -> Option<Outcome> {
    let since = || {
        let exits = seen.containers.iter().filter_map(|c| c.exit()).map(|exit| exit.finished_at);
        exits.max().unwrap_or(desired.seen_at)
    };
    let why = "The pod has ended";
    let old = seen.status.as_ref();
    let over = deadline(desired, seen).filter(|at| *at <= now);
    let grace_seconds = pod::grace_seconds(&desired.pod);
    let told = old.filter(|s| s.reason.as_deref() == Some(EVICTED));
    let told = told.map(|s| (since(), s.message.clone().unwrap_or_default()));
    if let Some((since, message)) = seen.evicted.clone().or(told) {
        return Some(Outcome {
            succeeded: false,
            since,
            why: message.clone(),
            grace_seconds: EVICTION_GRACE_SECONDS,
            reason: Some(EVICTED.into()),
            message: Some(message),
        });
    }
    let exceeded = old.and_then(|s| s.reason.as_deref()) == Some("DeadlineExceeded");
    let ended = matches!(old.and_then(|s| s.phase.as_deref()), Some("Failed" | "Succeeded"));
    if exceeded || (over.is_some() && !ended) {
        return Some(Outcome {
            succeeded: false,
            since: over.unwrap_or_else(since),
            why: "Pod was active on the node longer than the specified deadline".into(),
            grace_seconds,
            reason: Some("DeadlineExceeded".into()),
            message: Some("Pod was active on the node longer than the specified deadline".into()),
        });
    }
    if let Some(old) = old.filter(|_| ended) {
        return Some(Outcome {
            succeeded: old.phase.as_deref() == Some("Succeeded"),
            since: since(),
            why: why.into(),
            grace_seconds,
            reason: old.reason.clone(),
            message: old.message.clone(),
        });
    }
    let done = |succeeded, since| {
        Some(Outcome { succeeded, since, why: why.into(), grace_seconds, reason: None, message: None })
    };
    if let Some(closed) = &seen.closed {
        return Some(Outcome { grace_seconds, ..closed.clone() });
    }
    if let Some(exit) = failed_init(desired, seen) {
        return done(false, exit.finished_at);
    }
    let mut succeeded = true;
    for spec in pod::containers(&desired.pod) {
        succeeded &= seen.last_exit_code(&desired.pod, spec)? == 0;
    }
    // A pod without containers is one we know only by what is left of it.
    if pod::containers(&desired.pod).is_empty() { None } else { done(succeeded, since()) }
}

/// The end of an init container that has failed for good.
fn failed_init<'a>(desired: &DesiredPod, seen: &'a ObservedPod) -> Option<&'a Exit> {
    let mut inits = pod::init_containers(&desired.pod).iter().filter(|spec| !pod::sidecar(spec));
    inits.find_map(|spec| {
        let exit = seen.latest(&spec.name)?.exit()?;
        let failed = exit.exit_code != 0 && !pod::restarts(&desired.pod, spec, exit.exit_code);
        failed.then_some(exit)
    })
}

/// Whether a pod that is over has nothing any more that runs or is about to.
pub(super) fn closed(parts: &Parts<'_>, outcome: Option<&Outcome>) -> bool {
    let over = outcome.is_some() || parts.desired.end.is_some();
    over && parts.seen.in_flight.is_empty() && !parts.seen.containers.iter().any(|c| c.alive())
}

/// The phase. A pod that has ended is still `Running` while one of its containers is, so that nobody counts it as
/// gone too early.
pub(super) fn of(parts: &Parts<'_>, status: &PodStatus, outcome: Option<&Outcome>) -> &'static str {
    let seen = parts.seen;
    let alive = seen.containers.iter().any(|c| c.alive());
    let ended = |succeeded| if succeeded { "Succeeded" } else { "Failed" };
    match outcome {
        Some(_) if alive => return "Running",
        Some(outcome) => return ended(outcome.succeeded),
        None => {}
    }
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let begun = !statuses.is_empty() && statuses.iter().all(has_run);
    if parts.desired.end.is_some() && !alive && (begun || closed(parts, outcome)) {
        let zero = |s: &ContainerStatus| {
            s.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0)
        };
        return ended(statuses.iter().all(zero));
    }
    // Once all app containers have run the pod is Running between their attempts, too.
    if begun { "Running" } else { "Pending" }
}

fn has_run(status: &ContainerStatus) -> bool {
    let state = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    };
    state(&status.state) || state(&status.last_state)
}

/// A pod that has ended for the API, be it by somebody else's word, has ended: no phase follows in what it is told.
pub fn stay_ended(told: &Value, status: &mut Value) {
    if matches!(object::text(told, &["phase"]), "Succeeded" | "Failed") {
        status["phase"] = told["phase"].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_phase_follows_an_end() {
        for (told, ours, sent) in [
            ("Running", "Failed", "Failed"),
            ("Pending", "Running", "Running"),
            ("Failed", "Running", "Failed"),
            ("Failed", "Succeeded", "Failed"),
            ("Succeeded", "Running", "Succeeded"),
        ] {
            let mut status = serde_json::json!({"phase": ours});
            stay_ended(&serde_json::json!({"phase": told}), &mut status);
            assert_eq!(status["phase"], sent, "{told}, {ours}");
        }
    }
}
