//! What an agent hears of the API server and what it tells it.

use std::sync::Arc;

use agent_core::{Termination, pod};
use controllers::Mutation;
use fastrand::Rng;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use proto_kube::object;
use serde_json::{Value, json};

use super::{Agent, PODS};
use crate::server::{Change, Server, Trouble, served};
use crate::time::{Now, seconds};

/// What of a node concerns its pods.
pub(super) fn concern(node: Option<&Value>) -> Value {
    let Some(node) = node else { return Value::Null };
    json!({"metadata": {"name": node["metadata"]["name"], "labels": node["metadata"]["labels"]},
        "spec": {"taints": node["spec"]["taints"]}})
}

impl Agent {
    /// A pod came, changed or went.
    pub(super) fn pod(&mut self, event: &Change, node: &str, now: Now) {
        let (old, new) = (event.old.as_ref(), event.new.as_ref());
        let replaced = old.filter(|old| new.is_none_or(|new| object::uid(new) != object::uid(old)));
        if let Some(old) = replaced {
            let uid = object::uid(old);
            self.bound.remove(uid);
            self.over.remove(uid);
            self.end(uid, grace(old), now);
        }
        if let Some(told) = new.and_then(|new| self.told.get_mut(object::uid(new))) {
            told.due = Some(told.due.unwrap_or(now.since));
        }
        let Some(new) = new else { return };
        let uid = object::uid(new);
        self.bound.insert(uid.to_owned());
        let mut pod: Pod = serde_json::from_value((**new).clone()).expect("the model makes good pods");
        let mut status = pod.status.take().unwrap_or_default();
        status.conditions.get_or_insert_default().retain(|c| agent_core::status::is_own(&c.type_));
        let source = (format!("{}/config.source", "kubernetes.io"), agent_core::pod::API.to_owned());
        pod.metadata.annotations.get_or_insert_default().extend([source]);
        debug_assert_eq!(object::text(new, &["spec", "nodeName"]), node);
        self.want(Arc::new(pod), uid, status, now);
        if object::is_terminating(new) {
            self.end(uid, Some(grace(new).unwrap_or(0)), now);
        }
    }

    /// What was there at the start has been told: what is not among it nobody wants.
    pub(super) fn synced(&mut self, now: Now) {
        self.synced = true;
        let unknown = self.desired.pods.iter().map(|p| p.uid.clone()).filter(|uid| !self.bound.contains(uid));
        for uid in unknown.collect::<Vec<_>>() {
            self.end(&uid, None, now);
        }
    }

    fn end(&mut self, uid: &str, grace_seconds: Option<i64>, now: Now) {
        let Some(desired) = self.desired.pods.iter_mut().find(|p| p.uid == uid) else { return };
        let grace_seconds = grace_seconds.unwrap_or_else(|| pod::grace_seconds(&desired.pod));
        let end = Termination { requested_at: now.clock, grace_seconds };
        if desired.end.is_none_or(|known| end.deadline() < known.deadline()) {
            desired.end = Some(end);
            self.plan_at = Some(now.since);
        }
    }

    /// Tells how a pod is, or that nothing is left of it.
    pub(super) fn report(&mut self, uid: &str, node: &str, server: &mut Server, now: Now, rng: &mut Rng) {
        let Some(told) = self.told.get_mut(uid) else { return };
        told.due = None;
        let found = server.get(("", "pods"), &told.namespace, &told.name);
        let Some(found) = found.filter(|found| object::uid(found) == uid) else {
            if told.over {
                self.told.remove(uid);
            }
            return;
        };
        let place = (told.namespace.clone(), told.name.clone());
        let mut new = merged(&found["status"], &told.status);
        agent_core::status::stay_ended(&found["status"], &mut new);
        let mutation = if new != found["status"] {
            let patch = json!({"metadata": {"uid": uid}, "status": new});
            Mutation::Merge(served("", "pods"), place, Some("status"), patch)
        } else if told.over && object::is_terminating(&found) {
            let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
            Mutation::Delete(served("", "pods"), place, options)
        } else {
            return;
        };
        let answer = server.ask(node, &mutation, now, rng);
        let is_over = matches!(mutation, Mutation::Delete(..));
        match answer {
            Err(Trouble::Status(status)) if status.code == 404 => {}
            Err(_) => {
                told.failures += 1;
                told.due = Some(now.since + seconds(1 << told.failures.min(3)));
            }
            // Until the watch says that it is gone.
            Ok(_) if is_over => told.due = Some(now.since + seconds(10)),
            Ok(_) => (told.failures, told.due) = (0, told.over.then_some(now.since)),
        }
    }
}

