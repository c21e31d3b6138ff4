//! The kinds of the core group.

pub(crate) mod claim;

use proto_kube::Resource;

use crate::Kind;
use crate::pod::kind::{Pod, PodTemplate};

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.plural {
        "pods" => &Pod,
        "podtemplates" => &PodTemplate,
        _ => return None,
    })
}
