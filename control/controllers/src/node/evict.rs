//! Pods leave a node whose taints they do not bear, or no longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto_kube::view::View;
use proto_kube::{GroupResource, object, pod};
use serde_json::Value;

use super::{disrupted, taints};
use crate::clock::{Clock, PERIOD, after};
use crate::resources::{NODES, PODS};
use crate::write::tell;
use crate::{Controller, Key, Outcome, World, owner};

/// Deletes pods from nodes with taints of the effect `NoExecute`.
pub(crate) struct TaintEviction {
    clock: Arc<Clock>,
    /// Since when a pod has been where it may not stay for ever; by its uid.
    since: Mutex<BTreeMap<Key, (String, Duration)>>,
}

impl TaintEviction {
    /// One that shares a clock.
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, since: Mutex::default() }
    }
}

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "node-controller"
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
            let driving = |node: Option<&Value>| -> Vec<Value> {
                let taints = node.into_iter().flat_map(taints::of);
                taints.filter(|taint| taint["effect"] == "NoExecute").cloned().collect()
            };
            let Some(node) = new.filter(|node| driving(old) != driving(Some(node))) else {
                return Vec::new();
            };
            let pods = view.list(PODS, "");
            let here =
                pods.iter().filter(|pod| object::text(pod, &["spec", "nodeName"]) == object::name(node));
            return here.map(|pod| owner::key(pod)).collect();
        }
        let part = |pod: &Value| (pod["spec"]["nodeName"].clone(), pod["spec"]["tolerations"].clone());
        match (old, new) {
            (Some(old), Some(new)) if part(old) == part(new) && object::uid(old) == object::uid(new) => {
                Vec::new()
            }
            _ => new.or(old).map(owner::key).into_iter().collect(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let pod = world.view.get(PODS, &key.0, &key.1);
        let pod = pod.filter(|pod| !object::is_terminating(pod) && !pod::has_ended(pod));
        let Some(pod) = pod else {
            since.remove(key);
            return out;
        };
        let node = world.view.get(NODES, "", object::text(&pod, &["spec", "nodeName"]));
        let Some(seconds) = node.and_then(|node| taints::tolerated(&pod, &node)) else {
            if since.remove(key).is_some() {
                let text = format!("Cancelling deletion of Pod {}/{}", key.0, key.1);
                out.mutations.push(tell(&pod, "TaintManagerEviction", text));
            }
            return out;
        };
        let at = self.clock.at(world.now);
        let known = since.get(key).filter(|(uid, _)| uid == object::uid(&pod)).map(|(_, since)| *since);
        let begun = known.unwrap_or(at);
        let left = (begun + Duration::from_secs(seconds)).saturating_sub(at);
        if left > Duration::ZERO {
            since.insert(key.clone(), (object::uid(&pod).to_owned(), begun));
            out.wake(after(world.now, left.min(PERIOD * 6)));
            return out;
        }
        let message = "Taint manager: deleting due to NoExecute taint";
        out.mutations.extend(disrupted(&pod, "DeletionByTaintManager", message, false, world.now));
        let text = format!("Marking for deletion Pod {}/{}", key.0, key.1);
        out.mutations.push(owner::delete(PODS, &pod));
        out.mutations.push(tell(&pod, "TaintManagerEviction", text));
        out
    }
}
