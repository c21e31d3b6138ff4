//! The cluster as admission looks at it: the stored objects.

use std::sync::Arc;

use proto_kube::GroupResource;
use proto_kube::resource;
use proto_kube::view::View;
use serde_json::Value;

use super::{Entry, index, render};
use crate::server::Store;

/// The stored objects, each in the preferred version of its resource.
pub struct Objects<'a>(pub &'a Store);

fn value(entry: &Arc<Entry>) -> Arc<Value> {
    Arc::new(render::parse(entry))
}

impl View for Objects<'_> {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = index::stored(resource::preferred(resource)?).key(namespace, name)?;
        self.0.get(&key).as_ref().map(value)
    }

    fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let found = resource::preferred(resource).and_then(|r| index::stored(r).prefix());
        let prefix = match (found, namespace) {
            (None, _) => return Vec::new(),
            (Some(prefix), "") => prefix,
            (Some(prefix), namespace) => format!("{prefix}{namespace}/"),
        };
        let page = self.0.range(&prefix, store::Range::default());
        page.map(|page| page.entries.iter().map(value).collect()).unwrap_or_default()
    }
}
