//! Nodes as a DaemonSet sees them: whether a pod belongs there, how it gets there, when to try again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use proto_kube::{node, object};
use serde_json::{Value, json};

/// A node, and the set's pods that are there or shall come there. The oldest that is bound is first.
#[derive(Default)]
pub(super) struct Place {
    pub(super) exists: bool,
    /// Whether a pod belongs there.
    pub(super) runs: bool,
    /// Whether one that is there may stay.
    pub(super) stays: bool,
    pub(super) pods: Vec<Arc<Value>>,
}

impl Place {
    pub(super) fn of(spec: &Value, node: &Value) -> Self {
        let named = object::text(spec, &["nodeName"]);
        let fits = (named.is_empty() || named == object::name(node)) && node::is_wanted(spec, node);
        let tolerations = spec["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
        let bears = |effects: &[&str]| node::bears(tolerations, node, effects);
        Self {
            exists: true,
            runs: fits && bears(&["NoExecute", "NoSchedule"]),
            stays: fits && bears(&["NoExecute"]),
            pods: Vec::new(),
        }
    }
}

/// What nodes are tainted with by themselves does not keep a daemon away.
pub(super) fn add_tolerations(spec: &mut Value) {
    let host_network = object::flag(spec, &["hostNetwork"]);
    let mut tolerations: Vec<Value> = object::items(spec, &["tolerations"]).cloned().collect();
    for (name, effect) in [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
        ("network-unavailable", "NoSchedule"),
    ] {
        if name == "network-unavailable" && !host_network {
            continue;
        }
        let key = format!("node.kubernetes.io/{name}");
        let new = json!({"key": key, "operator": "Exists", "effect": effect});
        // One of the same taint, with another time or value, gives way to it.
        let same = |t: &Value| ["key", "operator", "effect"].iter().all(|part| t[part] == new[part]);
        match tolerations.iter().position(same) {
            Some(at) => tolerations[at] = new,
            None => tolerations.push(new),
        }
    }
    spec["tolerations"] = tolerations.into();
}

const AFFINITY: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Has the scheduler put a pod on this node and no other.
pub(super) fn bind(spec: &mut Value, node: &str) {
    let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
    spec["affinity"]["nodeAffinity"][AFFINITY]["nodeSelectorTerms"] = json!([term]);
}

/// The node that a pod is on or shall come to.
pub(super) fn target(pod: &Value) -> Option<&str> {
    let bound = object::text(pod, &["spec", "nodeName"]);
    if !bound.is_empty() {
        return Some(bound);
    }
    let terms = object::items(pod, &["spec", "affinity", "nodeAffinity", AFFINITY, "nodeSelectorTerms"]);
    let fields = terms.flat_map(|term| object::items(term, &["matchFields"]));
    let mut named = fields.filter(|field| field["key"] == "metadata.name" && field["operator"] == "In");
    match named.next()?["values"].as_array()?.as_slice() {
        [name] => name.as_str(),
        _ => None,
    }
}

const WAIT_MIN: SignedDuration = SignedDuration::from_secs(1);
const WAIT_MAX: SignedDuration = SignedDuration::from_mins(15);

/// The last failed pod of a node that was let go, when, and how long the next one has to wait.
type Retry = (String, Timestamp, SignedDuration);

/// By the set's uid and the node.
#[derive(Default)]
pub(super) struct Retries(Mutex<HashMap<(String, String), Retry>>);

impl Retries {
    /// When a failed pod may be replaced; `None` for now. Who asks again for the same pod gets the same answer.
    pub(super) fn after(&self, key: (String, String), pod: &str, now: Timestamp) -> Option<Timestamp> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What has been quiet for twice its wait starts anew.
        all.retain(|_, (_, at, wait)| super::later(*at, *wait * 2) > now);
        let wait = match all.get(&key) {
            Some((last, ..)) if last == pod => return None,
            Some((_, at, wait)) if super::later(*at, *wait) > now => return Some(super::later(*at, *wait)),
            Some((_, _, wait)) => (*wait * 2).min(WAIT_MAX),
            None => WAIT_MIN,
        };
        all.insert(key, (pod.to_owned(), now, wait));
        None
    }
}
