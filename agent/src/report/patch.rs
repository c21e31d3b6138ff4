//! What to change of a status in the API: a strategic merge patch with what differs, and nothing of what others have
//! set. Pure.

use serde_json::{Map, Value, json};

/// The lists of a status that several may write, each its own elements, with what tells these apart.
const SHARED: [(&str, &str); 1] = [("conditions", "type")];
/// The conditions that are there only while something is under way.
const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];
/// Since when a condition is as it is.
const SINCE: &str = "lastTransitionTime";
/// The lists of which the API merges elements unless told to replace them.
const MERGED: [&str; 3] = ["addresses", "podIPs", "hostIPs"];

/// The patch that makes `old` say what `new` says; `None` when it does already. Members that are only in `old` are
/// removed when they are among `owned`.
pub(crate) fn between(old: &Value, new: &Value, owned: &[&str]) -> Option<Value> {
    let nothing = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&nothing), new.as_object().unwrap_or(&nothing));
    let mut patch = Map::new();
    for (key, value) in new {
        let known = old.get(key).unwrap_or(&Value::Null);
        if let Some(change) = change(key, known, value) {
            patch.insert(key.clone(), change);
        }
    }
    for key in owned {
        let had = old.get(*key).is_some_and(|value| !empty(value));
        if had && new.get(*key).is_none_or(Value::is_null) {
            patch.insert((*key).to_owned(), Value::Null);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn change(key: &str, old: &Value, new: &Value) -> Option<Value> {
    if old == new || (empty(old) && empty(new)) {
        return None;
    }
    if let Some((_, name)) = SHARED.iter().find(|(list, _)| *list == key) {
        let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let before = all(old);
        let changed = all(new).into_iter().filter_map(|mut element| {
            let known = before.iter().find(|e| e[*name] == element[*name]);
            let Some(known) = known else { return Some(element) };
            if known["status"] == element["status"] {
                // Since when it is so the API may know better: what was told last may not be on our disk.
                element[SINCE] = known[SINCE].clone();
            }
            if equal(known, &element) {
                return None;
            }
            // What is not told any more goes: an earlier reason, say.
            let told = known.as_object().into_iter().flatten().filter(|(_, value)| !empty(value));
            if let Value::Object(members) = &mut element {
                for (member, _) in told {
                    members.entry(member).or_insert(Value::Null);
                }
            }
            Some(element)
        });
        let over = |e: &&Value| {
            PASSING.iter().any(|kind| e[*name] == *kind)
                && all(new).iter().all(|other| other[*name] != e[*name])
        };
        let gone = before.iter().filter(over).map(|e| json!({"$patch": "delete", *name: e[*name]}));
        let changed: Vec<Value> = changed.chain(gone).collect();
        return (!changed.is_empty()).then(|| json!(changed));
    }
    match (old, new) {
        (_, Value::Array(elements)) if MERGED.contains(&key) => {
            let replace = json!({"$patch": "replace"});
            Some(elements.iter().cloned().chain([replace]).collect())
        }
        (Value::Object(_), Value::Object(_)) => {
            let known = |of: &Value| of.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
            let (members, kept): (Vec<String>, Vec<String>) = (known(old), known(new));
            // Elsewhere members come and go with ours alone; a node's resources are also set by others.
            let ours = members.iter().filter(|m| !RESOURCES.contains(&key) || m.starts_with("hugepages-"));
            let owned: Vec<&str> =
                ours.map(String::as_str).filter(|m| !kept.iter().any(|k| k == m)).collect();
            between(old, new, &owned)
        }
        _ => (!equal(old, new)).then(|| new.clone()),
    }
}

/// The maps of which others have members.
const RESOURCES: [&str; 2] = ["capacity", "allocatable"];

/// What the API may leave out.
fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.values().all(empty),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Equal but for what may be left out.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let null = Value::Null;
            let keys = a.keys().chain(b.keys());
            keys.into_iter().all(|k| equal(a.get(k).unwrap_or(&null), b.get(k).unwrap_or(&null)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        _ => a == b || (empty(a) && empty(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let ready = |status: &str| json!({"type": "Ready", "status": status});
        let since = |status: &str, at: &str| json!({"type": "Ready", "status": status, SINCE: at});
        let gate = json!({"type": "example.com/gate", "status": "True"});
        for (old, new, patch) in [
            (json!({}), json!({}), Value::Null),
            (json!({"phase": "Running"}), json!({"phase": "Running"}), Value::Null),
            (json!({"phase": "Pending"}), json!({"phase": "Running"}), json!({"phase": "Running"})),
            (json!({"reason": "x", "other": 1}), json!({}), json!({"reason": null})),
            (json!({}), json!({"reason": null, "list": []}), Value::Null),
            (
                json!({"conditions": [gate, {"type": "PodResizePending", "status": "True"}]}),
                json!({"conditions": []}),
                json!({"conditions": [{"$patch": "delete", "type": "PodResizePending"}]}),
            ),
            (
                json!({"conditions": [ready("False"), gate]}),
                json!({"conditions": [ready("True")]}),
                json!({"conditions": [ready("True")]}),
            ),
            (
                json!({"conditions": [gate, ready("True")]}),
                json!({"conditions": [ready("True")]}),
                Value::Null,
            ),
            (
                json!({"conditions": [since("True", "1")]}),
                json!({"conditions": [since("True", "2")]}),
                Value::Null,
            ),
            (
                json!({"conditions": [since("True", "1")]}),
                json!({"conditions": [since("False", "2")]}),
                json!({"conditions": [since("False", "2")]}),
            ),
            (
                json!({"conditions": [{"type": "Ready", "status": "False", "reason": "r"}, gate]}),
                json!({"conditions": [ready("True")]}),
                json!({"conditions": [{"type": "Ready", "status": "True", "reason": null}]}),
            ),
            (
                json!({"podIPs": [{"ip": "1"}]}),
                json!({"podIPs": [{"ip": "2"}]}),
                json!({"podIPs": [{"ip": "2"}, {"$patch": "replace"}]}),
            ),
            (json!({"s": [{"state": {}, "n": 1}]}), json!({"s": [{"n": 1}]}), Value::Null),
            (json!({"s": [{"n": 1}]}), json!({"s": [{"n": 2}]}), json!({"s": [{"n": 2}]})),
            (
                json!({"capacity": {"cpu": "1", "example.com/gpu": "1", "hugepages-2Mi": "0"}}),
                json!({"capacity": {"cpu": "2"}}),
                json!({"capacity": {"cpu": "2", "hugepages-2Mi": null}}),
            ),
        ] {
            let found = between(&old, &new, &["reason"]).unwrap_or_default();
            assert_eq!(found, patch, "{old} -> {new}");
        }
    }
}
