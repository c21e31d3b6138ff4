//! The kinds of the group `node.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod runtime_class;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "RuntimeClass").then_some(&runtime_class::RuntimeClass as &dyn Kind)
}
