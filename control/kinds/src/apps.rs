//! The kinds of the group `apps`.

use proto_kube::Resource;

use crate::Kind;

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
pub(crate) mod rolling;
mod stateful_set;
#[cfg(test)]
mod tests;
pub(crate) mod workload;

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.kind {
        "ControllerRevision" => &controller_revision::ControllerRevision,
        "DaemonSet" => &daemon_set::DaemonSet,
        "Deployment" => &deployment::Deployment,
        "ReplicaSet" => &replica_set::ReplicaSet,
        "StatefulSet" => &stateful_set::StatefulSet,
        _ => return None,
    })
}
