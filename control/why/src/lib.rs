//! Why an object is not as it should be: one causal answer from what the cluster's objects say. The chain goes from what
//! was asked for down to the cause: a Deployment waits for its ReplicaSet, that for a Pod, that for an image.
#![forbid(unsafe_code)]

mod cluster;
mod pod;
mod read;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeMap;

use jiff::Timestamp;
use proto_kube::{Resource, object, view::View};
use serde_json::{Value, json};

/// What [`explain`] reads, as (group, plural): of the object's namespace, or of the whole cluster. The scheduler's filters
/// read no more.
pub const READS: &[(&str, &str)] = &[
    ("", "configmaps"),
    ("", "events"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("", "resourcequotas"),
    ("", "services"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    ("policy", "poddisruptionbudgets"),
    ("storage.k8s.io", "storageclasses"),
];

/// What nodes have against a pod, by their names, in the scheduler's words; nothing where nobody knows.
pub type Refusals = BTreeMap<String, Vec<String>>;

/// A step from what was asked for to the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// As `pod/web`.
    pub object: String,
    /// What is the matter with it, or that nothing is.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// Whom it waits for: `the scheduler`, `the registry`, `you`.
    pub on: String,
    /// What that one will do.
    pub what: String,
    /// When, where it is known.
    pub at: Option<Timestamp>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// From what was asked for to the cause.
    pub chain: Vec<Step>,
    /// What happens next; `None` when there is nothing to wait for.
    pub next: Option<Next>,
    /// Of a pod that fits no node: what each has against it.
    pub refusals: Refusals,
    /// What was said last about a cause that is waited for: the newest events, oldest first, as `Reason: message`.
    pub said: Vec<String>,
}

/// How far a chain is followed: longer than any that controllers make.
const DEPTH: usize = 6;
/// How many events are told.
const EVENTS: usize = 5;

/// Where answers are looked for.
pub struct World<'a> {
    /// The cluster's objects: [`READS`].
    pub view: &'a dyn View,
    /// The time.
    pub now: Timestamp,
    /// What the scheduler has against a pod.
    pub refusals: &'a dyn Fn(&Value) -> Refusals,
}

/// Why the object is as it is.
#[must_use]
pub fn explain(world: &World<'_>, resource: &Resource, object: &Value) -> Answer {
    let mut chain = Vec::new();
    let (mut refusals, mut next) = (Refusals::new(), None);
    let mut at = (resource.kind.to_owned(), object.clone());
    loop {
        let finding = look(world, &at.0, &at.1);
        chain.push(Step {
            object: read::reference(&at.0, &at.1),
            state: finding.state,
            since: finding.since,
        });
        refusals.extend(finding.refusals);
        // What is well in itself leaves it to the one who waits for it.
        next = finding.next.or(next);
        match finding.cause {
            Some((kind, cause)) if chain.len() < DEPTH => at = (kind, cause),
            _ => {
                let told = if next.is_some() { EVENTS } else { 0 };
                let said = read::events(world.view, &at.0, &at.1, told);
                return Answer { chain, next, refusals, said };
            }
        }
    }
}

/// What a look at one object finds.
#[derive(Debug, Default)]
struct Finding {
    state: String,
    since: Option<Timestamp>,
    next: Option<Next>,
    refusals: Refusals,
    /// The object that it is so because of, with its kind.
    cause: Option<(String, Value)>,
}

impl Finding {
    fn new(state: impl Into<String>, since: Option<Timestamp>) -> Self {
        Self { state: state.into(), since, ..Self::default() }
    }

    fn next(self, on: &str, what: impl Into<String>, at: Option<Timestamp>) -> Self {
        Self { next: Some(Next { on: on.to_owned(), what: what.into(), at }), ..self }
    }

    fn because(self, kind: &str, cause: &Value) -> Self {
        Self { cause: Some((kind.to_owned(), cause.clone())), ..self }
    }
}

fn look(world: &World<'_>, kind: &str, object: &Value) -> Finding {
    let (view, now) = (world.view, world.now);
    if kind != "Pod"
        && kind != "Namespace"
        && let Some(finding) = leaving(object)
    {
        return finding;
    }
    match kind {
        "Pod" => pod::look(world, object),
        "Deployment" => workload::deployment(view, object),
        "ReplicaSet" | "ReplicationController" | "StatefulSet" => workload::replicas(view, kind, object),
        "DaemonSet" => workload::daemon_set(view, object),
        "Job" => workload::job(view, object),
        "CronJob" => workload::cron_job(view, object, now),
        "Service" => cluster::service(view, object),
        "Node" => cluster::node(view, object, now),
        "Namespace" => cluster::namespace(object),
        "PersistentVolumeClaim" => cluster::claim(view, object),
        "PodDisruptionBudget" => cluster::budget(object),
        _ => cluster::other(object),
    }
}

/// An object that is to go and does not: somebody's finalizers hold it.
fn leaving(object: &Value) -> Option<Finding> {
    let finalizers = object::items(object, &["metadata", "finalizers"]).filter_map(Value::as_str);
    let finalizers: Vec<&str> = finalizers.collect();
    let since = Some(object::time(object, &["metadata", "deletionTimestamp"])?);
    Some(match finalizers.as_slice() {
        [] => Finding::new("is being deleted", since).next("the API server", "it goes at once", None),
        ["foregroundDeletion"] => Finding::new("is being deleted after what it owns", since).next(
            "the garbage collector",
            "it goes when its dependents that block its deletion are gone",
            None,
        ),
        held => Finding::new(format!("is being deleted; held by finalizers {}", held.join(", ")), since)
            .next(&format!("whoever set {}", held[0]), "removes the finalizer when its work is done", None),
    })
}

impl Answer {
    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let time = |t: Option<Timestamp>| t.map(|t| format!("{t:.0}"));
        json!({
            "chain": self.chain.iter().map(|step| json!({
                "object": step.object, "state": step.state, "since": time(step.since),
            })).collect::<Vec<_>>(),
            "next": self.next.as_ref().map(|next| json!({
                "on": next.on, "what": next.what, "at": time(next.at),
            })),
            "refusals": self.refusals,
            "said": self.said,
        })
    }
}
