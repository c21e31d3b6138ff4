//! The `binding` of a pod to a node.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::{Value, json};

use crate::{check, meta};

/// What is wrong with a `Binding`.
#[must_use]
pub fn validate(binding: &Value) -> Errors {
    check::object(binding, |binding| {
        let target = binding.at("target");
        if !["", "Node"].contains(&target.at("kind").text()) {
            target.at("kind").not_supported(&["Node", "<empty>"]);
        }
        target.at("name").needs("");
    })
}

/// Assigns a pod to the node that a binding names, with the annotations and labels that the scheduler left on
/// the binding.
///
/// # Errors
/// Why the pod cannot be assigned: a conflict on `pods/binding`.
pub fn bind(pod: &mut Value, binding: &Value, now: Timestamp) -> Result<(), String> {
    let name = object::name(pod).to_owned();
    for key in ["uid", "resourceVersion"] {
        let asked = object::text(binding, &["metadata", key]);
        let found = object::text(pod, &["metadata", key]);
        if !asked.is_empty() && asked != found {
            let what = if key == "uid" { "UID" } else { "ResourceVersion" };
            return Err(format!(
                "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}"
            ));
        }
    }
    if object::is_terminating(pod) {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match object::text(pod, &["spec", "nodeName"]) {
        "" => {}
        node => return Err(format!("pod {name} is already assigned to node {node:?}")),
    }
    if object::items(pod, &["spec", "schedulingGates"]).next().is_some() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = object::text(binding, &["target", "name"]).into();
    let annotations: Vec<(String, String)> =
        object::annotations(binding).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    for (key, value) in annotations {
        pod["metadata"]["annotations"][key] = value.into();
    }
    let labels: Vec<(String, String)> =
        object::labels(binding).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    for (key, value) in labels {
        pod["metadata"]["labels"][key] = value.into();
    }
    set_condition(
        pod,
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": meta::time(now)}),
    );
    Ok(())
}

/// Sets a condition of an object's status in the place of the one of its type.
pub(crate) fn set_condition(object: &mut Value, condition: Value) {
    let kind = condition["type"].clone();
    match object["status"].get_mut("conditions").and_then(Value::as_array_mut) {
        Some(conditions) => match conditions.iter_mut().find(|c| c["type"] == kind) {
            Some(old) => *old = condition,
            None => conditions.push(condition),
        },
        None => object["status"]["conditions"] = json!([condition]),
    }
}