fn grace(pod: &Value) -> Option<i64> {
    object::number(pod, &["metadata", "deletionGracePeriodSeconds"])
}

/// The status with what the node says of it: conditions of others stay, and since when something is so, too.
fn merged(old: &Value, new: &PodStatus) -> Value {
    let mut new = serde_json::to_value(new).unwrap_or_default();
    let mut conditions: Vec<Value> = object::items(old, &["conditions"]).cloned().collect();
    for condition in object::items(&new, &["conditions"]) {
        match conditions.iter_mut().find(|c| c["type"] == condition["type"]) {
            Some(known) => {
                let since = known["lastTransitionTime"].take();
                let same = known["status"] == condition["status"];
                *known = condition.clone();
                if same {
                    known["lastTransitionTime"] = since;
                }
            }
            None => conditions.push(condition.clone()),
        }
    }
    new["conditions"] = conditions.into();
    for (key, value) in old.as_object().into_iter().flatten() {
        if new.get(key).is_none() {
            // A merge takes away what is null.
            let ours = ["message", "reason", "podIP", "podIPs", "containerStatuses"].contains(&key.as_str());
            new[key] = if ours { Value::Null } else { value.clone() };
        }
    }
    new
}

/// Renews the node's lease, and registers it where it is not there.
pub(super) fn beat((name, cpu): (&str, i64), server: &mut Server, now: Now, rng: &mut Rng) {
    let stamp = now.clock.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let Some(node) = server.get(("", "nodes"), "", name) else {
        let made = Mutation::Create(served("", "nodes"), node(name, cpu, &stamp));
        let _ = server.ask(name, &made, now, rng);
        return;
    };
    let ready = object::items(&node, &["status", "conditions"])
        .any(|c| c["type"] == "Ready" && c["status"] == "True");
    if !ready {
        let patch = json!({"status": {"conditions": conditions(&stamp)}});
        let told =
            Mutation::Merge(served("", "nodes"), (String::new(), name.to_owned()), Some("status"), patch);
        if server.ask(name, &told, now, rng).is_err() {
            return;
        }
    }
    let leases = served("coordination.k8s.io", "leases");
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": object::uid(&node)});
    let place = ("kube-node-lease".to_owned(), name.to_owned());
    let lease = match server.get(("coordination.k8s.io", "leases"), &place.0, name) {
        Some(_) => {
            let patch = json!({"metadata": {"ownerReferences": [owner]}, "spec": {"renewTime": stamp}});
            Mutation::Merge(leases, place, None, patch)
        }
        None => Mutation::Create(
            leases,
            json!({"metadata": {"namespace": place.0, "name": name, "ownerReferences": [owner]},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": stamp}}),
        ),
    };
    let _ = server.ask(name, &lease, now, rng);
}

fn conditions(stamp: &str) -> Value {
    let of = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "Sim", "message": "",
            "lastHeartbeatTime": stamp, "lastTransitionTime": stamp})
    };
    json!([
        of("MemoryPressure", "False"),
        of("DiskPressure", "False"),
        of("PIDPressure", "False"),
        of("Ready", "True")
    ])
}

fn node(name: &str, cpu: i64, stamp: &str) -> Value {
    let amounts = json!({"cpu": format!("{cpu}m"), "memory": "8Gi", "pods": PODS.to_string()});
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64"}},
        "spec": {},
        "status": {"capacity": amounts, "allocatable": amounts, "conditions": conditions(stamp)},
    })
}
