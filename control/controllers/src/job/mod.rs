//! Jobs: pods that run to their end, each counted once.

mod backoff;
mod indexes;
mod manage;
mod policy;
mod sync;
mod track;

use std::sync::Arc;

use proto_kube::selector::Labels;
use proto_kube::{GroupResource, object, view::View};
use serde_json::Value;

use crate::owner::{self, Claim};
use crate::resources::{JOBS, PODS, served};
use crate::{Condition, Controller, Key, Mutation, Outcome, World, conditions};
use sync::Sync;

/// Keeps a pod until it has been counted.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The value of `managedBy` that means this controller, as none does.
const OURS: &str = "kubernetes.io/job-controller";
/// Marks the key of a pod that no job has. No job's name has a slash.
const LONE: &str = "pod/";

const SUCCESS: &str = "SuccessCriteriaMet";
const FAILURE: &str = "FailureTarget";
const COMPLETE: &str = "Complete";
const FAILED: &str = "Failed";

pub(crate) struct Jobs;

fn selector(job: &Value) -> Option<Labels> {
    Labels::of(&job["spec"]["selector"]).ok().flatten().filter(|selector| !selector.is_empty())
}

/// Whether a job is over.
pub(crate) fn is_finished(job: &Value) -> bool {
    conditions::is_true(&job["status"], COMPLETE) || conditions::is_true(&job["status"], FAILED)
}

fn is_tracked(pod: &Value) -> bool {
    object::items(pod, &["metadata", "finalizers"]).any(|finalizer| finalizer == FINALIZER)
}

/// Whether the job is somebody else's business.
fn is_foreign(job: &Value) -> bool {
    !matches!(object::text(job, &["spec", "managedBy"]), "" | OURS)
}

/// The pod may go as far as its job is concerned.
fn untrack(pod: &Value) -> Mutation {
    let kept: Vec<Value> =
        object::items(pod, &["metadata", "finalizers"]).filter(|f| *f != FINALIZER).cloned().collect();
    let mut patch = owner::guarded(pod);
    patch["metadata"]["finalizers"] = if kept.is_empty() { Value::Null } else { kept.into() };
    Mutation::Merge(served(PODS), owner::key(pod), None, patch)
}

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("batch", "jobs"), ("", "pods")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of != PODS {
            return new.or(old).map(owner::key).into_iter().collect();
        }
        let mut keys = owner::keys(view, JOBS, [old, new], selector);
        let lone = |pod: &&Value| is_tracked(pod) && object::controller(pod).is_none();
        keys.extend(new.filter(lone).map(|pod| {
            let (namespace, name) = owner::key(pod);
            (namespace, format!("{LONE}{name}"))
        }));
        keys
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let (namespace, name) = key;
        if let Some(pod) = name.strip_prefix(LONE) {
            out.mutations.extend(lone(world, namespace, pod));
            return out;
        }
        let Some(job) = world.view.get(JOBS, namespace, name) else {
            out.mutations = left_behind(world, key, None);
            return out;
        };
        let mut out = of_job(world, &job);
        // What an earlier job of the name has left comes last: where the server knows better, the rest is left.
        out.mutations.extend(left_behind(world, key, Some(object::uid(&job))));
        out
    }
}

/// What is to be done for a job that is there.
fn of_job(world: &World<'_>, job: &Arc<Value>) -> Outcome {
    let mut out = Outcome::default();
    let Some(selector) = selector(job).filter(|_| !is_foreign(job)) else { return out };
    if is_finished(job) {
        let pods = world.view.controlled(PODS, object::namespace(job), object::uid(job));
        out.mutations.extend(pods.iter().filter(|pod| is_tracked(pod)).map(|pod| untrack(pod)));
        return out;
    }
    let claim =
        Claim { of: JOBS, owner: job, children: PODS, selector: &selector, finalizer: Some(FINALIZER) };
    let pods = claim.take(world, &mut out, |_| true);
    Sync::new(world, job, pods, out).go()
}

/// A pod that bears the mark of a job, but that no job has or will take in.
fn lone(world: &World<'_>, namespace: &str, name: &str) -> Option<Mutation> {
    let pod = world.view.get(PODS, namespace, name)?;
    let takes = |job: &Value| {
        !object::is_terminating(job) && selector(job).is_some_and(|selector| selector.selects(&pod))
    };
    let wanted = !object::is_terminating(&pod)
        && world.view.list(JOBS, namespace).iter().any(|job| takes(job) && !is_finished(job));
    (is_tracked(&pod) && object::controller(&pod).is_none() && !wanted).then(|| untrack(&pod))
}

/// The pods of jobs of a name that are gone; `job` is the uid of the one that is there. The server is asked, as the view
/// may not show a job yet that is there.
fn left_behind(world: &World<'_>, key: &Key, job: Option<&str>) -> Vec<Mutation> {
    let mut all = world.view.list(PODS, &key.0);
    let is_gone = |pod: &Value| object::controller(pod).map(|controller| controller.uid) != job;
    all.retain(|pod| is_tracked(pod) && owner::controls(JOBS, pod) == Some(&key.1) && is_gone(pod));
    let gone = |pod: &Value| {
        let uid = object::controller(pod).map(|controller| controller.uid.to_owned());
        [Mutation::If(Condition::Absent(served(JOBS), key.clone(), uid)), untrack(pod)]
    };
    all.iter().flat_map(|pod| gone(pod)).collect()
}

#[cfg(test)]
mod tests;
