//! The kinds of the group `policy`.

use proto_kube::Resource;

use crate::Kind;

mod disruption_budget;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "PodDisruptionBudget").then_some(&disruption_budget::PodDisruptionBudget as &dyn Kind)
}
