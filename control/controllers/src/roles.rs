//! Cluster roles that are made of others get their rules.

use proto_kube::view::View;
use proto_kube::{GroupResource, object, roles};
use serde_json::{Value, json};

use crate::resources::{CLUSTER_ROLES, served};
use crate::{Controller, Key, Mutation, Outcome, World, owner};

/// Gathers rules.
pub(crate) struct Aggregation;

impl Controller for Aggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("rbac.authorization.k8s.io", "clusterroles")]
    }

    fn keys(
        &self,
        view: &dyn View,
        _of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let part = |role: Option<&Value>| {
            role.map(|r| [r["metadata"]["labels"].clone(), r["rules"].clone(), r["aggregationRule"].clone()])
        };
        if part(old) == part(new) {
            return Vec::new();
        }
        let roles = view.list(CLUSTER_ROLES, "");
        let gathers = |role: &Value| object::at(role, &["aggregationRule"]).is_some();
        roles.iter().filter(|role| gathers(role)).map(|role| owner::key(role)).collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(role) = world.view.get(CLUSTER_ROLES, "", &key.1) else { return out };
        let all = world.view.list(CLUSTER_ROLES, "");
        let rules = roles::aggregate(&role, all.iter().map(|role| &**role));
        if let Some(rules) = rules.filter(|_| !object::is_terminating(&role)) {
            let mut patch = owner::guarded(&role);
            patch["rules"] = json!(rules);
            out.mutations.push(Mutation::Merge(served(CLUSTER_ROLES), key.clone(), None, patch));
        }
        out
    }
}
