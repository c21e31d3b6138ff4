//! A pod's way, stage by stage: admitted, scheduled, taken up by its node, prepared, started, ready; and its end.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::node::tolerates;
use proto_kube::{object, pod as kube, view::View};
use serde_json::Value;

use crate::read::{condition, end, get, list, number, said, since, taint};
use crate::{Finding, World};

/// The first and the longest time between two starts of a container that crashes.
const BACKOFF_MIN_SECONDS: i64 = 10;
const BACKOFF_MAX_SECONDS: i64 = 300;

pub(crate) fn look(world: &World<'_>, pod: &Value) -> Finding {
    let (view, now) = (world.view, world.now);
    let phase = object::text(pod, &["status", "phase"]);
    if object::is_terminating(pod) {
        return ending(view, pod, now);
    }
    if phase == "Succeeded" || phase == "Failed" {
        return ended(view, pod, phase);
    }
    if object::text(pod, &["spec", "nodeName"]).is_empty() {
        return unscheduled(world, pod);
    }
    if let Some(finding) = stranded(view, pod, now) {
        return finding;
    }
    if let Some(finding) = containers(view, pod) {
        return finding;
    }
    match condition(pod, "Ready") {
        Some(ready) if ready["status"] == "True" => Finding::new("runs and is ready", since(ready)),
        ready => unready(view, pod, ready),
    }
}

fn node_of(pod: &Value) -> &str {
    object::text(pod, &["spec", "nodeName"])
}

fn unscheduled(world: &World<'_>, pod: &Value) -> Finding {
    let born = object::time(pod, &["metadata", "creationTimestamp"]);
    let gates = object::items(pod, &["spec", "schedulingGates"]).filter_map(|gate| gate["name"].as_str());
    let gates: Vec<&str> = gates.collect();
    if let Some(first) = gates.first() {
        let state = format!("is held back by scheduling gates {}", gates.join(", "));
        return Finding::new(state, born).next(
            &format!("whoever set {first}"),
            "removes the gate; the pod is scheduled at once then",
            None,
        );
    }
    match condition(pod, "PodScheduled") {
        Some(c) if c["status"] == "False" => refused(world, pod, c),
        _ => Finding::new("has not been looked at by a scheduler", born).next(
            &format!("the scheduler {:?}", object::text(pod, &["spec", "schedulerName"])),
            "picks a node; is it running?",
            None,
        ),
    }
}

/// No node takes it: because of its claims, because all nodes keep it away, or because of each for its own reason.
fn refused(world: &World<'_>, pod: &Value, scheduled: &Value) -> Finding {
    let message = object::text(scheduled, &["message"]);
    let words = message.split_once(" preemption:").map_or(message, |(words, _)| words);
    let mut finding = Finding::new(format!("fits no node: {words}"), since(scheduled));
    let nominated = object::text(pod, &["status", "nominatedNodeName"]);
    if !nominated.is_empty() {
        let what = format!("binds it to {nominated} when the pods it displaces there have ended");
        return finding.next("the scheduler", what, None);
    }
    if let Some(claim) = unbound(world.view, pod) {
        return finding.because("PersistentVolumeClaim", &claim);
    }
    let nodes = list(world.view, "", "nodes", "");
    let repelled: Vec<_> = nodes.iter().map(|node| (node, repelling(pod, node))).collect();
    finding.refusals = (world.refusals)(pod);
    for (node, taints) in repelled.iter().filter(|(_, taints)| !taints.is_empty()) {
        if let Some(words) = finding.refusals.get_mut(object::name(node)) {
            words.retain(|word| !word.contains("taint"));
            words.push(format!("untolerated taint {}", taints.join(", ")));
        }
    }
    let what = "tries again as soon as a node or a pod changes so that it could fit";
    let finding = finding.next("the scheduler", what, None);
    match repelled.first() {
        Some((node, _)) if repelled.iter().all(|(_, taints)| !taints.is_empty()) => {
            finding.because("Node", node)
        }
        _ => finding,
    }
}

/// The first of its claims that has no volume.
fn unbound(view: &dyn View, pod: &Value) -> Option<Arc<Value>> {
    let claims = object::items(pod, &["spec", "volumes"]).filter_map(|volume| kube::claim(pod, volume));
    let find = |name: String| {
        get(view, ("", "persistentvolumeclaims"), object::namespace(pod), &name)
            .filter(|claim| claim["status"]["phase"] != "Bound")
    };
    claims.filter_map(find).next()
}

