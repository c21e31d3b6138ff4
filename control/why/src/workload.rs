//! Workloads: what is missing of what was asked for, and which of their parts is in the way.

use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use proto_kube::cron::Schedule;
use proto_kube::{object, selector::Labels, view::View, zone};
use serde_json::Value;

use crate::Finding;
use crate::read::{condition, end, list, number, owned, since};

/// A controller has not looked yet.
fn unseen(object: &Value, by: &str) -> Option<Finding> {
    let generation = number(object, &["metadata", "generation"]);
    let observed = number(object, &["status", "observedGeneration"]);
    (generation > observed).then(|| {
        let state = format!("was changed (generation {generation}) and not looked at since");
        Finding::new(state, None).next(by, "looks at it; is the control plane running?", None)
    })
}

/// The pod that is furthest from ready; `None` when all are.
pub(crate) fn worst(mut pods: Vec<Arc<Value>>) -> Option<Arc<Value>> {
    let ready = |pod: &Value| condition(pod, "Ready").is_some_and(|c| c["status"] == "True");
    pods.retain(|pod| !ready(pod) && !object::is_terminating(pod));
    let rank = |pod: &Value| match object::text(pod, &["status", "phase"]) {
        "Failed" => 3,
        _ if object::text(pod, &["spec", "nodeName"]).is_empty() => 0,
        "Pending" => 1,
        _ => 2,
    };
    pods.into_iter().min_by_key(|pod| (rank(pod), object::name(pod).to_owned()))
}

pub(crate) fn deployment(view: &dyn View, deployment: &Value) -> Finding {
    if let Some(finding) = unseen(deployment, "the deployment controller") {
        return finding;
    }
    let wanted = object::at(deployment, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1);
    let [updated, ready, available, all] =
        ["updatedReplicas", "readyReplicas", "availableReplicas", "replicas"]
            .map(|key| number(deployment, &["status", key]));
    let progressing = condition(deployment, "Progressing");
    let changed = progressing.and_then(since);
    let done = updated == wanted && available == wanted && all == wanted;
    if deployment["spec"]["paused"] == true && !done {
        let state = format!("is paused with {updated} of {wanted} replicas updated");
        return Finding::new(state, changed).next("you", "resume it: kubectl rollout resume", None);
    }
    if done {
        let since = condition(deployment, "Available").and_then(since);
        return Finding::new(format!("all {wanted} replicas are up to date and available"), since);
    }
    let mut state =
        format!("of {wanted} replicas {updated} are up to date, {ready} ready, {available} available");
    if all > updated {
        state += &format!("; {} old ones are still there", all - updated);
    }
    if progressing.is_some_and(|c| c["reason"] == "ProgressDeadlineExceeded") {
        state += "; it has made no progress within its deadline";
    }
    let finding = Finding::new(state, changed);
    let mut sets = owned(view, "apps", "replicasets", deployment);
    sets.retain(|set| number(set, &["spec", "replicas"]) > number(set, &["status", "availableReplicas"]));
    let revision = |set: &Value| {
        let (_, text) = object::annotations(set)
            .find(|(key, _)| *key == "deployment.kubernetes.io/revision")
            .unwrap_or_default();
        text.parse::<u64>().unwrap_or(0)
    };
    match sets.into_iter().max_by_key(|set| revision(set)) {
        Some(set) => finding.because("ReplicaSet", &set),
        None => finding.next("the deployment controller", "scales its replica sets step by step", None),
    }
}

pub(crate) fn replicas(view: &dyn View, kind: &str, set: &Value) -> Finding {
    if let Some(finding) = unseen(set, "its controller") {
        return finding;
    }
    let wanted = object::at(set, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1);
    let [all, ready, available] =
        ["replicas", "readyReplicas", "availableReplicas"].map(|key| number(set, &["status", key]));
    if all == wanted && available == wanted {
        let state = match wanted {
            0 => "is scaled to 0".to_owned(),
            _ => format!("all {wanted} replicas are available"),
        };
        return Finding::new(state, None);
    }
    let state = format!("of {wanted} replicas {all} exist, {ready} are ready, {available} available");
    if let Some(failure) = condition(set, "ReplicaFailure").filter(|c| c["status"] == "True") {
        let state = format!("{state}; pods cannot be made: {}", object::text(failure, &["message"]));
        let what = "mend what the message names; it is tried again all the time";
        return Finding::new(state, since(failure)).next("you", what, None);
    }
    let finding = Finding::new(state, None);
    match worst(owned(view, "", "pods", set)) {
        Some(pod) => finding.because("Pod", &pod),
        None if kind == "StatefulSet" => {
            finding.next("the stateful set controller", "makes them in turn", None)
        }
        None if all > wanted => finding.next("its pods", "end within their grace period", None),
        None if ready > available => finding.next("its pods", "are ready for minReadySeconds", None),
        None => finding.next("its controller", "makes the missing pods", None),
    }
}

