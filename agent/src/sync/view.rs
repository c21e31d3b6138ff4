//! What the loop shows to others.

use std::fmt;
use std::sync::Arc;

use agent_core::{Plan, Termination, time};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::Sync;
use crate::decode;
use crate::source::Problem;

/// The annotation by which a pod tells what it waits for; not part of the pod itself.
const WAITING_FOR: &str = "cleat.dev/waiting-for";

/// All pods at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) pods: Vec<PodEntry>,
    pub(crate) problems: Vec<Problem>,
    /// The first look at everything is in.
    pub(crate) ready: bool,
}

/// A pod with its status.
#[derive(Debug, Clone)]
pub(crate) struct PodEntry {
    pub(crate) uid: String,
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: PodStatus,
    waits: Vec<String>,
    end: Option<Termination>,
}

impl View {
    /// As a `PodList`. A manifest that is no good is a failed pod that says why.
    pub(crate) fn list(&self) -> Value {
        let pods = self.pods.iter().map(PodEntry::value);
        let problems = self.problems.iter().map(problem_value);
        let items: Vec<Value> = pods.chain(problems).collect();
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    }
}

impl PodEntry {
    /// Its end was asked for.
    pub(crate) fn is_ending(&self) -> bool {
        self.end.is_some()
    }

    fn value(&self) -> Value {
        let mut value = decode::value(&self.pod, Some(self.status.clone()));
        if !self.waits.is_empty() {
            value["metadata"]["annotations"][WAITING_FOR] = json!(self.waits.join("\n"));
        }
        if let Some(end) = self.end {
            value["metadata"]["deletionTimestamp"] = json!(time::k8s(end.deadline()));
            value["metadata"]["deletionGracePeriodSeconds"] = json!(end.grace_seconds);
        }
        value
    }
}

fn problem_value(problem: &Problem) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": problem.name, "namespace": problem.namespace,
            "annotations": {crate::source::FILE: problem.file.to_string_lossy()}},
        "spec": {"containers": []},
        "status": {"phase": "Failed", "reason": "InvalidManifest", "message": problem.to_string()},
    })
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.document > 0 {
            write!(f, ", document {}", self.document)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Sync {
    pub(super) fn publish(&self, plan: &Plan) {
        let pods = self.desired.pods.iter().filter_map(|pod| {
            let view = plan.pods.get(&pod.uid)?;
            Some(PodEntry {
                uid: pod.uid.clone(),
                pod: pod.pod.clone(),
                status: view.status.clone(),
                waits: view.waits.iter().map(ToString::to_string).collect(),
                end: pod.end,
            })
        });
        let problems = self.source.as_ref().map(|s| s.problems.clone()).unwrap_or_default();
        self.view.send_replace(Arc::new(View { pods: pods.collect(), problems, ready: true }));
    }
}
