//! The kinds of the core group.

pub(crate) mod claim;
mod config_map;
mod endpoints;
mod event;
mod limit_range;
mod namespace;
mod node;
mod quota;
mod replication_controller;
mod secret;
pub mod service;
mod service_account;
pub(crate) mod volume;

#[cfg(test)]
mod tests;

use proto_kube::Resource;

use crate::Kind;
use crate::pod::kind::{Pod, PodTemplate};

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.plural {
        "configmaps" => &config_map::ConfigMap,
        "endpoints" => &endpoints::Endpoints,
        "events" => &event::Event,
        "limitranges" => &limit_range::LimitRange,
        "namespaces" => &namespace::Namespace,
        "nodes" => &node::Node,
        "persistentvolumeclaims" => &claim::PersistentVolumeClaim,
        "persistentvolumes" => &volume::PersistentVolume,
        "pods" => &Pod,
        "podtemplates" => &PodTemplate,
        "replicationcontrollers" => &replication_controller::ReplicationController,
        "resourcequotas" => &quota::ResourceQuota,
        "secrets" => &secret::Secret,
        "serviceaccounts" => &service_account::ServiceAccount,
        "services" => &service::Service,
        _ => return None,
    })
}
