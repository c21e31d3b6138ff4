//! Taints of nodes: those that follow from conditions, and which of them pods bear.

use jiff::Timestamp;
use proto_kube::object;
use serde_json::{Value, json};

use super::status;
use crate::conditions::stamp;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub(super) const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Which taint follows from which status of which condition.
const OF_CONDITIONS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// The taints of a node.
pub(super) fn of(node: &Value) -> impl Iterator<Item = &Value> {
    object::items(node, &["spec", "taints"])
}

pub(super) fn has(node: &Value, key: &str, effect: &str) -> bool {
    of(node).any(|taint| taint["key"] == key && taint["effect"] == effect)
}

/// Which taint drives pods away from a node that is not ready.
pub(super) fn driving(node: &Value) -> Option<&'static str> {
    match status(node, "Ready") {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    }
}

/// The taints that a node should have: others' as they are; of those that conditions make, the right ones with the effect
/// `NoSchedule`; and with `NoExecute` the one that `driving` names. Nothing when it has them.
pub(super) fn wanted(node: &Value, driving: Option<&str>, now: Timestamp) -> Option<Vec<Value>> {
    let mut keys: Vec<(&str, &str)> = OF_CONDITIONS
        .iter()
        .filter(|(kind, is, _)| status(node, kind) == *is)
        .map(|(_, _, key)| (*key, "NoSchedule"))
        .collect();
    if node["spec"]["unschedulable"] == true {
        keys.push((UNSCHEDULABLE, "NoSchedule"));
    }
    keys.extend(driving.map(|key| (key, "NoExecute")));
    let ours = |taint: &Value| match object::text(taint, &["effect"]) {
        "NoSchedule" => {
            let key = &taint["key"];
            *key == UNSCHEDULABLE || OF_CONDITIONS.iter().any(|(_, _, of)| key == of)
        }
        "NoExecute" => taint["key"] == NOT_READY || taint["key"] == UNREACHABLE,
        _ => false,
    };
    let right =
        |taint: &Value| keys.iter().any(|(key, effect)| taint["key"] == *key && taint["effect"] == *effect);
    let kept: Vec<Value> = of(node).filter(|taint| !ours(taint) || right(taint)).cloned().collect();
    let missing = keys.iter().filter(|(key, effect)| !has(node, key, effect));
    let new: Vec<Value> =
        missing.map(|(key, effect)| json!({"key": key, "effect": effect, "timeAdded": stamp(now)})).collect();
    let changed = !new.is_empty() || kept.len() != of(node).count();
    changed.then(|| kept.into_iter().chain(new).collect())
}

/// For how many seconds a pod may stay with taints; `None` for ever. Only those with the effect `NoExecute` count.
pub(super) fn tolerated(pod: &Value, node: &Value) -> Option<u64> {
    let mut least: Option<u64> = None;
    for taint in of(node).filter(|taint| taint["effect"] == "NoExecute") {
        let mut borne = false;
        for toleration in object::items(pod, &["spec", "tolerations"]).filter(|t| bears(t, taint)) {
            borne = true;
            if let Some(seconds) = object::at(toleration, &["tolerationSeconds"]).and_then(Value::as_i64) {
                let seconds = u64::try_from(seconds).unwrap_or(0);
                least = Some(least.map_or(seconds, |least| least.min(seconds)));
            }
        }
        if !borne {
            return Some(0);
        }
    }
    least
}

fn bears(toleration: &Value, taint: &Value) -> bool {
    let text = |member| object::text(toleration, &[member]);
    let (effect, key) = (text("effect"), text("key"));
    let same = |own: &str, member: &str| own.is_empty() || taint[member] == own;
    same(effect, "effect")
        && same(key, "key")
        && match text("operator") {
            "Exists" => true,
            "" | "Equal" => text("value") == object::text(taint, &["value"]),
            _ => false,
        }
}