/// The taints of a node that keep the pod away, as `KEY=VALUE:EFFECT`.
fn repelling(pod: &Value, node: &Value) -> Vec<String> {
    let borne = |taint: &Value| {
        object::items(pod, &["spec", "tolerations"]).any(|toleration| tolerates(toleration, taint))
    };
    let taints = object::items(node, &["spec", "taints"]);
    taints.filter(|taint| taint["effect"] != "PreferNoSchedule" && !borne(taint)).map(taint).collect()
}

/// Its node does not answer.
fn stranded(view: &dyn View, pod: &Value, now: Timestamp) -> Option<Finding> {
    let name = node_of(pod);
    let Some(node) = get(view, ("", "nodes"), "", name) else {
        let state = format!("is bound to node {name}, which does not exist");
        return Some(Finding::new(state, None).next("pod garbage collection", "deletes it", None));
    };
    let ready = condition(&node, "Ready")?;
    if ready["status"] == "True" {
        return None;
    }
    let finding = Finding::new(format!("is on node {name}, which is not ready"), since(ready));
    let evicted = eviction(pod, &node);
    let finding = match evicted {
        Some(at) if at > now => finding.next("the node", "comes back; else the pod is evicted", Some(at)),
        Some(_) => finding.next("node lifecycle", "evicts the pod", None),
        None => finding.next("the node", "comes back; the pod tolerates this and stays", None),
    };
    Some(finding.because("Node", &node))
}

/// When the pod is evicted for the taints of its node; `None` when it tolerates them for ever.
fn eviction(pod: &Value, node: &Value) -> Option<Timestamp> {
    let mut first: Option<Timestamp> = None;
    for taint in object::items(node, &["spec", "taints"]).filter(|taint| taint["effect"] == "NoExecute") {
        let added = object::time(taint, &["timeAdded"])?;
        let mut tolerations = object::items(pod, &["spec", "tolerations"]);
        let at = match tolerations.find(|toleration| tolerates(toleration, taint)) {
            None => added,
            Some(toleration) => match toleration["tolerationSeconds"].as_i64() {
                None => continue,
                Some(seconds) => added.saturating_add(SignedDuration::from_secs(seconds)).ok()?,
            },
        };
        first = Some(first.map_or(at, |first| first.min(at)));
    }
    first
}

/// The first container that is in the way, in the order in which they start.
fn containers(view: &dyn View, pod: &Value) -> Option<Finding> {
    let statuses = |list: &str| object::items(pod, &["status", list]).cloned().collect::<Vec<_>>();
    let (init, main) = (statuses("initContainerStatuses"), statuses("containerStatuses"));
    if init.is_empty() && main.is_empty() {
        let bound = condition(pod, "PodScheduled").and_then(since);
        let state = format!("is bound to node {}, which has not taken it up", node_of(pod));
        return Some(Finding::new(state, bound).next("the node's agent", "takes it up", None));
    }
    for status in &init {
        let restarts = spec_of(pod, status).is_some_and(|c| c["restartPolicy"] == "Always");
        let done = status["state"]["terminated"]["exitCode"] == 0;
        let up = restarts && status["started"] == true;
        if !done && !up {
            return Some(container(view, pod, status, true).unwrap_or_else(|| running_init(pod, status)));
        }
    }
    main.iter().find_map(|status| container(view, pod, status, false))
}

fn spec_of<'a>(pod: &'a Value, status: &Value) -> Option<&'a Value> {
    let named = |c: &&Value| c["name"] == status["name"];
    let init = object::items(pod, &["spec", "initContainers"]).find(named);
    init.or_else(|| object::items(pod, &["spec", "containers"]).find(named))
}

fn running_init(pod: &Value, status: &Value) -> Finding {
    let name = object::text(status, &["name"]);
    let since = object::time(status, &["state", "running", "startedAt"]);
    let all = object::items(pod, &["spec", "initContainers"]).count();
    let place = object::items(pod, &["spec", "initContainers"]).position(|c| c["name"] == name).unwrap_or(0);
    let state = format!("runs init container {name} ({} of {all})", place + 1);
    Finding::new(state, since).next(&format!("container {name}"), "ends, then the next one starts", None)
}

