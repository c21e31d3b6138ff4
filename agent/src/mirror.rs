//! Mirror pods: each static pod of the node has an image in the API, by which others see it. It is made again when
//! somebody deletes it, and goes with its pod.

use std::sync::Arc;
use std::time::Duration;

use agent_core::pod;
use client::{Cache, ClientError, Query};
use k8s_openapi::api::core::v1::Pod;
use proto_kube::{object, pod as kube_pod, view::View as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::config::{nodes, pods, pods_of};
use crate::labels::CONFIG_MIRROR;
use crate::sync::View;

/// How long to wait before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long before a mirror is made that the API does not take.
const REFUSED: Duration = Duration::from_secs(60);

/// A static pod of the node.
struct Static {
    uid: String,
    pod: Arc<Pod>,
    /// It is to have a mirror; one that is ending only keeps its own.
    stays: bool,
}

/// What to do next about a mirror.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Box<Value>),
    Delete { namespace: String, name: String, uid: String },
}

/// Keeps the mirrors of the pods in `view`, for ever.
pub(crate) async fn run(cache: Cache, node: String, mut view: watch::Receiver<Arc<View>>) {
    let mut events = pods_of(&cache, &node);
    cache.settled(&[pods()]).await;
    cache.synced(&[nodes()]).await;
    loop {
        let seen = view.borrow_and_update().clone();
        let mut pause = None;
        if seen.ready {
            for step in plan(&statics(&seen), &mirrors(&cache, &node), &owner(&cache, &node)) {
                if let Err(error) = act(&cache, &step).await {
                    let refused = matches!(error.code(), Some(400 | 403 | 422));
                    tracing::warn!(%error, "a mirror pod is not as it should be; trying again");
                    pause = Some(if refused { REFUSED } else { AGAIN });
                }
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            Some(event) = events.recv() => drain(event, &mut events),
            () = tokio::time::sleep(pause.unwrap_or(REFUSED)) => {}
        }
    }
}

/// Many events at once are looked at once.
fn drain(_: client::Event, events: &mut mpsc::UnboundedReceiver<client::Event>) {
    while events.try_recv().is_ok() {}
}

fn statics(view: &View) -> Vec<Static> {
    let own = view.pods.iter().filter(|entry| pod::annotation(&entry.pod, pod::SOURCE) == Some("file"));
    own.map(|entry| Static { uid: entry.uid.clone(), pod: entry.pod.clone(), stays: !entry.is_ending() })
        .collect()
}

/// The pods of the node in the API.
fn mirrors(cache: &Cache, node: &str) -> Vec<Arc<Value>> {
    let mut all = cache.list(pods().group_resource(), "");
    all.retain(|pod| object::text(pod, &["spec", "nodeName"]) == node);
    all
}

/// Whose the mirrors are.
fn owner(cache: &Cache, node: &str) -> Value {
    let found = cache.get(nodes().group_resource(), "", node);
    let uid = found.map(|node| object::uid(&node).to_owned()).unwrap_or_default();
    json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": true})
}

fn plan(statics: &[Static], known: &[Arc<Value>], owner: &Value) -> Vec<Step> {
    let hash =
        |pod: &Value| object::annotations(pod).find(|(k, _)| *k == CONFIG_MIRROR).map(|(_, v)| v.to_owned());
    let mut steps = Vec::new();
    for mirror in known.iter().filter(|p| kube_pod::is_mirror(p)) {
        let hash = hash(mirror).unwrap_or_default();
        let pod = statics.iter().find(|s| s.uid == hash);
        if pod.is_none() || object::is_terminating(mirror) {
            steps.push(Step::Delete {
                namespace: object::namespace(mirror).to_owned(),
                name: object::name(mirror).to_owned(),
                uid: object::uid(mirror).to_owned(),
            });
        }
    }
    for wanted in statics.iter().filter(|s| s.stays) {
        let (namespace, name) = (pod::namespace(&wanted.pod), pod::name(&wanted.pod));
        // Whoever has the name goes first, or keeps it: it may be the mirror of an earlier pod that is still ending.
        let taken = known.iter().any(|p| object::namespace(p) == namespace && object::name(p) == name);
        if !taken {
            steps.push(Step::Create(Box::new(mirror(wanted, owner))));
        }
    }
    steps
}

fn mirror(of: &Static, owner: &Value) -> Value {
    let pod = serde_json::to_value(&*of.pod).unwrap_or_default();
    let metadata = &pod["metadata"];
    let mut mirror = json!({"apiVersion": "v1", "kind": "Pod", "spec": pod["spec"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"],
            "annotations": metadata["annotations"], "ownerReferences": [owner]}});
    if metadata["namespace"].is_null() {
        mirror["metadata"]["namespace"] = json!("default");
    }
    if !metadata["labels"].is_null() {
        mirror["metadata"]["labels"] = metadata["labels"].clone();
    }
    mirror["metadata"]["annotations"][CONFIG_MIRROR] = json!(of.uid);
    mirror
}

async fn act(cache: &Cache, step: &Step) -> Result<(), ClientError> {
    let client = cache.client();
    let result = match step {
        Step::Create(mirror) => {
            let namespace = object::namespace(mirror).to_owned();
            client.create(pods(), &namespace, mirror, Query::default()).await
        }
        Step::Delete { namespace, name, uid } => {
            let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                "preconditions": {"uid": uid}});
            client.delete(pods(), namespace, name, &options).await
        }
    };
    match result {
        Ok(_) => Ok(()),
        // It is so already, or another has the name by now: the watch will tell.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, uid: &str, stays: bool) -> Static {
        let pod = json!({"metadata": {"name": name, "namespace": "d", "annotations": {pod::SOURCE: "file"}},
            "spec": {"containers": []}});
        Static { uid: uid.into(), pod: Arc::new(serde_json::from_value(pod).unwrap()), stays }
    }

    fn known(name: &str, hash: Option<&str>, ending: bool) -> Arc<Value> {
        let mut pod = json!({"metadata": {"name": name, "namespace": "d", "uid": "u"}});
        if let Some(hash) = hash {
            pod["metadata"]["annotations"] = json!({CONFIG_MIRROR: hash});
        }
        if ending {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(pod)
    }

    fn steps(statics: &[Static], known: &[Arc<Value>]) -> Vec<String> {
        let word = |step: Step| match step {
            Step::Create(mirror) => format!("create {}", object::name(&mirror)),
            Step::Delete { name, .. } => format!("delete {name}"),
        };
        plan(statics, known, &json!({"kind": "Node"})).into_iter().map(word).collect()
    }

    #[test]
    fn mirrors_follow_their_pods() {
        let none: [String; 0] = [];
        assert_eq!(steps(&[stat("a", "1", true)], &[]), ["create a"]);
        assert_eq!(steps(&[stat("a", "1", true)], &[known("a", Some("1"), false)]), none);
        assert_eq!(
            steps(&[stat("a", "1", true)], &[known("a", Some("1"), true)]),
            ["delete a"],
            "made again then"
        );
        assert_eq!(steps(&[], &[known("a", Some("1"), false)]), ["delete a"]);
        assert_eq!(steps(&[stat("a", "1", false)], &[known("a", Some("1"), false)]), none, "it still ends");
        assert_eq!(
            steps(&[stat("a", "1", false), stat("a", "2", true)], &[known("a", Some("1"), false)]),
            none,
            "the next waits for the one before"
        );
        assert_eq!(steps(&[stat("a", "2", true)], &[known("a", Some("1"), false)]), ["delete a"]);
        assert_eq!(steps(&[stat("a", "1", true)], &[known("a", None, false)]), none, "the name is another's");
    }

    #[test]
    fn a_mirror_tells_whose_it_is() {
        let mirror = mirror(&stat("a", "1", true), &json!({"kind": "Node", "name": "n"}));
        assert_eq!(mirror["metadata"]["annotations"][CONFIG_MIRROR], "1");
        assert_eq!(mirror["metadata"]["annotations"][pod::SOURCE], "file");
        assert_eq!(mirror["metadata"]["ownerReferences"][0]["name"], "n");
        assert!(mirror.get("status").is_none() && mirror["metadata"].get("uid").is_none());
    }
}
