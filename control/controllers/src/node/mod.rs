//! Nodes: their ranges of addresses, whether they are alive, and what becomes of the pods of those that are not.

mod cidr;
mod evict;
mod gc;
mod health;
mod lifecycle;
mod taints;
mod zones;

use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::object;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::conditions::stamp;
use crate::resources::{PODS, served};
use crate::{Controller, Mutation, owner};

/// Those who look after nodes. They share a clock: it runs as long as there are nodes.
pub(crate) fn all() -> Vec<Box<dyn Controller>> {
    let clock = Arc::new(Clock::default());
    vec![
        Box::new(cidr::PodCidrs::default()),
        Box::new(lifecycle::NodeLifecycle::new(clock.clone())),
        Box::new(evict::TaintEviction::new(clock.clone())),
        Box::new(gc::PodGc::new(clock)),
    ]
}

/// A condition of a node.
fn condition<'a>(node: &'a Value, kind: &str) -> Option<&'a Value> {
    object::items(node, &["status", "conditions"]).find(|c| c["type"] == kind)
}

/// The status of a condition of a node; empty where it has none.
fn status<'a>(node: &'a Value, kind: &str) -> &'a str {
    condition(node, kind).map_or("", |condition| object::text(condition, &["status"]))
}

/// A pod with a condition that says why it must go, as a patch of its status; nothing when it says so already.
fn disrupted(pod: &Value, reason: &str, message: &str, failed: bool, now: Timestamp) -> Option<Mutation> {
    let told = proto_kube::pod::condition(pod, "DisruptionTarget")
        .is_some_and(|c| c["status"] == "True" && c["reason"] == reason && c["message"] == message);
    let ended = proto_kube::pod::has_ended(pod);
    if ended && failed || told && !failed {
        return None;
    }
    let mut patch = owner::guarded(pod);
    let mut status = json!({});
    if failed {
        status["phase"] = "Failed".into();
    }
    if !told && !reason.is_empty() {
        let mut condition = json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": stamp(now)});
        if let Some(generation) = object::at(pod, &["metadata", "generation"]) {
            condition["observedGeneration"] = generation.clone();
        }
        let others =
            object::items(pod, &["status", "conditions"]).filter(|c| c["type"] != "DisruptionTarget");
        status["conditions"] = others.cloned().chain([condition]).collect();
    }
    patch["status"] = status;
    Some(Mutation::Merge(served(PODS), owner::key(pod), Some("status"), patch))
}

/// Removes a pod without waiting for its node, of which nothing is to be expected.
fn force(pod: &Value) -> Mutation {
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": object::uid(pod)}});
    Mutation::Delete(served(PODS), owner::key(pod), options)
}

/// Says something about a node, in the words that upstream has for it.
fn said(node: &Arc<Value>, reason: &'static str, what: &str) -> Mutation {
    let message = format!("Node {} {what}", object::name(node));
    crate::write::tell(node, reason, message)
}

#[cfg(test)]
mod tests;
