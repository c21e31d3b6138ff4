//! What tests of kinds share: an object goes the way of a request, and what comes of it is compared.

use jiff::Timestamp;
use proto_kube::decode::{self, Strictness};
use proto_kube::field::Errors;
use proto_kube::{Gvk, Resource, resource};
use serde_json::{Value, json};

/// The resource of an object.
pub(crate) fn of(object: &Value) -> &'static Resource {
    let text = |key: &str| object[key].as_str().unwrap_or_else(|| panic!("{object} has no {key}"));
    resource::of_kind(&Gvk::new(text("apiVersion"), text("kind"))).expect("served")
}

/// The moment of every test.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().expect("a time")
}

/// An object as it comes from a request: decoded, its defaults set. What is merged into it is a JSON merge patch.
pub(crate) fn decoded(object: &Value) -> Value {
    let table = proto_kube::schema::table();
    let id = table.kind(&of(object).gvk()).expect("in the table");
    let (mut object, problems) = decode::value(object.clone(), id, Strictness::Strict).expect("decodes");
    assert_eq!(problems, Vec::<String>::new());
    crate::of(of(&object)).default(&mut object);
    object
}

/// An object with members of another in place of its own; null removes one.
pub(crate) fn with(object: &Value, change: &Value) -> Value {
    let (Value::Object(members), Value::Object(changes)) = (object, change) else { return change.clone() };
    let mut merged = members.clone();
    for (key, change) in changes {
        match change {
            Value::Null => drop(merged.remove(key)),
            change => {
                let merged_in = with(members.get(key).unwrap_or(&Value::Null), change);
                merged.insert(key.clone(), merged_in);
            }
        }
    }
    Value::Object(merged)
}

/// Faults as a client reads them.
pub(crate) fn texts(errors: &Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// A new object, and what is wrong with it.
pub(crate) fn create(object: &Value) -> (Value, Vec<String>) {
    let mut object = decoded(object);
    let again = {
        let mut again = object.clone();
        crate::of(of(&object)).default(&mut again);
        again
    };
    assert_eq!(again, object, "defaults set twice");
    crate::meta::prepare_create(of(&object), &mut object, "uid-1", 1, now());
    let errors = crate::create_errors(of(&object), &object);
    (object, texts(&errors))
}

/// A new object that must be valid.
pub(crate) fn created(object: &Value) -> Value {
    let (object, errors) = create(object);
    assert_eq!(errors, Vec::<String>::new(), "{object}");
    object
}

/// An object changed through a subresource (or itself, for an empty one), and what is wrong with the change.
pub(crate) fn update(subresource: &str, old: &Value, change: &Value) -> (Value, Vec<String>) {
    let mut new = decoded(&with(old, change));
    crate::meta::prepare_update(of(old), subresource, &mut new, old);
    let errors = crate::update_errors(of(old), subresource, &new, old);
    (new, texts(&errors))
}

/// The cells of an object's row with the names of their columns.
pub(crate) fn row(object: &Value) -> Vec<(&'static str, String)> {
    let kind = crate::of(of(object));
    let cells = kind.cells(object, now());
    assert_eq!(cells.len(), kind.columns().len());
    let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    kind.columns().iter().zip(&cells).map(|(column, cell)| (column.name, text(cell))).collect()
}

/// The cells alone.
pub(crate) fn cells(object: &Value) -> Vec<String> {
    row(object).into_iter().map(|(_, cell)| cell).collect()
}

/// Checks a table: what is merged into a valid object, and what is wrong then.
pub(crate) fn check_create(valid: &Value, table: &[(Value, &[&str])]) {
    created(valid);
    for (change, expected) in table {
        let (_, found) = create(&with(valid, change));
        assert_eq!(found, *expected, "{change}");
    }
}

/// Checks a table: what is merged into a stored object, and what is wrong with the change.
pub(crate) fn check_update(subresource: &str, old: &Value, table: &[(Value, &[&str])]) {
    for (change, expected) in table {
        let (_, found) = update(subresource, old, change);
        // What differs is shown below the first line.
        let found: Vec<&str> = found.iter().map(|f| f.split('\n').next().unwrap_or_default()).collect();
        assert_eq!(found, *expected, "{change}");
    }
}

/// An object with those of the changes in it whose bits are set.
pub(crate) fn with_some(object: &Value, changes: &[Value], bits: u64) -> Value {
    let chosen = changes.iter().enumerate().filter(|(at, _)| bits >> (at % 64) & 1 == 1);
    chosen.fold(object.clone(), |object, (_, change)| with(&object, change))
}

/// Checks what holds for every object that is valid as it was sent: it stays valid, and storing it again changes nothing.
pub(crate) fn check_settled(object: &Value) {
    let stored = created(object);
    let (again, errors) = update("", &stored, &json!({}));
    assert_eq!(errors, Vec::<String>::new(), "{stored}");
    assert_eq!(again, stored);
    row(&stored);
}

/// A small pod.
pub(crate) fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "nginx"}]},
    })
}