/// What keeps one container from running.
fn container(view: &dyn View, pod: &Value, status: &Value, init: bool) -> Option<Finding> {
    let name = object::text(status, &["name"]);
    let kind = if init { "init container" } else { "container" };
    if let Some(waiting) = object::at(status, &["state", "waiting"]) {
        let reason = object::text(waiting, &["reason"]);
        return Some(waits(view, pod, status, &format!("{kind} {name}"), reason));
    }
    let over = object::at(status, &["state", "terminated"])?;
    if init && over["exitCode"] == 0 {
        return None;
    }
    let state = format!("{kind} {name} has ended: {}", exit(over));
    let at = object::time(over, &["finishedAt"]);
    Some(Finding::new(state, at).next(
        "the node's agent",
        "starts it again if its restart policy says so",
        None,
    ))
}

fn waits(view: &dyn View, pod: &Value, status: &Value, container: &str, reason: &str) -> Finding {
    let message = object::text(status, &["state", "waiting", "message"]).trim();
    let started = object::time(pod, &["status", "startTime"]);
    let image = object::text(status, &["image"]);
    match reason {
        "ContainerCreating" | "PodInitializing" => creating(view, pod, container, started),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "RegistryUnavailable" => {
            let why = said(view, "Pod", pod, "Failed").unwrap_or_else(|| message.to_owned());
            let finding = Finding::new(format!("{container} has no image {image}: {why}"), started);
            match reason {
                "ErrImageNeverPull" => {
                    finding.next("you", "load the image on the node, or allow it to be pulled", None)
                }
                "InvalidImageName" => finding.next("you", "correct the image's name", None),
                _ => finding.next("the registry", "is asked again after a back-off of 10 s to 5 min", None),
            }
        }
        "CrashLoopBackOff" => {
            let last = &status["lastState"]["terminated"];
            let restarts = number(status, &["restartCount"]);
            let state = format!("{container} crashes: {}; it was started again {restarts} times", exit(last));
            let ended = object::time(last, &["finishedAt"]);
            let at = ended.and_then(|ended| ended.saturating_add(backoff(restarts)).ok());
            Finding::new(state, ended).next("the node's agent", "starts it again after its back-off", at)
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let finding = Finding::new(format!("{container} cannot be made: {message}"), started);
            finding.next("you", "mend what the message names; it is tried again all the time", None)
        }
        other => Finding::new(format!("{container} waits: {other} {message}").trim_end().to_owned(), started)
            .next("the node's agent", "tries again", None),
    }
}

/// How long a container that has crashed so often waits.
fn backoff(restarts: i64) -> SignedDuration {
    let doubled = u32::try_from(restarts.clamp(1, 6) - 1).unwrap_or(0);
    SignedDuration::from_secs((BACKOFF_MIN_SECONDS << doubled).min(BACKOFF_MAX_SECONDS))
}

fn creating(view: &dyn View, pod: &Value, container: &str, started: Option<Timestamp>) -> Finding {
    if let Some(why) = said(view, "Pod", pod, "FailedMount") {
        let finding = Finding::new(format!("{container} waits for a volume: {why}"), started);
        return finding.next("you", "make what the volume names; it is mounted as soon as it is there", None);
    }
    if let Some(why) = said(view, "Pod", pod, "FailedCreatePodSandBox") {
        let finding = Finding::new(format!("{container} waits for the pod's sandbox: {why}"), started);
        return finding.next("the node's network and runtime", "are tried again", None);
    }
    if let Some(what) = said(view, "Pod", pod, "Pulling") {
        let pulled = said(view, "Pod", pod, "Pulled").is_some();
        if !pulled {
            let finding = Finding::new(format!("{container} waits for its image: {what}"), started);
            return finding.next("the registry", "delivers the image", None);
        }
    }
    Finding::new(format!("{container} is being made"), started).next("the node's agent", "starts it", None)
}

fn exit(terminated: &Value) -> String {
    let code = number(terminated, &["exitCode"]);
    let reason = object::text(terminated, &["reason"]);
    let message = object::text(terminated, &["message"]).trim();
    let mut text = match reason {
        "OOMKilled" => "it used more memory than its limit allows".to_owned(),
        _ if code > 128 && code < 160 => format!("exit code {code} (signal {})", code - 128),
        _ => format!("exit code {code}"),
    };
    if !message.is_empty() {
        text += &format!(", saying {message:?}");
    }
    text
}

