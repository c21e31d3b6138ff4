//! The kinds of the group `autoscaling`.

use proto_kube::Resource;

use crate::Kind;

mod convert;
mod metrics;
mod pod_autoscaler;
#[cfg(test)]
mod tests;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match (resource.kind, resource.version) {
        ("HorizontalPodAutoscaler", "v1") => &pod_autoscaler::V1,
        ("HorizontalPodAutoscaler", _) => &pod_autoscaler::V2,
        _ => return None,
    })
}
