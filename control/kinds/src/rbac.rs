//! The kinds of the group `rbac.authorization.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod binding;
mod role;
#[cfg(test)]
mod tests;

/// The name of the group, which its references spell out.
const GROUP: &str = "rbac.authorization.k8s.io";

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.kind {
        "ClusterRole" => &role::Role { namespaced: false },
        "ClusterRoleBinding" => &binding::Binding { namespaced: false },
        "Role" => &role::Role { namespaced: true },
        "RoleBinding" => &binding::Binding { namespaced: true },
        _ => return None,
    })
}
