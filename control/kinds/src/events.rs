//! The kinds of the group `events.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod event;
#[cfg(test)]
mod tests;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "Event").then_some(&event::Event as &dyn Kind)
}
