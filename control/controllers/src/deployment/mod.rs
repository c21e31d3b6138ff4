//! Deployments: a ReplicaSet for each template that there was, and pods moved from the old ones to the new.

mod revision;
mod rollout;
mod scale;
mod set;
mod status;

use proto_kube::selector::Labels;
use proto_kube::{GroupResource, object, pod, view::View};
use serde_json::Value;

use crate::owner::{self, Claim};
use crate::resources::{DEPLOYMENTS, PODS, REPLICA_SETS};
use crate::{Controller, Key, Outcome, World, write};
use rollout::Rollout;

pub(crate) struct Deployments;

fn selector(deployment: &Value) -> Option<Labels> {
    Labels::of(&deployment["spec"]["selector"]).ok().flatten()
}

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("apps", "deployments"), ("apps", "replicasets"), ("", "pods")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of == PODS {
            ended(view, old, new).into_iter().collect()
        } else if of == REPLICA_SETS {
            owner::keys(view, DEPLOYMENTS, [old, new], selector)
        } else {
            new.or(old).map(owner::key).into_iter().collect()
        }
    }

    fn reconcile(&self, world: &World<'_>, (namespace, name): &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(deployment) = world.view.get(DEPLOYMENTS, namespace, name) else { return out };
        let Some(selector) = selector(&deployment) else { return out };
        if selector.is_empty() {
            let text = "This deployment is selecting all pods. A non-empty selector is required.";
            let generation = &deployment["metadata"]["generation"];
            if deployment["status"]["observedGeneration"] != *generation {
                out.mutations.push(write::warn(&deployment, "SelectingAll", text.to_owned()));
                let mut new = (*deployment).clone();
                new["status"]["observedGeneration"] = generation.clone();
                out.mutations.push(write::update_status(DEPLOYMENTS, new));
            }
            return out;
        }
        let claim = Claim {
            of: DEPLOYMENTS,
            owner: &deployment,
            children: REPLICA_SETS,
            selector: &selector,
            finalizer: None,
        };
        let sets = claim.take(world, &mut out, |_| true);
        Rollout::new(world, &deployment, sets, out).go()
    }
}

/// The deployment that waits until all of its old pods are gone, where this change is the end of one.
fn ended(view: &dyn View, old: Option<&Value>, new: Option<&Value>) -> Option<Key> {
    let over = new.is_none() || (new.is_some_and(pod::has_ended) && !old.is_some_and(pod::has_ended));
    let pod = new.or(old).filter(|_| over)?;
    let namespace = object::namespace(pod);
    let set = view.get(REPLICA_SETS, namespace, owner::controls(REPLICA_SETS, pod)?)?;
    let name = owner::controls(DEPLOYMENTS, &set)?;
    let deployment = view.get(DEPLOYMENTS, namespace, name)?;
    (deployment["spec"]["strategy"]["type"] == "Recreate").then(|| owner::key(&deployment))
}

#[cfg(test)]
mod tests;
