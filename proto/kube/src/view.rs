//! What a decision may look up in the cluster.

use std::sync::Arc;

use serde_json::Value;

use crate::{GroupResource, object};

/// The cluster's objects as of one moment. Decisions get it as an argument and stay pure; tests fill a map.
pub trait View {
    /// An object; the namespace is empty for a cluster-scoped one.
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>>;

    /// All objects of a resource in a namespace, or of the whole cluster for an empty one.
    fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>>;

    /// The objects of a namespace (empty: the cluster-scoped ones) whose controller has this uid; for an empty one those
    /// that nobody controls. Where namespaces are large there is an index for it.
    fn controlled(&self, resource: GroupResource<'_>, namespace: &str, by: &str) -> Vec<Arc<Value>> {
        let mut all = self.list(resource, namespace);
        all.retain(|o| {
            object::namespace(o) == namespace && object::controller(o).map_or("", |c| c.uid) == by
        });
        all
    }
}
