//! Pods as controllers see them: what counts as one, how they are made from a template, which go first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::{GroupResource, object, pod};
use serde_json::{Map, Value, json};

use crate::names::{Hash, fresh};
use crate::owner;
use crate::resources::PODS;
use crate::{Mutation, Outcome, Refused, World, write};

/// The label that tells which template of a Deployment a pod is of.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";

/// Whether a pod runs or will run: it has not ended and nobody deletes it.
pub(crate) fn is_active(pod: &Value) -> bool {
    !pod::has_ended(pod) && !object::is_terminating(pod)
}

/// Whether a pod is being deleted and has not ended yet.
pub(crate) fn is_ending(pod: &Value) -> bool {
    !pod::has_ended(pod) && object::is_terminating(pod)
}

/// Since when a pod is ready.
pub(crate) fn ready_since(pod: &Value) -> Option<Timestamp> {
    let ready = pod::condition(pod, "Ready").filter(|c| c["status"] == "True")?;
    object::time(ready, &["lastTransitionTime"])
}

/// From when on a ready pod counts as available; `None` where that is unknown or it is not ready.
pub(crate) fn available_from(pod: &Value, min_ready_seconds: i64) -> Option<Timestamp> {
    if min_ready_seconds == 0 {
        return pod::is_ready(pod).then_some(Timestamp::MIN);
    }
    ready_since(pod)?.checked_add(SignedDuration::from_secs(min_ready_seconds)).ok()
}

/// A pod of a template: what its owner says of it, with a name that begins like the owner's.
pub(crate) fn from_template(
    of: GroupResource<'static>,
    owner: &Value,
    template: &Value,
    name: &str,
) -> Value {
    let mut meta = Map::new();
    for member in ["labels", "annotations", "finalizers"] {
        if let Some(value) = object::at(template, &["metadata", member]) {
            meta.insert(member.to_owned(), value.clone());
        }
    }
    meta.insert("generateName".to_owned(), prefix(object::name(owner)).into());
    meta.insert("name".to_owned(), name.into());
    meta.insert("namespace".to_owned(), object::namespace(owner).into());
    meta.insert("ownerReferences".to_owned(), json!([owner::reference(of, owner)]));
    json!({"metadata": meta, "spec": template["spec"]})
}

/// How the names of an owner's pods begin.
fn prefix(owner: &str) -> String {
    if owner.len() < 253 { format!("{owner}-") } else { owner.to_owned() }
}

/// What the names of new pods depend on: it is the same as long as nothing has changed, and another after that, so that
/// the name of a pod that is gone is not given again while there is a trace of it.
pub(crate) fn seed(owner: &Value, pods: &[Arc<Value>]) -> Hash {
    let mut uids: Vec<&str> = pods.iter().map(|pod| object::uid(pod)).collect();
    uids.sort_unstable();
    let seed =
        Hash::new().text(object::uid(owner)).text(object::text(owner, &["metadata", "resourceVersion"]));
    uids.into_iter().fold(seed, Hash::text)
}

/// Names for new pods of an owner, as many as are asked for.
pub(crate) fn names<'a>(
    world: &'a World<'_>,
    owner: &'a Value,
    seed: Hash,
) -> impl Iterator<Item = String> + use<'a> {
    let taken = move |name: &str| world.view.get(PODS, object::namespace(owner), name).is_some();
    fresh(&prefix(object::name(owner)), seed, taken)
}

