//! The kinds of the group `apiregistration.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod api_service;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "APIService").then_some(&api_service::ApiService as &dyn Kind)
}
