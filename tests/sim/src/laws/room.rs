//! What there is room for, counted anew from what the server has: no scheduler is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto_kube::quantity::Quantity;
use proto_kube::{object, pod};
use serde_json::Value;

use super::{NODES, PODS};
use crate::server::Server;

/// A node that takes pods.
struct Room {
    name: String,
    cpu: i64,
    pods: i64,
    /// Those that are on it, or wait until others have left it.
    taken: Vec<Arc<Value>>,
}

impl Room {
    /// How much is left beside pods like these, in thousandths of a core and in pods.
    fn left(&self, beside: impl Fn(&Value) -> bool) -> (i64, i64) {
        let beside = self.taken.iter().filter(|pod| beside(pod));
        beside.fold((self.cpu, self.pods), |(cpu, pods), pod| (cpu - asked(pod), pods - 1))
    }

    fn has(&self, pod: &Value, beside: impl Fn(&Value) -> bool) -> bool {
        let (cpu, pods) = self.left(beside);
        asked(pod) <= cpu && pods > 0
    }
}

/// In thousandths of a core.
fn asked(pod: &Value) -> i64 {
    let containers = object::items(pod, &["spec", "containers"]);
    containers.map(|c| Quantity::of(&c["resources"]["requests"]["cpu"]).amount.millis()).sum()
}

fn node_of(pod: &Value) -> &str {
    object::text(pod, &["spec", "nodeName"])
}

fn is_bound(pod: &Value) -> bool {
    !node_of(pod).is_empty()
}

fn rank(pod: &Value) -> i64 {
    object::number(pod, &["spec", "priority"]).unwrap_or(0)
}

fn rooms(server: &Server) -> Vec<Room> {
    let pods: Vec<Arc<Value>> = server.list(PODS).into_iter().filter(|pod| !pod::has_ended(pod)).collect();
    let room = |node: Arc<Value>| {
        let name = object::name(&node);
        let has = |key: &str| Quantity::of(&node["status"]["allocatable"][key]).amount;
        let waits =
            |pod: &Value| !is_bound(pod) && object::text(pod, &["status", "nominatedNodeName"]) == name;
        let taken = pods.iter().filter(|pod| node_of(pod) == name || waits(pod)).cloned().collect();
        Room { name: name.to_owned(), cpu: has("cpu").millis(), pods: has("pods").units(), taken }
    };
    server.list(NODES).into_iter().map(room).collect()
}

/// The bound pods of a node do not ask for more than it has.
pub(super) fn fits(server: &Server) -> Result<(), String> {
    for room in rooms(server) {
        let (cpu, pods) = room.left(is_bound);
        if cpu < 0 || pods < 0 {
            return Err(format!("fits: {} is left with {cpu}m and room for {pods} pods", room.name));
        }
    }
    Ok(())
}

/// The pods that have no node, though one would take them or could be made to, by uid; and which.
pub(super) fn could_run(server: &Server) -> BTreeMap<String, String> {
    let mut rooms = rooms(server);
    // Who bears a taint is to take none.
    let is_tainted = |name: &str| {
        server.get(NODES, "", name).is_some_and(|n| object::items(&n, &["spec", "taints"]).next().is_some())
    };
    rooms.retain(|room| !is_tainted(&room.name));
    let mut could = BTreeMap::new();
    for pod in waiting(server) {
        let own = |room: &&Room| only(&pod).is_none_or(|name| name == room.name);
        let others = |other: &Value| object::uid(other) != object::uid(&pod);
        let fits = |room: &Room| {
            room.has(&pod, |other| others(other) && (is_bound(other) || rank(other) >= rank(&pod)))
        };
        let wins = |room: &Room| room.has(&pod, |other| others(other) && rank(other) >= rank(&pod));
        if let Some(room) = rooms.iter().filter(own).find(|room| fits(room) || wins(room)) {
            let why = format!("{} waits, though {} has room for it", object::name(&pod), room.name);
            could.insert(object::uid(&pod).to_owned(), why);
        }
    }
    could
}

/// The applications of which a pod waits for room that is not there.
pub(super) fn crowded(server: &Server) -> BTreeSet<String> {
    let could = could_run(server);
    let stuck = waiting(server).filter(|pod| !could.contains_key(object::uid(pod)));
    stuck.filter_map(|pod| object::label(&pod, "app").map(str::to_owned)).collect()
}

fn waiting(server: &Server) -> impl Iterator<Item = Arc<Value>> {
    let waits = |pod: &Arc<Value>| !is_bound(pod) && !object::is_terminating(pod) && !pod::has_ended(pod);
    server.list(PODS).into_iter().filter(waits)
}

/// The one node that a pod is for, as those of a `DaemonSet` are.
fn only(pod: &Value) -> Option<&str> {
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].as_str()
}