/// A template without the label of a Deployment that tells its hash, and without members that say nothing.
pub(crate) fn plain(template: &Value) -> Value {
    fn strip(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(strip).collect(),
            Value::Object(members) => {
                let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                let kept = members.iter().filter(|(_, value)| !empty(value));
                Value::Object(kept.map(|(key, value)| (key.clone(), strip(value))).collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }
    let mut plain = strip(template);
    if let Some(labels) = plain.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    plain
}

/// That pods could not be created or deleted.
pub(crate) struct Failure {
    /// As `FailedCreate`.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Whether creations and deletions are left alone in this round, as one was refused just now.
pub(crate) fn held(world: &World<'_>) -> bool {
    world.refused.is_some_and(|r| matches!(r.mutation, Mutation::Create(..) | Mutation::Delete(..)))
}

/// What a refusal means for the owner of pods; people are told.
pub(crate) fn failure(world: &World<'_>, owner: &Arc<Value>, out: &mut Outcome) -> Option<Failure> {
    let Refused { mutation, status } = world.refused?;
    let (of, reason, doing) = match mutation {
        Mutation::Create(of, _) => (of, "FailedCreate", "Error creating"),
        Mutation::Delete(of, ..) => (of, "FailedDelete", "Error deleting"),
        _ => return None,
    };
    if of.group_resource() != PODS || write::ends_with_namespace(status) {
        return None;
    }
    out.mutations.push(write::warn(owner, reason, format!("{doing}: {}", status.message)));
    let deleting = if reason == "FailedDelete" { "unable to delete pods: " } else { "" };
    Some(Failure { reason, message: format!("{deleting}{}", status.message) })
}

/// A number, or so many per cent of `whole`, rounded up or down; nothing for what is neither.
pub(crate) fn portion(value: &Value, whole: i64, up: bool) -> i64 {
    let percent =
        value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<i64>().ok());
    match percent {
        Some(percent) if up => (whole * percent + 99) / 100,
        Some(percent) => whole * percent / 100,
        None => value.as_i64().unwrap_or(0),
    }
}

/// How often a container of the pod was restarted at most: of the main ones, of the sidecars.
fn restarts(pod: &Value) -> (i64, i64) {
    let most = |list: &str, counts: &dyn Fn(&Value) -> bool| {
        let statuses = object::items(pod, &["status", list]).filter(|status| counts(status));
        statuses.filter_map(|status| object::number(status, &["restartCount"])).max().unwrap_or(0)
    };
    let sidecar = |status: &Value| {
        object::items(pod, &["spec", "initContainers"])
            .any(|c| c["name"] == status["name"] && c["restartPolicy"] == "Always")
    };
    (most("containerStatuses", &|_| true), most("initContainerStatuses", &sidecar))
}

/// The order in which pods are given up. `related` are all the pods that count for doubling up on nodes.
pub(crate) fn by_loss(pods: &mut [Arc<Value>], related: &[Arc<Value>], now: Timestamp) {
    let mut on_node = BTreeMap::<&str, usize>::new();
    for pod in related.iter().filter(|pod| is_active(pod)) {
        *on_node.entry(object::text(pod, &["spec", "nodeName"])).or_default() += 1;
    }
    pods.sort_by_cached_key(|pod| {
        let node = object::text(pod, &["spec", "nodeName"]);
        let phase = match object::text(pod, &["status", "phase"]) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost = object::annotation(pod, "controller.kubernetes.io/pod-deletion-cost");
        let cost = cost.and_then(|cost| cost.parse::<i32>().ok()).unwrap_or(0);
        let doubled = on_node.get(node).copied().unwrap_or(0);
        let ready = pod::is_ready(pod);
        let first = (!node.is_empty(), phase, ready, cost, Reverse(doubled));
        let age = |since: Option<Timestamp>| since.map_or(-2, |since| magnitude(now, since));
        let (main, sidecar) = restarts(pod);
        let created = object::time(pod, &["metadata", "creationTimestamp"]);
        let ready_for = if ready { age(ready_since(pod)) } else { 0 };
        (first, ready_for, Reverse(main), Reverse(sidecar), age(created), object::uid(pod).to_owned())
    });
}

/// The order of magnitude of an age. Within one, pods count as equally old: which goes is a matter of chance, lest the
/// same failure domain always loses.
fn magnitude(now: Timestamp, since: Timestamp) -> i64 {
    let age = u64::try_from(now.duration_since(since).as_nanos()).unwrap_or(0);
    age.checked_ilog2().map_or(-1, i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-02T00:00:00Z";

    fn sorted(pods: &[Value]) -> Vec<String> {
        let related: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
        let mut pods = related.clone();
        by_loss(&mut pods, &related, NOW.parse().unwrap());
        pods.iter().map(|pod| object::name(pod).to_owned()).collect()
    }

    fn pod(name: &str, node: &str, phase: &str, ready: Option<&str>) -> Value {
        let condition = ready.map(|at| json!({"type": "Ready", "status": "True", "lastTransitionTime": at}));
        json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": node},
            "status": {"phase": phase, "conditions": condition.into_iter().collect::<Vec<_>>()},
        })
    }

    #[test]
    fn the_least_loss_goes_first() {
        let since = Some("2026-01-01T00:00:00Z");
        let mut cheap = pod("cheap", "c", "Running", since);
        cheap["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-5"});
        let mut restarted = pod("restarted", "b", "Running", since);
        restarted["status"]["containerStatuses"] = json!([{"restartCount": 3}]);
        let pods = [
            pod("old", "a", "Running", since),
            restarted,
            pod("fresh", "d", "Running", Some("2026-01-01T23:59:00Z")),
            pod("doubled", "e", "Running", since),
            pod("doubled-2", "e", "Running", since),
            cheap,
            pod("unready", "f", "Running", None),
            pod("lost", "f", "Unknown", None),
            pod("pending", "f", "Pending", None),
            pod("unassigned", "", "Pending", None),
        ];
        // `unready`, `lost` and `pending` share a node, but come first for other reasons.
        assert_eq!(
            sorted(&pods),
            [
                "unassigned",
                "pending",
                "lost",
                "unready",
                "cheap",
                "doubled",
                "doubled-2",
                "fresh",
                "restarted",
                "old"
            ]
        );
    }

    #[test]
    fn a_pod_is_available_when_it_was_ready_for_long_enough() {
        let ready = pod("p", "n", "Running", Some("2026-01-01T00:00:00Z"));
        assert_eq!(available_from(&ready, 0), Some(Timestamp::MIN));
        assert_eq!(available_from(&ready, 60), "2026-01-01T00:01:00Z".parse().ok());
        assert_eq!(available_from(&pod("p", "n", "Running", None), 0), None);
    }
}
