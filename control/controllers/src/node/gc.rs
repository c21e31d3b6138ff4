//! Pods that nobody else will remove: those of nodes that are gone, those that are deleted before they had a node, and
//! the oldest of very many that have ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto_kube::view::View;
use proto_kube::{GroupResource, object, pod};
use serde_json::Value;

use super::{disrupted, force, status, taints};
use crate::clock::{Clock, PERIOD, after};
use crate::resources::{NODES, PODS, served};
use crate::{Condition, Controller, Key, Mutation, Outcome, World, owner};

/// So many pods that have ended are kept.
const ENDED_MAX: usize = 12_500;
/// How often they are counted.
const EVERY: Duration = Duration::from_secs(20);
/// How long a node may be gone: it may come back under the same name.
const QUARANTINE: Duration = Duration::from_secs(40);
/// A pod's name cannot be empty: the key under which ended pods are counted.
const ALL: &str = "";

/// Removes pods.
pub(crate) struct PodGc {
    clock: Arc<Clock>,
    /// Since when nodes with pods are gone.
    gone: Mutex<BTreeMap<String, Duration>>,
}

impl PodGc {
    /// One that shares a clock.
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, gone: Mutex::default() }
    }
}

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "nodes"), ("", "pods")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of == NODES {
            let Some(node) = new.or(old) else { return Vec::new() };
            if new.is_some() {
                self.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(object::name(node));
            }
            let out = |node: Option<&Value>| {
                node.is_some_and(|n| taints::of(n).any(|t| t["key"] == taints::OUT_OF_SERVICE))
            };
            let concerns = new.is_none() || out(new) && (!out(old) || status(node, "Ready") != "True");
            let mut keys: Vec<Key> = Vec::new();
            if concerns {
                let pods = view.list(PODS, "");
                let here =
                    pods.iter().filter(|pod| object::text(pod, &["spec", "nodeName"]) == object::name(node));
                keys.extend(here.map(|pod| owner::key(pod)));
            }
            if old.is_none() {
                keys.push((String::new(), ALL.to_owned()));
            }
            return keys;
        }
        let Some(pod) = new else { return Vec::new() };
        let node = object::text(pod, &["spec", "nodeName"]);
        let concerns = object::is_terminating(pod) || !node.is_empty() && view.get(NODES, "", node).is_none();
        if concerns { vec![owner::key(pod)] } else { Vec::new() }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        if key.1 == ALL {
            return ended(world);
        }
        let mut out = Outcome::default();
        let Some(pod) = world.view.get(PODS, &key.0, &key.1).filter(|pod| !is_forced(pod)) else {
            return out;
        };
        let name = object::text(&pod, &["spec", "nodeName"]);
        let mut reason = ("", "");
        match world.view.get(NODES, "", name) {
            _ if name.is_empty() => {
                if !object::is_terminating(&pod) {
                    return out;
                }
            }
            Some(node) => {
                let out_of_service = taints::of(&node).any(|t| t["key"] == taints::OUT_OF_SERVICE);
                if !object::is_terminating(&pod) || !out_of_service || status(&node, "Ready") == "True" {
                    return out;
                }
            }
            None => {
                let at = self.clock.at(world.now);
                let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
                let since = *gone.entry(name.to_owned()).or_insert(at);
                if at.saturating_sub(since) < QUARANTINE {
                    out.wake(after(world.now, PERIOD));
                    return out;
                }
                reason = ("DeletionByPodGC", "PodGC: node no longer exists");
                let node = (String::new(), name.to_owned());
                out.mutations.push(Mutation::If(Condition::Absent(served(NODES), node, None)));
            }
        }
        out.mutations.extend(disrupted(&pod, reason.0, reason.1, true, world.now));
        out.mutations.push(force(&pod));
        out
    }
}

/// Whether all has been done for a pod that its finalizers still keep.
fn is_forced(pod: &Value) -> bool {
    let grace = object::at(pod, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    object::is_terminating(pod) && pod::has_ended(pod) && grace.is_none_or(|seconds| seconds == 0)
}

/// Removes what has ended beyond what is kept: first the evicted, then the oldest.
fn ended(world: &World<'_>) -> Outcome {
    let mut pods = world.view.list(PODS, "");
    pods.retain(|pod| pod::has_ended(pod) && !object::is_terminating(pod));
    let beyond = pods.len().saturating_sub(ENDED_MAX);
    let rank = |pod: &Arc<Value>| {
        let evicted = object::text(pod, &["status", "reason"]) == "Evicted";
        let born = object::text(pod, &["metadata", "creationTimestamp"]).to_owned();
        (!evicted, born, object::name(pod).to_owned())
    };
    if beyond > 0 {
        pods.sort_by_cached_key(rank);
    }
    let mutations = pods[..beyond].iter().map(|pod| force(pod)).collect();
    Outcome { mutations, again: Some(after(world.now, EVERY)) }
}
