//! ReplicaSets: so many pods of a template.

use std::sync::Arc;

use proto_kube::selector::Labels;
use proto_kube::{GroupResource, object, view::View};
use serde_json::Value;

use crate::replicas::Kind;
use crate::resources::{PODS, REPLICA_SETS};
use crate::{Controller, Key, Outcome, World};

pub(crate) struct ReplicaSets;

const KIND: Kind = Kind { of: REPLICA_SETS, selector, related };

fn selector(set: &Value) -> Option<Labels> {
    Labels::of(&set["spec"]["selector"]).ok().flatten().filter(|selector| !selector.is_empty())
}

/// The pods of all sets that the same owner controls: of a deployment, the old ones too.
fn related(view: &dyn View, set: &Value) -> Vec<Arc<Value>> {
    let Some(owner) = object::controller(set) else { return Vec::new() };
    let sets = view.controlled(REPLICA_SETS, object::namespace(set), owner.uid);
    sets.iter().flat_map(|set| view.controlled(PODS, object::namespace(set), object::uid(set))).collect()
}

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("apps", "replicasets"), ("", "pods")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        KIND.keys(view, of, old, new)
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        KIND.reconcile(world, key)
    }
}

#[cfg(test)]
mod tests;
