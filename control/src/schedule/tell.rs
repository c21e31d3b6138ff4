//! What people, and the pods themselves, are told of decisions; and the victims of a preemption, who are sent away.

use client::{Client, ClientError, Patch, Query};
use jiff::Timestamp;
use proto_kube::object::{items, text};
use scheduler::{Pod, Preemption, Refusal};
use serde_json::{Value, json};

use crate::apply::of;
use crate::correlate::Said;
use crate::record::Recorder;

/// The most that fits into an event's note, in bytes.
const NOTE_MAX: usize = 1024;

/// Tells in the name of a scheduler.
#[derive(Clone)]
pub(crate) struct Teller {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    /// The `spec.schedulerName` of its pods.
    pub(crate) name: String,
    /// Which of several it is.
    pub(crate) identity: String,
}

impl Teller {
    /// A pod has its node.
    pub(super) fn placed(&self, pod: &Pod) {
        let message = format!("Successfully assigned {}/{} to {}", pod.namespace, pod.name, pod.node);
        self.say(pod, "Normal", "Scheduled", "Binding", message);
    }

    /// A pod that had a node could not be bound to it.
    pub(super) fn failed(&self, pod: &Pod, why: &str) {
        tracing::warn!(namespace = pod.namespace, pod = pod.name, node = pod.node, why, "not bound");
        self.say(pod, "Warning", "FailedScheduling", "Scheduling", why.to_owned());
    }

    /// A pod fits nowhere: tells it, and makes room where that helps. Whether all was done.
    pub(super) async fn refused(&self, pod: &Pod, refusal: &Refusal) -> bool {
        let mut is_done = true;
        if let Some(preemption) = &refusal.preemption {
            is_done = self.make_room(pod, preemption).await;
        }
        self.say(pod, "Warning", "FailedScheduling", "Scheduling", refusal.message.clone());
        let nominated = match &refusal.preemption {
            Some(preemption) => Some(preemption.node.as_str()),
            None if refusal.waits || pod.nominated.is_empty() => None,
            None => Some(""),
        };
        if let Some(patch) = status(pod, &refusal.message, nominated, Timestamp::now())
            && let Err(error) = self.patch(pod, &patch).await
        {
            tracing::debug!(namespace = pod.namespace, pod = pod.name, %error, "its condition is not told");
            is_done &= error.code().is_some_and(|code| code < 500 && code != 429);
        }
        is_done
    }

    async fn make_room(&self, pod: &Pod, preemption: &Preemption) -> bool {
        let mut is_done = true;
        for other in &preemption.displaced {
            let patch = json!({"metadata": {"uid": other.uid}, "status": {"nominatedNodeName": null}});
            is_done &= self.patch(other, &patch).await.is_ok();
        }
        for victim in preemption.victims.iter().filter(|victim| !victim.is_terminating()) {
            match self.send_away(victim).await {
                Ok(()) => {
                    let message = format!("Preempted by pod {} on node {}", pod.uid, preemption.node);
                    self.say(victim, "Normal", "Preempted", "Preempting", message);
                }
                Err(error) if error.code() == Some(404) => {}
                Err(error) => {
                    tracing::warn!(namespace = victim.namespace, pod = victim.name, %error, "not sent away");
                    is_done = false;
                }
            }
        }
        is_done
    }

    async fn send_away(&self, victim: &Pod) -> Result<(), ClientError> {
        let message = format!("{}: preempting to accommodate a higher priority pod", self.name);
        let condition = condition(
            victim,
            "DisruptionTarget",
            "True",
            "PreemptionByScheduler",
            &message,
            Timestamp::now(),
        );
        let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}});
        self.patch(victim, &patch).await?;
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": victim.uid}});
        self.client.delete(of("", "pods"), &victim.namespace, &victim.name, &options).await?;
        Ok(())
    }

    async fn patch(&self, pod: &Pod, patch: &Value) -> Result<Value, ClientError> {
        let place = (of("", "pods"), pod.namespace.as_str(), pod.name.as_str());
        self.client.patch(place, Some("status"), (Patch::Strategic, patch), Query::default()).await
    }

    fn say(
        &self,
        pod: &Pod,
        kind: &'static str,
        reason: &'static str,
        action: &'static str,
        message: String,
    ) {
        let said = Said {
            regarding: pod.object.clone(),
            kind,
            reason,
            message: shortened(message),
            source: self.name.clone(),
            action: Some((action, self.identity.clone())),
        };
        self.recorder.say(crate::SCHEDULER, said);
    }
}

fn shortened(mut message: String) -> String {
    const END: &str = " ...";
    if message.len() > NOTE_MAX {
        let end =
            (0..=NOTE_MAX - END.len()).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
        message.truncate(end);
        message += END;
    }
    message
}

fn condition(pod: &Pod, kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    let mut condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastProbeTime": null, "observedGeneration": pod.object["metadata"]["generation"],
    });
    let old = items(&pod.object, &["status", "conditions"]).find(|c| c["type"] == kind);
    condition["lastTransitionTime"] = match old.filter(|old| old["status"] == status) {
        Some(old) => old["lastTransitionTime"].clone(),
        None => now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
    };
    condition
}

/// The patch that says why a pod has no node; none where it says so already.
fn status(pod: &Pod, message: &str, nominated: Option<&str>, now: Timestamp) -> Option<Value> {
    let old = items(&pod.object, &["status", "conditions"]).find(|c| c["type"] == "PodScheduled");
    let is_said = old.is_some_and(|old| {
        old["status"] == "False" && old["reason"] == "Unschedulable" && text(old, &["message"]) == message
    });
    let nominated = nominated.filter(|nominated| *nominated != pod.nominated);
    if is_said && nominated.is_none() {
        return None;
    }
    let mut status =
        json!({"conditions": [condition(pod, "PodScheduled", "False", "Unschedulable", message, now)]});
    match nominated {
        Some("") => status["nominatedNodeName"] = Value::Null,
        Some(node) => status["nominatedNodeName"] = node.into(),
        None => {}
    }
    Some(json!({"metadata": {"uid": pod.uid}, "status": status}))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pod(status: &Value) -> Pod {
        let pod = json!({"metadata": {"namespace": "ns", "name": "a", "uid": "u", "generation": 1}, "status": status});
        Pod::new(Arc::new(pod))
    }

    #[test]
    fn a_refusal_is_told_once() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let first = status(&pod(&json!({})), "0/1", None, now).unwrap();
        let told = &first["status"]["conditions"][0];
        assert_eq!(told["lastTransitionTime"], "2026-11-21T10:00:00Z");
        assert_eq!((&told["reason"], &told["status"]), (&"Unschedulable".into(), &"False".into()));
        let old = json!({"conditions": [told], "nominatedNodeName": "n"});
        let later = "2026-11-21T11:00:00Z".parse().unwrap();
        assert_eq!(status(&pod(&old), "0/1", Some("n"), later), None);
        let moved = status(&pod(&old), "0/1", Some(""), later).unwrap();
        assert_eq!(moved["status"]["nominatedNodeName"], Value::Null);
        let again = status(&pod(&old), "0/2", None, later).unwrap();
        assert_eq!(again["status"]["conditions"][0]["lastTransitionTime"], "2026-11-21T10:00:00Z");
    }

    #[test]
    fn a_note_has_its_bound() {
        assert_eq!(shortened("short".to_owned()), "short");
        let long = shortened("ü".repeat(600));
        assert!(long.len() <= NOTE_MAX && long.ends_with("ü ..."), "{long}");
    }
}
