//! Pods that cases begin with.

use proto_kube::object::text;
use proto_kube::quantity::Amount;
use serde_json::{Map, Value, json};

/// A container that runs until it is told to end.
pub const FOREVER: &str = "trap 'exit 0' TERM; sleep 1000000 & wait";

/// A busybox container that runs a shell script.
#[must_use]
pub fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "busybox:1.35", "command": ["sh", "-c", script]})
}

/// A pod with one container `c` that runs a shell script once.
#[must_use]
pub fn pod(name: &str, script: &str) -> Value {
    let spec = json!({
        "containers": [container("c", script)], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
    });
    json!({"metadata": {"name": name}, "spec": spec})
}

/// An object with more at a place, `/spec/containers/0`; what is there keeps what `more` does not name.
///
/// # Panics
/// When the object has no such place: the case is misspelt.
#[must_use]
pub fn with(mut object: Value, place: &str, more: Value) -> Value {
    let at = object.pointer_mut(place).unwrap_or_else(|| panic!("no {place}"));
    let (Value::Object(at), Value::Object(more)) = (at, more) else { panic!("{place} is no object") };
    merge(at, more);
    object
}

fn merge(into: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(into)), Value::Object(more)) => merge(into, more),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// [`with`] of the first container.
#[must_use]
pub fn with_container(pod: Value, more: Value) -> Value {
    with(pod, "/spec/containers/0", more)
}

/// [`with`] of the spec.
#[must_use]
pub fn with_spec(pod: Value, more: Value) -> Value {
    with(pod, "/spec", more)
}

/// A node's allocatable CPUs and bytes of memory.
#[must_use]
pub fn allocatable(node: &Value) -> (i64, i64) {
    let amount = |what: &str| Amount::parse(text(node, &["status", "allocatable", what])).map(Amount::units);
    (amount("cpu").unwrap_or_default(), amount("memory").unwrap_or_default())
}
