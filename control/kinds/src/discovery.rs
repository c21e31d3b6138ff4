//! The kinds of the group `discovery.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod endpoint_slice;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "EndpointSlice").then_some(&endpoint_slice::EndpointSlice as &dyn Kind)
}
