//! Whether a node still tells of itself. What counts is that something of it was seen to change, by our clock: the times
//! in leases and statuses are those of other machines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proto_kube::{object, view::View};
use serde_json::{Value, json};

use super::condition;
use crate::conditions::stamp;
use crate::resources::LEASES;

/// How long a node may be silent, and how long one that has never said anything.
const GRACE: Duration = Duration::from_secs(40);
const STARTUP_GRACE: Duration = Duration::from_secs(60);
pub(super) const LEASES_OF_NODES: &str = "kube-node-lease";

/// What was last seen of a node.
#[derive(Debug, Clone)]
struct Seen {
    /// As events name it when it is gone.
    node: Arc<Value>,
    heartbeat: String,
    renewed: String,
    /// Whether it has given its name back: it will tell nothing any more.
    released: bool,
    /// When one of them changed.
    at: Duration,
}

/// What is remembered of all nodes.
#[derive(Debug, Default)]
pub(super) struct Health(BTreeMap<String, Seen>);

impl Health {
    /// Looks at a node; tells whether it was not known.
    pub(super) fn look(&mut self, view: &dyn View, node: &Value, at: Duration) -> bool {
        let heartbeat = condition(node, "Ready").map_or("", |c| object::text(c, &["lastHeartbeatTime"]));
        let lease = view.get(LEASES, LEASES_OF_NODES, object::name(node));
        let renewed = lease.as_ref().map_or("", |lease| object::text(lease, &["spec", "renewTime"]));
        let released = lease.as_ref().is_some_and(|lease| is_released(lease));
        let known =
            self.0.get(object::name(node)).filter(|seen| object::uid(&seen.node) == object::uid(node));
        if known.is_some_and(|seen| {
            (seen.heartbeat.as_str(), seen.renewed.as_str(), seen.released) == (heartbeat, renewed, released)
        }) {
            return false;
        }
        let new = known.is_none();
        let named = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": object::name(node), "uid": object::uid(node)}});
        let (heartbeat, renewed) = (heartbeat.to_owned(), renewed.to_owned());
        let seen = Seen { node: Arc::new(named), heartbeat, renewed, released, at };
        self.0.insert(object::name(node).to_owned(), seen);
        new
    }

    /// Whether a node has been silent for too long, or has said that it ends.
    pub(super) fn is_silent(&self, node: &Value, at: Duration) -> bool {
        let grace = if condition(node, "Ready").is_some() { GRACE } else { STARTUP_GRACE };
        self.0.get(object::name(node)).is_some_and(|seen| seen.released || at.saturating_sub(seen.at) > grace)
    }

    /// Forgets a node that is gone.
    pub(super) fn forget(&mut self, name: &str) -> Option<Arc<Value>> {
        self.0.remove(name).map(|seen| seen.node)
    }

    /// Gives all nodes their time anew.
    pub(super) fn pardon(&mut self, at: Duration) {
        self.0.values_mut().for_each(|seen| seen.at = at);
    }
}

/// Whether the agent that renewed a lease has given the node's name back.
fn is_released(lease: &Value) -> bool {
    object::at(lease, &["spec", "holderIdentity"]).is_some_and(|holder| holder == "")
}

/// The status of a node of which nothing is known any more; nothing when it says so already.
pub(super) fn unknown(node: &Value, now: Timestamp) -> Option<Value> {
    let mut conditions: Vec<Value> = object::items(node, &["status", "conditions"]).cloned().collect();
    let before = conditions.clone();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|c| c["type"] == kind) {
            Some(condition) if condition["status"] == "Unknown" => {}
            Some(condition) => {
                condition["status"] = "Unknown".into();
                condition["reason"] = "NodeStatusUnknown".into();
                condition["message"] = "Kubelet stopped posting node status.".into();
                condition["lastTransitionTime"] = stamp(now);
            }
            None => conditions.push(json!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": node["metadata"]["creationTimestamp"], "lastTransitionTime": stamp(now),
            })),
        }
    }
    (conditions != before).then(|| {
        let mut node = node.clone();
        node["status"]["conditions"] = conditions.into();
        node
    })
}