pub(crate) fn daemon_set(view: &dyn View, set: &Value) -> Finding {
    if let Some(finding) = unseen(set, "the daemon set controller") {
        return finding;
    }
    let [wanted, updated, available] =
        ["desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable"]
            .map(|key| number(set, &["status", key]));
    if wanted == 0 {
        let what = "change its node selector, or the nodes' labels and taints";
        return Finding::new("no node is meant to run it", None).next("you", what, None);
    }
    if updated == wanted && available == wanted {
        return Finding::new(format!("runs on all {wanted} nodes that it is meant for"), None);
    }
    let state = format!("of {wanted} nodes {updated} have the current pod, {available} an available one");
    let finding = Finding::new(state, None);
    match worst(owned(view, "", "pods", set)) {
        Some(pod) => finding.because("Pod", &pod),
        None => finding.next("the daemon set controller", "goes on node by node", None),
    }
}

pub(crate) fn job(view: &dyn View, job: &Value) -> Finding {
    if let Some(end) = end(job) {
        let failed = end["type"] == "Failed";
        let (state, message) =
            (if failed { "failed" } else { "has done its work" }, object::text(end, &["message"]));
        let state = if message.is_empty() { state.to_owned() } else { format!("{state}: {message}") };
        let finding = Finding::new(state, since(end));
        let last = owned(view, "", "pods", job).into_iter().filter(|pod| pod["status"]["phase"] == "Failed");
        let last = last.max_by_key(|pod| object::time(pod, &["metadata", "creationTimestamp"]));
        return match last.filter(|_| failed) {
            Some(pod) => finding.because("Pod", &pod),
            None if failed => finding.next("you", "delete it and make it anew", None),
            None => finding,
        };
    }
    let started = object::time(job, &["status", "startTime"]);
    if job["spec"]["suspend"] == true {
        return Finding::new("is suspended", None).next("you", "set spec.suspend to false", None);
    }
    let [active, succeeded, failed] =
        ["active", "succeeded", "failed"].map(|key| number(job, &["status", key]));
    let wanted = object::at(job, &["spec", "completions"]).and_then(Value::as_i64);
    let of = wanted.map_or_else(String::new, |wanted| format!(" of {wanted}"));
    let state = format!("{succeeded}{of} pods have succeeded, {failed} failed, {active} are active");
    let finding = Finding::new(state, started);
    match worst(owned(view, "", "pods", job)).filter(|pod| pod["status"]["phase"] != "Failed") {
        Some(pod) => finding.because("Pod", &pod),
        None if active == 0 => finding.next(
            "the job controller",
            "starts the next pod after its back-off (10 s to 10 min)",
            None,
        ),
        None => finding.next("its pods", "end", None),
    }
}

pub(crate) fn cron_job(view: &dyn View, cron: &Value, now: Timestamp) -> Finding {
    let last = object::time(cron, &["status", "lastScheduleTime"]);
    if cron["spec"]["suspend"] == true {
        return Finding::new("is suspended", None).next("you", "set spec.suspend to false", None);
    }
    let schedule = object::text(cron, &["spec", "schedule"]);
    let jobs = owned(view, "batch", "jobs", cron);
    if let Some(job) = jobs.iter().find(|job| end(job).is_none()) {
        return Finding::new("a job of it runs", last).because("Job", job);
    }
    let zone = match object::text(cron, &["spec", "timeZone"]) {
        "" => Ok(TimeZone::UTC),
        name => zone::find(name),
    };
    let next = match (Schedule::parse(schedule), zone) {
        (Ok(schedule), Ok(zone)) => schedule.next(now, &zone),
        (Err(why), _) | (_, Err(why)) => {
            let state = format!("cannot tell its next time ({schedule}): {why}");
            return Finding::new(state, None).next("you", "correct its schedule or time zone", None);
        }
    };
    let state = match last {
        Some(last) => format!("made its last job at {last:.0}, and waits for its next time ({schedule})"),
        None => format!("waits for its first time ({schedule})"),
    };
    Finding::new(state, None).next("the cron job controller", "makes the next job", next)
}

/// The pods that a selector of labels takes.
pub(crate) fn selected(view: &dyn View, namespace: &str, selector: &Value) -> Vec<Arc<Value>> {
    let selector = Labels::of_map(selector);
    let mut pods = list(view, "", "pods", namespace);
    pods.retain(|pod| selector.selects(pod));
    pods
}
