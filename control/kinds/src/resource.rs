//! The kinds of the group `resource.k8s.io`: devices, kept as data for a scheduler that knows them.

use proto_kube::{Resource, object};
use serde_json::Value;

use crate::Kind;

/// What a driver offers, of one node or of all.
struct ResourceSlice;

impl Kind for ResourceSlice {
    fn selectable(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let text = |key: &str| object::text(object, &["spec", key]).to_owned();
        vec![("spec.nodeName", text("nodeName")), ("spec.driver", text("driver"))]
    }
}

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    (resource.kind == "ResourceSlice").then_some(&ResourceSlice as &dyn Kind)
}
