//! So many pods of a template, no more and no fewer: what a `ReplicaSet` and a `ReplicationController` have in common.

use std::sync::Arc;

use proto_kube::selector::Labels;
use proto_kube::{GroupResource, object, pod, view::View};
use serde_json::{Value, json};

use crate::owner::{self, Claim};
use crate::pods;
use crate::resources::{PODS, served};
use crate::{Key, Mutation, Outcome, World, conditions, write};

/// How many pods are created or deleted at a time.
const BURST: usize = 500;
/// The condition that tells that pods could not be created or deleted.
pub(crate) const FAILURE: &str = "ReplicaFailure";

/// What differs between the kinds.
pub(crate) struct Kind {
    pub(crate) of: GroupResource<'static>,
    /// The pods that an owner is for.
    pub(crate) selector: fn(&Value) -> Option<Labels>,
    /// The pods beside its own that make two on a node too many.
    pub(crate) related: fn(&dyn View, &Value) -> Vec<Arc<Value>>,
}

impl Kind {
    pub(crate) fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of == PODS {
            return owner::keys(view, self.of, [old, new], self.selector);
        }
        new.or(old).map(owner::key).into_iter().collect()
    }

    pub(crate) fn reconcile(&self, world: &World<'_>, (namespace, name): &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(set) = world.view.get(self.of, namespace, name) else { return out };
        let Some(selector) = (self.selector)(&set) else { return out };
        let claim = Claim { of: self.of, owner: &set, children: PODS, selector: &selector, finalizer: None };
        let mut active = claim.take(world, &mut out, pods::is_active);
        let owned = world.view.controlled(PODS, namespace, object::uid(&set));
        let ending = owned.iter().filter(|pod| pods::is_ending(pod) && selector.selects(pod)).count();
        let wanted = object::number(&set, &["spec", "replicas"]).unwrap_or(1);
        let surplus = i64::try_from(active.len()).unwrap_or(i64::MAX) - wanted;
        let failure = pods::failure(world, &set, &mut out);
        if !pods::held(world) && !object::is_terminating(&set) {
            if surplus < 0 {
                self.create(world, &set, &owned, surplus.unsigned_abs(), &mut out);
            } else if surplus > 0 {
                let related = (self.related)(world.view, &set);
                pods::by_loss(&mut active, if related.is_empty() { &owned } else { &related }, world.now);
                let surplus = usize::try_from(surplus).unwrap_or(BURST).min(BURST);
                for pod in &active[..surplus] {
                    out.mutations.push(owner::delete(PODS, pod));
                    let text = format!("Deleted pod: {}", object::name(pod));
                    out.mutations.push(write::tell(&set, "SuccessfulDelete", text));
                }
            }
        }
        self.tell(world, &set, &active, ending, failure, &mut out);
        out
    }

    fn create(
        &self,
        world: &World<'_>,
        set: &Arc<Value>,
        owned: &[Arc<Value>],
        missing: u64,
        out: &mut Outcome,
    ) {
        let missing = usize::try_from(missing).unwrap_or(BURST).min(BURST);
        for name in pods::names(world, set, pods::seed(set, owned)).take(missing) {
            let pod = pods::from_template(self.of, set, &set["spec"]["template"], &name);
            out.mutations.push(Mutation::Create(served(PODS), pod));
            out.mutations.push(write::tell(set, "SuccessfulCreate", format!("Created pod: {name}")));
        }
    }

    /// The status, where it is to change, and when it will as time goes by.
    fn tell(
        &self,
        world: &World<'_>,
        set: &Arc<Value>,
        active: &[Arc<Value>],
        ending: usize,
        failure: Option<pods::Failure>,
        out: &mut Outcome,
    ) {
        let min_ready = object::number(set, &["spec", "minReadySeconds"]).unwrap_or(0);
        let from = |pod: &Value| pods::available_from(pod, min_ready);
        let labels = Labels::of_map(&set["spec"]["template"]["metadata"]["labels"]);
        let count = |which: &dyn Fn(&Value) -> bool| {
            i64::try_from(active.iter().filter(|pod| which(pod)).count()).unwrap_or(i64::MAX)
        };
        let mut status = set["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        status["replicas"] = active.len().into();
        conditions::count(&mut status, "fullyLabeledReplicas", count(&|pod| labels.selects(pod)));
        conditions::count(&mut status, "readyReplicas", count(&pod::is_ready));
        let available = count(&|pod| from(pod).is_some_and(|from| from <= world.now));
        conditions::count(&mut status, "availableReplicas", available);
        if self.of.group == "apps" {
            status["terminatingReplicas"] = ending.into();
        }
        conditions::count(
            &mut status,
            "observedGeneration",
            object::number(set, &["metadata", "generation"]).unwrap_or(0),
        );
        match failure {
            Some(pods::Failure { reason, message }) if conditions::get(&status, FAILURE).is_none() => {
                let at = conditions::stamp(world.now);
                let condition = json!({
                    "type": FAILURE, "status": "True", "lastTransitionTime": at, "reason": reason, "message": message,
                });
                conditions::put(&mut status, condition);
            }
            Some(_) => {}
            None => conditions::remove(&mut status, FAILURE),
        }
        if status != set["status"] {
            let mut new = (**set).clone();
            new["status"] = status;
            out.mutations.push(write::update_status(self.of, new));
        }
        let soon = active.iter().filter_map(|pod| from(pod)).filter(|from| *from > world.now).min();
        if let Some(soon) = soon {
            out.wake(soon);
        }
    }
}
