//! The types of the table as JSON schema.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Version, group_version};
use crate::resource::Resource;
use crate::schema::{Field, Shape, Strategy, Table, Topology, TypeId, table};
use crate::{GroupVersion, Gvk};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// A reference to a schema.
pub(super) fn reference(version: Version, name: &str) -> Value {
    match version {
        Version::V2 => json!({ "$ref": format!("#/definitions/{name}") }),
        Version::V3 => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

/// The name of the schema of a kind.
pub(super) fn name_of(kind: &Gvk) -> Option<&'static str> {
    table().kind(kind).map(|id| table().of(id).name)
}

/// The schemas that the paths of resources speak of, and those that they speak of, by their names.
pub(super) fn items(
    version: Version,
    resources: impl Iterator<Item = &'static Resource>,
) -> impl Iterator<Item = (String, Value)> {
    let table = table();
    let versions: BTreeSet<GroupVersion> = resources.map(group_version).collect();
    let served = |kind: &Gvk| versions.iter().any(|v| v.group == kind.group && v.version == kind.version);
    let mut wanted: Vec<TypeId> =
        table.types().filter(|(_, t)| t.kinds.iter().any(served)).map(|(id, _)| id).collect();
    let named = ["DeleteOptions", "Status"].map(|kind| table.named(&format!("{META}.{kind}")));
    wanted.extend(named.into_iter().flatten());
    let scale = Gvk::new("autoscaling/v1", "Scale");
    let others = ["policy/v1/Eviction", "authentication.k8s.io/v1/TokenRequest"];
    let others =
        others.iter().filter_map(|k| k.rsplit_once('/')).map(|(version, kind)| Gvk::new(version, kind));
    wanted.extend(others.chain([scale]).filter_map(|kind| table.kind(&kind)));
    let mut seen = BTreeSet::new();
    while let Some(id) = wanted.pop() {
        if seen.insert(id.0) {
            wanted.extend(table.of(id).fields.iter().filter_map(|f| object_in(&f.shape)));
        }
    }
    let objects = seen.into_iter().map(move |id| {
        let id = TypeId(id);
        (table.of(id).name.to_owned(), object(version, table, id))
    });
    objects.chain(scalars(version))
}

fn object_in(shape: &Shape) -> Option<TypeId> {
    match shape {
        Shape::Object(id) => Some(*id),
        Shape::List(item) | Shape::Map(item) => object_in(item),
        _ => None,
    }
}

/// Values that have a schema of their own.
fn scalars(version: Version) -> impl Iterator<Item = (String, Value)> {
    let v3 = version == Version::V3;
    let (quantity, int_or_string) = match v3 {
        true => (
            json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] }),
        ),
        false => (json!({ "type": "string" }), json!({ "type": "string", "format": "int-or-string" })),
    };
    let time = json!({ "type": "string", "format": "date-time" });
    [
        (QUANTITY.to_owned(), quantity),
        (FIELDS.to_owned(), json!({ "type": "object" })),
        (format!("{META}.MicroTime"), time.clone()),
        (format!("{META}.Patch"), json!({ "type": "object" })),
        (format!("{META}.Time"), time),
        (RAW.to_owned(), json!({ "type": "object" })),
        (INT_OR_STRING.to_owned(), int_or_string),
    ]
    .into_iter()
}

fn object(version: Version, table: &Table, id: TypeId) -> Value {
    let kind = table.of(id);
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    let properties: Map<_, _> =
        kind.fields.iter().map(|f| (f.name.to_owned(), property(version, table, f))).collect();
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), properties.into());
    }
    let required: Vec<Value> = kind.fields.iter().filter(|f| f.required).map(|f| f.name.into()).collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    if kind.atomic {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    if !kind.kinds.is_empty() {
        let kinds =
            kind.kinds.iter().map(|k| json!({ "group": k.group, "version": k.version, "kind": k.kind }));
        schema.insert("x-kubernetes-group-version-kind".to_owned(), kinds.collect());
    }
    schema.into()
}

fn property(version: Version, table: &Table, field: &Field) -> Value {
    let mut schema = match field.name {
        "fieldsV1" => reference(version, FIELDS),
        _ => shape(version, table, &field.shape),
    };
    let mut marks = Map::new();
    let mut mark = |name: &str, value: Value| marks.insert(name.to_owned(), value);
    match &field.topology {
        Topology::Plain => {}
        Topology::Atomic if matches!(field.shape, Shape::List(_) | Shape::Bytes) => {
            mark("x-kubernetes-list-type", "atomic".into());
        }
        Topology::Atomic => {
            mark("x-kubernetes-map-type", "atomic".into());
        }
        Topology::Granular => {
            mark("x-kubernetes-map-type", "granular".into());
        }
        Topology::Set => {
            mark("x-kubernetes-list-type", "set".into());
        }
        Topology::Keyed(keys) => {
            mark("x-kubernetes-list-type", "map".into());
            mark("x-kubernetes-list-map-keys", keys.iter().copied().collect());
        }
    }
    if let Some(Strategy { merge, retain_keys, key }) = field.strategy {
        let words = [(merge, "merge"), (retain_keys, "retainKeys")];
        let words: Vec<_> = words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
        let words = if words.is_empty() { "replace".to_owned() } else { words.join(",") };
        mark("x-kubernetes-patch-strategy", words.into());
        if let Some(key) = key {
            mark("x-kubernetes-patch-merge-key", key.into());
        }
    }
    if let Some(default) = &field.default {
        mark("default", default.clone());
    }
    if !field.one_of.is_empty() {
        let values: Value = field.one_of.iter().copied().collect();
        match &field.shape {
            Shape::List(_) => schema["items"]["enum"] = values,
            _ => {
                mark("enum", values);
            }
        }
    }
    // Version 3 ignores what stands beside a reference.
    if version == Version::V3 && !marks.is_empty() && schema.get("$ref").is_some() {
        schema = json!({ "allOf": [schema] });
    }
    if let Some(members) = schema.as_object_mut() {
        members.extend(marks);
    }
    schema
}

fn shape(version: Version, table: &Table, of: &Shape) -> Value {
    match of {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Int32 => json!({ "type": "integer", "format": "int32" }),
        Shape::Int64 => json!({ "type": "integer", "format": "int64" }),
        Shape::Double => json!({ "type": "number", "format": "double" }),
        Shape::String | Shape::Duration => json!({ "type": "string" }),
        Shape::Bytes => json!({ "type": "string", "format": "byte" }),
        Shape::Time => reference(version, &format!("{META}.Time")),
        Shape::MicroTime => reference(version, &format!("{META}.MicroTime")),
        Shape::Quantity => reference(version, QUANTITY),
        Shape::IntOrString => reference(version, INT_OR_STRING),
        Shape::Raw => reference(version, RAW),
        Shape::Object(id) => reference(version, table.of(*id).name),
        Shape::List(item) => json!({ "type": "array", "items": shape(version, table, item) }),
        Shape::Map(item) => json!({ "type": "object", "additionalProperties": shape(version, table, item) }),
    }
}
