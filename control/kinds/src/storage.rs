//! The kinds of the group `storage.k8s.io`.

use proto_kube::Resource;

use crate::Kind;

mod capacity;
mod class;
mod driver;
mod node;
#[cfg(test)]
mod tests;
mod volume_attachment;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.kind {
        "CSIDriver" => &driver::CsiDriver,
        "CSINode" => &node::CsiNode,
        "CSIStorageCapacity" => &capacity::CsiStorageCapacity,
        "StorageClass" => &class::StorageClass,
        "VolumeAttachment" => &volume_attachment::VolumeAttachment,
        "VolumeAttributesClass" => &class::VolumeAttributesClass,
        _ => return None,
    })
}
