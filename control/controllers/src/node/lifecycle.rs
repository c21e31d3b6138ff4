//! Which nodes are alive. Of a silent one the conditions become unknown, its pods are no longer ready, and it is tainted,
//! so that nothing new comes to it and its pods are driven away, unless all nodes are silent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use proto_kube::view::View;
use proto_kube::{GroupResource, object, pod};
use serde_json::{Value, json};

use super::health::{self, Health, LEASES_OF_NODES};
use super::zones::{self, Zones};
use super::{said, status, taints};
use crate::clock::{Clock, PERIOD, after};
use crate::conditions::stamp;
use crate::resources::{LEASES, NODES, PODS, served};
use crate::write::{update_status, warn};
use crate::{Controller, Key, Mutation, Outcome, World, owner};

/// Watches over nodes. What it remembers it sees anew after a restart: then every node has its time again.
pub(crate) struct NodeLifecycle {
    clock: Arc<Clock>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    health: Health,
    /// Whether all nodes were away when somebody last looked.
    all_away: bool,
    /// When the last node of a zone was given up.
    given_up: BTreeMap<String, Duration>,
}

impl NodeLifecycle {
    /// One that shares a clock.
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, memory: Mutex::default() }
    }
}

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "nodes"), ("", "pods"), ("coordination.k8s.io", "leases")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let Some(object) = new.or(old) else { return Vec::new() };
        let name = match of {
            NODES => object::name(object),
            LEASES if object::namespace(object) == LEASES_OF_NODES => object::name(object),
            // A pod that shows up on a node that is away.
            PODS if pod::is_ready(object) => {
                let name = object::text(object, &["spec", "nodeName"]);
                let away = view.get(NODES, "", name).is_some_and(|node| status(&node, "Ready") == "Unknown");
                if away { name } else { "" }
            }
            _ => "",
        };
        if name.is_empty() { Vec::new() } else { vec![(String::new(), name.to_owned())] }
    }

    fn reconcile(&self, world: &World<'_>, (_, name): &Key) -> Outcome {
        let mut out = Outcome::default();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.clock.at(world.now);
        let Some(node) = world.view.get(NODES, "", name) else {
            let gone = memory.health.forget(name);
            let text = format!("event: Removing Node {name} from Controller");
            out.mutations.extend(gone.map(|node| said(&node, "RemovingNode", &text)));
            return out;
        };
        out.wake(after(world.now, PERIOD));
        if memory.health.look(world.view, &node, at) {
            let text = format!("event: Registered Node {name} in Controller");
            out.mutations.push(said(&node, "RegisteredNode", &text));
        }
        if memory.health.is_silent(&node, at)
            && let Some(unknown) = health::unknown(&node, world.now)
        {
            let was_ready = status(&node, "Ready") == "True";
            out.mutations.push(update_status(NODES, unknown));
            out.mutations
                .extend(was_ready.then(|| said(&node, "NodeNotReady", "status is now: NodeNotReady")));
            return out;
        }
        let driving = memory.driving(world.view, &node, at);
        if let Some(taints) = taints::wanted(&node, driving, world.now) {
            let mut patch = owner::guarded(&node);
            patch["spec"]["taints"] = if taints.is_empty() { Value::Null } else { taints.into() };
            out.mutations.push(Mutation::Merge(served(NODES), owner::key(&node), None, patch));
        }
        out.mutations.extend(labels(&node));
        if status(&node, "Ready") == "Unknown" {
            out.mutations.extend(unready(world.view, name, world.now));
        }
        out
    }
}

impl Memory {
    /// The taint that drives pods away from a node, if they are to be.
    fn driving(&mut self, view: &dyn View, node: &Value, at: Duration) -> Option<&'static str> {
        let wanted = taints::driving(node);
        if wanted.is_none() && !self.all_away {
            return None;
        }
        let nodes = view.list(NODES, "");
        let zones = Zones::new(&nodes, |node| !self.health.is_silent(node, at));
        let were_away = std::mem::replace(&mut self.all_away, zones.all_away());
        if were_away && !self.all_away {
            // Some are back: the others may be on their way.
            self.health.pardon(at);
        }
        if self.all_away {
            return None;
        }
        let wanted = wanted?;
        let driven = |key| taints::has(node, key, "NoExecute");
        if driven(taints::NOT_READY) || driven(taints::UNREACHABLE) {
            return Some(wanted);
        }
        let zone = zones::of(node);
        let pace = zones.pace(&zone)?;
        let ripe = self.given_up.get(&zone).is_none_or(|last| at.saturating_sub(*last) >= pace);
        ripe.then(|| {
            self.given_up.insert(zone, at);
            wanted
        })
    }
}

/// The pods of a node that is away, said to be not ready.
fn unready(view: &dyn View, node: &str, now: Timestamp) -> Vec<Mutation> {
    let mut mutations = Vec::new();
    for pod in view.list(PODS, "") {
        if object::text(&pod, &["spec", "nodeName"]) != node || !pod::is_ready(&pod) {
            continue;
        }
        let mut conditions: Vec<Value> = object::items(&pod, &["status", "conditions"]).cloned().collect();
        for condition in conditions.iter_mut().filter(|c| c["type"] == "Ready") {
            condition["status"] = "False".into();
            condition["lastTransitionTime"] = stamp(now);
        }
        let mut patch = owner::guarded(&pod);
        patch["status"]["conditions"] = conditions.into();
        mutations.push(Mutation::Merge(served(PODS), owner::key(&pod), Some("status"), patch));
        mutations.push(warn(&pod, "NodeNotReady", "Node is not ready".to_owned()));
    }
    mutations
}

/// The older names of two labels, which some still select by.
fn labels(node: &Value) -> Option<Mutation> {
    let label = |key: &str| object::text(node, &["metadata", "labels", key]);
    let mut old = json!({});
    for (key, older) in
        [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")]
    {
        if !label(key).is_empty() && label(older) != label(key) {
            old[older] = label(key).into();
        }
    }
    let some = old.as_object().is_some_and(|old| !old.is_empty());
    let patch = json!({"metadata": {"uid": object::uid(node), "labels": old}});
    some.then(|| Mutation::Merge(served(NODES), owner::key(node), None, patch))
}
