//! The kinds of the group `coordination.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod lease;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "Lease").then_some(&lease::Lease as &dyn Kind)
}
