//! How an object of the bootstrap policy is mended when a server starts.

use proto_kube::object;
use serde_json::{Map, Value};

use super::AUTOUPDATE;
use crate::rbac::{Rule, uncovered};

/// What to write so that an object of the bootstrap policy is as it should be: `None` when it is already, or its
/// annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` forbids it. What others added stays: rules,
/// subjects, labels and annotations.
#[must_use]
pub fn reconcile(existing: Option<&Value>, expected: &Value) -> Option<Value> {
    let Some(existing) = existing else { return Some(expected.clone()) };
    if object::annotations(existing).any(|(key, value)| key == AUTOUPDATE && value == "false") {
        return None;
    }
    let mut mended = existing.clone();
    for map in ["labels", "annotations"] {
        let wanted = object::at(expected, &["metadata", map]).and_then(Value::as_object);
        for (key, value) in wanted.into_iter().flatten() {
            let metadata = object::metadata(&mut mended);
            let members = metadata.entry(map).or_insert_with(|| Map::new().into());
            if let Some(members) = members.as_object_mut() {
                members.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
    if expected.get("aggregationRule").is_some() {
        add(&mut mended["aggregationRule"], "clusterRoleSelectors", &expected["aggregationRule"]);
    } else if expected.get("rules").is_some() {
        let rules = |role| object::items(role, &["rules"]).map(Rule::of).collect::<Vec<_>>();
        let missing: Vec<_> = uncovered(&rules(existing), &rules(expected)).collect();
        if !missing.is_empty() {
            let own = object::items(existing, &["rules"]).cloned();
            mended["rules"] = own.chain(missing.iter().map(Rule::to_json)).collect();
        }
    }
    if let Some(role) = expected.get("roleRef") {
        if existing.get("roleRef") != Some(role) {
            // A binding to another role is another binding; its subjects must not get this role.
            return Some(expected.clone());
        }
        add(&mut mended, "subjects", expected);
    }
    (mended != *existing).then_some(mended)
}

/// Adds the items of a list that are missing.
fn add(object: &mut Value, list: &str, expected: &Value) {
    let own: Vec<Value> = object::items(object, &[list]).cloned().collect();
    let missing: Vec<Value> =
        object::items(expected, &[list]).filter(|item| !own.contains(item)).cloned().collect();
    if !missing.is_empty() {
        object[list] = own.into_iter().chain(missing).collect();
    }
}
