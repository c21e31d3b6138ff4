//! The kinds of the core group.

pub(crate) mod claim;

use proto_kube::Resource;

use crate::Kind;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(_resource: &Resource) -> Option<&'static dyn Kind> {
    None
}