fn unready(view: &dyn View, pod: &Value, ready: Option<&Value>) -> Finding {
    let changed = ready.and_then(since);
    let unready = object::items(pod, &["status", "containerStatuses"]).find(|c| c["ready"] != true);
    if let Some(status) = unready {
        let name = object::text(status, &["name"]);
        let started = status["started"] == true;
        let probe = if started { "readiness" } else { "startup" };
        let why = said(view, "Pod", pod, "Unhealthy");
        let state = match why {
            Some(why) => format!("container {name} runs and does not pass its {probe} probe: {why}"),
            None => format!("container {name} runs; its {probe} probe has not passed yet"),
        };
        let period = spec_of(pod, status)
            .map_or(10, |c| number(c, &[&format!("{probe}Probe"), "periodSeconds"]).max(1));
        let what = format!("is probed every {period} s");
        return Finding::new(state, changed).next(&format!("container {name}"), what, None);
    }
    for gate in object::items(pod, &["spec", "readinessGates"]) {
        let kind = object::text(gate, &["conditionType"]);
        if condition(pod, kind).is_none_or(|c| c["status"] != "True") {
            let state = format!("its containers are ready; its readiness gate {kind} is not");
            let on = format!("whoever sets the condition {kind}");
            return Finding::new(state, changed).next(&on, "sets it", None);
        }
    }
    Finding::new("is not ready", changed).next("the node's agent", "reports its state", None)
}

fn ending(view: &dyn View, pod: &Value, now: Timestamp) -> Finding {
    let deadline = object::time(pod, &["metadata", "deletionTimestamp"]);
    let grace = number(pod, &["metadata", "deletionGracePeriodSeconds"]);
    let asked = deadline.and_then(|d| d.saturating_sub(SignedDuration::from_secs(grace)).ok());
    let running = object::items(pod, &["status", "containerStatuses"])
        .filter(|c| object::at(c, &["state", "running"]).is_some())
        .filter_map(|c| c["name"].as_str());
    let running: Vec<&str> = running.collect();
    let finalizers: Vec<&str> =
        object::items(pod, &["metadata", "finalizers"]).filter_map(Value::as_str).collect();
    if running.is_empty() && !finalizers.is_empty() {
        let state = format!("has ended; held by finalizers {}", finalizers.join(", "));
        let on = format!("whoever set {}", finalizers[0]);
        return Finding::new(state, asked).next(&on, "removes the finalizer when its work is done", None);
    }
    if let Some(stranded) = stranded(view, pod, now) {
        return Finding {
            state: format!("is to end, and its node {} does not answer", node_of(pod)),
            since: asked,
            ..stranded
        }
        .next("the node", "comes back and ends it, or is deleted: then the pod goes with it", None);
    }
    match deadline {
        Some(at) if at > now && !running.is_empty() => {
            let state = format!("is ending; still running: {}", running.join(", "));
            let what = "kills what still runs when the grace period is over";
            Finding::new(state, asked).next("its containers", what, Some(at))
        }
        _ => Finding::new("is ending", asked).next("the node's agent", "removes what is left of it", None),
    }
}

fn ended(view: &dyn View, pod: &Value, phase: &str) -> Finding {
    let reason = object::text(pod, &["status", "reason"]);
    let message = object::text(pod, &["status", "message"]);
    let last = object::items(pod, &["status", "containerStatuses"])
        .filter_map(|c| object::at(c, &["state", "terminated"]).map(|t| (c, t)))
        .max_by_key(|(_, t)| (number(t, &["exitCode"]) != 0, object::text(t, &["finishedAt"]).to_owned()));
    let at = last.and_then(|(_, t)| object::time(t, &["finishedAt"]));
    let state = match (phase, reason, last) {
        ("Succeeded", ..) => "has done its work".to_owned(),
        (_, "", Some((c, t))) => format!("failed: container {}: {}", object::text(c, &["name"]), exit(t)),
        (_, "", None) => "failed".to_owned(),
        (_, reason, _) => format!("failed: {reason}: {message}"),
    };
    let finding = Finding::new(state, at);
    if phase != "Failed" {
        return finding;
    }
    let log = format!("read its log: kubectl logs -n {} {}", object::namespace(pod), object::name(pod));
    match object::controller(pod) {
        Some(owner) if !is_over(view, pod, &owner) => {
            let on = format!("{}/{}", owner.kind.to_lowercase(), owner.name);
            finding.next(&on, format!("decides whether another takes its place; {log}"), None)
        }
        _ => finding.next("you", log, None),
    }
}

/// Whether the owner of the pod is a job that makes no other.
fn is_over(view: &dyn View, pod: &Value, owner: &object::Controller<'_>) -> bool {
    let job = get(view, ("batch", "jobs"), object::namespace(pod), owner.name);
    job.is_some_and(|job| object::uid(&job) == owner.uid && end(&job).is_some())
}
