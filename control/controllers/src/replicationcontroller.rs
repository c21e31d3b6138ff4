//! ReplicationControllers: what ReplicaSets were before.

use proto_kube::selector::Labels;
use proto_kube::{GroupResource, view::View};
use serde_json::Value;

use crate::replicas::Kind;
use crate::resources::REPLICATION_CONTROLLERS;
use crate::{Controller, Key, Outcome, World};

pub(crate) struct ReplicationControllers;

const KIND: Kind = Kind { of: REPLICATION_CONTROLLERS, selector, related: |_, _| Vec::new() };

fn selector(set: &Value) -> Option<Labels> {
    Some(Labels::of_map(&set["spec"]["selector"])).filter(|selector| !selector.is_empty())
}

impl Controller for ReplicationControllers {
    fn name(&self) -> &'static str {
        "replication-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "replicationcontrollers"), ("", "pods")]
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
