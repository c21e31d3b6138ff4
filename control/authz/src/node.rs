//! The node authorizer: a node may read what the pods on it need, and nothing else of the kind.

use proto_kube::{GroupResource, User};
use serde_json::Value;

use crate::{Attributes, Decision};

/// Which objects belong to which nodes, through the pods that run there.
#[derive(Debug, Default)]
pub struct Graph {}

impl Graph {
    /// Takes in an object as it now is. Pods, PersistentVolumes, VolumeAttachments and service accounts count; others
    /// are ignored.
    pub fn put(&mut self, resource: GroupResource<'_>, object: &Value) {
        let _ = (resource, object);
    }

    /// Forgets an object; the namespace is empty for a cluster-scoped one.
    pub fn remove(&mut self, resource: GroupResource<'_>, namespace: &str, name: &str) {
        let _ = (resource, namespace, name);
    }

    /// Whether a node may do something; no opinion about users that are no nodes.
    #[must_use]
    pub fn authorize(&self, user: &User, asked: &Attributes<'_>) -> Decision {
        let _ = (user, asked);
        Decision::NoOpinion(String::new())
    }
}
