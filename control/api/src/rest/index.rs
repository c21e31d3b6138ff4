//! What the store keeps beside each object, so that selectors need no parsing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proto_kube::resource::{self, Resource};
use proto_kube::selector::{Fields, Labels};
use proto_kube::{Gvk, object};
use serde::Deserialize;
use serde_json::Value;

/// The parts of an object that requests select by.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The name.
    pub name: Box<str>,
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: Box<str>,
    /// The unique identifier.
    pub uid: Box<str>,
    labels: Box<[(Box<str>, Box<str>)]>,
    fields: Box<[(&'static str, Box<str>)]>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(default)]
    labels: BTreeMap<Box<str>, Box<str>>,
}

impl store::Index for Index {
    /// Of an object at rest. What is no object, as the record of a node port, has an empty index.
    fn of(_key: &str, value: &[u8]) -> Self {
        let Ok(head) = serde_json::from_slice::<Head<'_>>(value) else {
            return Self::default();
        };
        let fields = resource::of_kind(&Gvk::new(&head.api_version, &head.kind))
            .map(kinds::of)
            .filter(|kind| !kind.selectable().is_empty())
            .zip(serde_json::from_slice::<Value>(value).ok())
            .map(|(kind, object)| kind.fields(&object))
            .unwrap_or_default();
        Self {
            name: head.metadata.name.into(),
            namespace: head.metadata.namespace.into(),
            uid: head.metadata.uid.into(),
            labels: head.metadata.labels.into_iter().collect(),
            fields: fields.into_iter().map(|(name, value)| (name, value.into_boxed_str())).collect(),
        }
    }
}

impl Index {
    /// Whether selectors admit the object.
    #[must_use]
    pub fn selected(&self, labels: &Labels, fields: &Fields) -> bool {
        let label = |key: &str| {
            let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
            Some(&*self.labels[at].1)
        };
        let field = |name: &str| match name {
            "metadata.name" => Some(&*self.name),
            "metadata.namespace" => Some(&*self.namespace),
            name => self.fields.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value),
        };
        labels.admits(label) && fields.admits(field)
    }
}

/// The resource in the version in which its objects are stored.
#[must_use]
pub(crate) fn stored(resource: &'static Resource) -> &'static Resource {
    resource::all()
        .iter()
        .find(|r| r.storage == resource.storage && r.kind == resource.kind)
        .unwrap_or(resource)
}

/// Turns a stored object into one of a version.
pub(crate) fn from_storage(resource: &'static Resource, object: &mut Value) {
    if !std::ptr::eq(stored(resource), resource) {
        kinds::of(resource).from_storage(object);
        stamp(resource, object);
    }
}

/// Turns an object of a version into the one that is stored.
pub(crate) fn to_storage(resource: &'static Resource, object: &mut Value) {
    let stored = stored(resource);
    if !std::ptr::eq(stored, resource) {
        kinds::of(resource).to_storage(object);
        stamp(stored, object);
    }
}

/// Writes version and kind of a resource into an object.
pub(crate) fn stamp(resource: &Resource, object: &mut Value) {
    object::default(object, "apiVersion", "");
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.into();
}

#[cfg(test)]
mod tests {
    use store::Index as _;

    use super::*;

    #[test]
    fn selectors_need_no_parsing() {
        let pod = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":"1","b":"2"},"name":"web","namespace":"x","uid":"u"},"spec":{"nodeName":"n1"}}"#;
        let index = Index::of("/registry/pods/x/web", pod);
        assert_eq!((&*index.name, &*index.namespace, &*index.uid), ("web", "x", "u"));
        for (labels, fields, selected) in [
            ("", "", true),
            ("a=1,b", "metadata.name=web", true),
            ("c", "", false),
            ("", "metadata.namespace!=x", false),
        ] {
            let (labels, fields) = (Labels::parse(labels).unwrap(), Fields::parse(fields).unwrap());
            assert_eq!(index.selected(&labels, &fields), selected);
        }
        assert_eq!(Index::of("/registry/ranges/x", b"{\"service\":\"x\"}"), Index::default());
    }

    #[test]
    fn two_versions_are_stored_as_one() {
        let version =
            |group, version, plural| stored(resource::find(group, version, plural).unwrap()).api_version();
        assert_eq!(version("autoscaling", "v1", "horizontalpodautoscalers"), "autoscaling/v2");
        assert_eq!(version("events.k8s.io", "v1", "events"), "v1");
        assert_eq!(version("apps", "v1", "deployments"), "apps/v1");
    }
}
