//! The `conditions` of a status, and how times are written there.

use jiff::Timestamp;
use proto_kube::object;
use serde_json::Value;

/// As the API writes a time: whole seconds.
pub(crate) fn stamp(time: Timestamp) -> Value {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// The condition of a type.
pub(crate) fn get<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    object::items(status, &["conditions"]).find(|condition| condition["type"] == kind)
}

/// Whether the condition of a type is `True`.
pub(crate) fn is_true(status: &Value, kind: &str) -> bool {
    get(status, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Takes the condition of a type away.
pub(crate) fn remove(status: &mut Value, kind: &str) {
    let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) else { return };
    conditions.retain(|condition| condition["type"] != kind);
    if conditions.is_empty() {
        status.as_object_mut().expect("it has a member").remove("conditions");
    }
}

/// Puts a condition last, in the place of the one of its type.
pub(crate) fn put(status: &mut Value, condition: Value) {
    remove(status, object::text(&condition, &["type"]));
    match status.get_mut("conditions").and_then(Value::as_array_mut) {
        Some(conditions) => conditions.push(condition),
        None => status["conditions"] = vec![condition].into(),
    }
}

/// Sets a member of a status to a count; zero is told by leaving it out.
pub(crate) fn count(status: &mut Value, member: &str, count: i64) {
    if count == 0 {
        status.as_object_mut().expect("a status is an object").remove(member);
    } else {
        status[member] = count.into();
    }
}
