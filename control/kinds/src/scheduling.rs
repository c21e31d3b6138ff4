//! The kinds of the group `scheduling.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod priority_class;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "PriorityClass").then_some(&priority_class::PriorityClass as &dyn Kind)
}
