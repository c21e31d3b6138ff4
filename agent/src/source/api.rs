//! The API server as a source: the pods that are bound to this node, as they come, change and go.

use std::sync::Arc;

use client::{Cache, Event};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use proto_kube::{object, pod as kube_pod};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::config::{nodes, pods_of};
use crate::sync::Happening;
use crate::{decode, labels};

/// What became of the node's pods in the API.
#[derive(Debug)]
pub(crate) enum Change {
    /// A pod is there, or has changed.
    Pod(Box<Bound>),
    /// A pod is there no longer; its containers may take so long to end, in seconds.
    Gone { uid: String, grace_seconds: Option<i64> },
    /// All that were there at the start have been told.
    Synced,
}

/// A pod that is bound to this node.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) uid: String,
    /// The pod without what every report of its status changes; its status has the conditions that others set.
    pub(crate) pod: Arc<Pod>,
    /// What the API says of it.
    pub(crate) status: PodStatus,
    /// Set when it is to end: how long its containers may take, in seconds.
    pub(crate) end: Option<i64>,
}

/// Tells the loop what happens to a node and its pods, for ever; first of the node, by whose labels and taints its pods
/// are admitted.
pub(crate) async fn run(cache: Cache, node: String, happenings: UnboundedSender<Happening>) {
    let mut nodes_events = cache.subscribe(nodes());
    cache.synced(&[nodes()]).await;
    let mut events = None;
    loop {
        let told = tokio::select! {
            biased;
            Some(event) = nodes_events.recv() => {
                if event.object().is_none() {
                    events = Some(pods_of(&cache, &node));
                }
                event.new.filter(|n| object::name(n) == node).map(|n| Happening::Node(concern(&n))).into_iter().collect()
            }
            Some(event) = next(&mut events) => {
                changes(&event, &node).into_iter().map(Happening::Api).collect::<Vec<_>>()
            }
            else => return,
        };
        for happening in told {
            if happenings.send(happening).is_err() {
                return;
            }
        }
    }
}

async fn next(events: &mut Option<UnboundedReceiver<Event>>) -> Option<Event> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// What of a node concerns its pods.
fn concern(node: &Value) -> Value {
    json!({"metadata": {"name": node["metadata"]["name"], "labels": node["metadata"]["labels"]},
        "spec": {"taints": node["spec"]["taints"]}})
}

/// What an event means for this node: a name may pass to another pod while nobody watches.
fn changes(event: &Event, node: &str) -> Vec<Change> {
    let ours =
        |pod: &&Arc<Value>| object::text(pod, &["spec", "nodeName"]) == node && !kube_pod::is_mirror(pod);
    let (old, new) = (event.old.as_ref().filter(ours), event.new.as_ref().filter(ours));
    if event.object().is_none() {
        return vec![Change::Synced];
    }
    let replaced = old.filter(|old| new.is_none_or(|new| object::uid(new) != object::uid(old)));
    let gone = replaced.map(|old| Change::Gone {
        uid: object::uid(old).to_owned(),
        grace_seconds: object::at(old, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64),
    });
    let here = new.and_then(bound).map(|bound| Change::Pod(Box::new(bound)));
    gone.into_iter().chain(here).collect()
}

fn bound(value: &Arc<Value>) -> Option<Bound> {
    let mut pod = match decode::own_pod(Value::clone(value)) {
        Ok(pod) => pod,
        Err(problem) => {
            let (namespace, name) = (object::namespace(value), object::name(value));
            tracing::error!("pod {namespace}/{name} of the API server cannot be read: {problem}");
            return None;
        }
    };
    let status = pod.status.take().unwrap_or_default();
    pod.status = foreign(&status);
    let metadata = &mut pod.metadata;
    metadata.resource_version = None;
    let grace = metadata.deletion_grace_period_seconds.take();
    let end = metadata.deletion_timestamp.take().map(|_| grace.unwrap_or(0));
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_SOURCE.to_owned(), agent_core::pod::API.to_owned());
    Some(Bound { uid: object::uid(value).to_owned(), pod: Arc::new(pod), status, end })
}

/// The conditions that others have set, by which readiness gates open.
pub(crate) fn foreign(status: &PodStatus) -> Option<PodStatus> {
    let mut conditions = status.conditions.clone().unwrap_or_default();
    conditions.retain(|c| !agent_core::status::is_own(&c.type_));
    (!conditions.is_empty()).then(|| PodStatus { conditions: Some(conditions), ..PodStatus::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, node: &str, more: Value) -> Option<Arc<Value>> {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": uid, "resourceVersion": "7"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        for (key, value) in more.as_object().into_iter().flatten() {
            pod["metadata"][key] = value.clone();
        }
        Some(Arc::new(pod))
    }

    fn told(old: Option<Arc<Value>>, new: Option<Arc<Value>>) -> Vec<String> {
        let words = |change: Change| match change {
            Change::Pod(bound) => format!("pod {} {:?}", bound.uid, bound.end),
            Change::Gone { uid, grace_seconds } => format!("gone {uid} {grace_seconds:?}"),
            Change::Synced => "synced".to_owned(),
        };
        changes(&Event { resource: crate::config::pods(), old, new }, "n").into_iter().map(words).collect()
    }

    #[test]
    fn what_events_mean() {
        let none = Value::Null;
        let ending = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 9});
        assert_eq!(told(None, None), ["synced"]);
        assert_eq!(told(None, pod("1", "n", none.clone())), ["pod 1 None"]);
        assert_eq!(told(None, pod("1", "other", none.clone())), [""; 0]);
        assert_eq!(told(pod("1", "n", none.clone()), pod("1", "n", ending.clone())), ["pod 1 Some(9)"]);
        assert_eq!(told(pod("1", "n", ending), None), ["gone 1 Some(9)"]);
        assert_eq!(
            told(pod("1", "n", none.clone()), pod("2", "n", none.clone())),
            ["gone 1 None", "pod 2 None"]
        );
        assert_eq!(told(pod("1", "n", none.clone()), pod("2", "other", none)), ["gone 1 None"]);
        let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
        assert_eq!(told(None, pod("1", "n", mirror)), [""; 0]);
    }

    #[test]
    fn a_report_changes_nothing() {
        let with = |version: &str, ready: &str| {
            let mut value = pod("1", "n", json!({"resourceVersion": version})).unwrap();
            let gate = json!({"type": "example.com/gate", "status": "True"});
            Arc::make_mut(&mut value)["status"] =
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}, gate]});
            bound(&value).unwrap().pod
        };
        assert_eq!(with("1", "False"), with("2", "True"));
        let conditions = with("1", "True").status.clone().unwrap().conditions.unwrap();
        assert_eq!(conditions.len(), 1);
    }
}
