//! Reading and changing the parts that every object has.

use serde_json::{Map, Value};

use crate::GroupResource;

/// The annotation in which `kubectl apply` keeps what it has applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The text at a path of members; empty when there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The value at a path of members; `None` where a member is missing or null.
#[must_use]
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key)).filter(|v| !v.is_null())
}

/// The items of the list at a path of members.
pub fn items<'a>(object: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(object, path).and_then(Value::as_array).into_iter().flatten()
}

/// The whole number at a path of members.
#[must_use]
pub fn number(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// Whether there is a `true` at a path of members.
#[must_use]
pub fn flag(object: &Value, path: &[&str]) -> bool {
    at(object, path) == Some(&Value::Bool(true))
}

/// The time at a path of members, where there is one in the API's form.
#[must_use]
pub fn time(object: &Value, path: &[&str]) -> Option<jiff::Timestamp> {
    text(object, path).parse().ok()
}

/// The value of an annotation.
#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// The value of a label.
#[must_use]
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// The name.
#[must_use]
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// The namespace; empty for a cluster-scoped object.
#[must_use]
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// The unique identifier.
#[must_use]
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// The labels.
pub fn labels(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    pairs(object, "labels")
}

/// The annotations.
pub fn annotations(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    pairs(object, "annotations")
}

fn pairs<'a>(object: &'a Value, map: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = object.get("metadata").and_then(|m| m.get(map)).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
}

/// Whether the object waits for its deletion.
#[must_use]
pub fn is_terminating(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some()
}

/// Who made an object and looks after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Controller<'a> {
    /// As `apps/v1`.
    pub api_version: &'a str,
    /// As `ReplicaSet`.
    pub kind: &'a str,
    /// Its name, in the object's own namespace.
    pub name: &'a str,
    /// Its unique identifier.
    pub uid: &'a str,
}

/// The one owner reference that says `controller: true`.
#[must_use]
pub fn controller(object: &Value) -> Option<Controller<'_>> {
    let owner = items(object, &["metadata", "ownerReferences"])
        .find(|owner| at(owner, &["controller"]) == Some(&Value::Bool(true)))?;
    let part = |member| text(owner, &[member]);
    Some(Controller {
        api_version: part("apiVersion"),
        kind: part("kind"),
        name: part("name"),
        uid: part("uid"),
    })
}

/// The member `key` as an object, made when it is missing or null.
///
/// # Panics
/// When `object` or the member is something other than an object: decoding by the schema rules that out.
pub fn member<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let members = object.as_object_mut().expect("decoded as an object");
    let member = members.entry(key).or_insert(Value::Null);
    if member.is_null() {
        *member = Value::Object(Map::new());
    }
    member.as_object_mut().expect("decoded as an object")
}

/// The metadata, made when it is missing.
///
/// # Panics
/// As [`member`].
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    member(object, "metadata")
}

/// Sets a member that is missing or null; tells whether it did.
///
/// # Panics
/// When `object` is no object.
pub fn default(object: &mut Value, key: &str, value: impl Into<Value>) -> bool {
    let members = object.as_object_mut().expect("decoded as an object");
    let missing = members.get(key).is_none_or(Value::is_null);
    if missing {
        members.insert(key.to_owned(), value.into());
    }
    missing
}

/// Leaves of an object what every kind has: its `apiVersion`, `kind` and `metadata`; of a pod, which everybody reads, its
/// [`outline`](crate::pod::outline).
pub fn narrow(of: GroupResource<'_>, object: &mut Value) {
    if of == crate::pod::PODS {
        crate::pod::outline(object);
    } else if let Some(members) = object.as_object_mut() {
        members.retain(|member, _| matches!(member.as_str(), "apiVersion" | "kind" | "metadata"));
    }
}
