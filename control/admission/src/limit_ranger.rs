//! LimitRanger: what containers, pods and claims may ask for in a namespace, and what they get when they ask for nothing.

use std::sync::Arc;

use proto_kube::object;
use proto_kube::quantity::{Amount, Quantity};
use proto_kube::status::Result;
use serde_json::Value;

use crate::resources::{self, List, Side};
use crate::scene::{Scene, core, join};
use crate::{Effects, Operation};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Gives containers the defaults.
pub(crate) fn admit(scene: &Scene<'_>, pod: &mut Value, _: &mut Effects) -> Result<()> {
    for range in ranges(scene).filter(|_| scene.request.resource.plural == "pods") {
        let mut set = Vec::new();
        for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
            let containers = pod.get_mut("spec").and_then(|s| s.get_mut(list)).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let name = object::text(container, &["name"]).to_owned();
                for (defaults, side) in [("defaultRequest", "request"), ("default", "limit")] {
                    let names = fill(container, &format!("{side}s"), &defaults_of(&range, defaults));
                    if !names.is_empty() {
                        set.push(format!("{} {side} for {word} {name}", names.join(", ")));
                    }
                }
            }
        }
        if !set.is_empty() {
            let annotations = object::metadata(pod).entry("annotations").or_insert(Value::Null);
            if annotations.is_null() {
                *annotations = serde_json::json!({});
            }
            annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", set.join("; ")).into();
        }
    }
    Ok(())
}

/// Holds pods and claims to the limits.
pub(crate) fn validate(scene: &Scene<'_>, object: &Value, _: &mut Effects) -> Result<()> {
    for range in ranges(scene) {
        let mut faults = Vec::new();
        for limit in object::items(&range, &["spec", "limits"]) {
            let kind = object::text(limit, &["type"]);
            match (kind, scene.request.resource.plural) {
                ("Container", "pods") => {
                    for list in ["containers", "initContainers"] {
                        for container in object::items(object, &["spec", list]) {
                            check(
                                limit,
                                &Side::Requests.of(container),
                                &Side::Limits.of(container),
                                &mut faults,
                            );
                        }
                    }
                }
                ("Pod", "pods") => {
                    check(limit, &Side::Requests.of_spec(object), &Side::Limits.of_spec(object), &mut faults);
                }
                ("PersistentVolumeClaim", "persistentvolumeclaims") => {
                    let asked = object.get("spec").map(|spec| Side::Requests.of(spec)).unwrap_or_default();
                    check_claim(limit, &asked, &mut faults);
                }
                _ => {}
            }
        }
        if let Some(why) = join(&faults) {
            return Err(scene.forbidden(why));
        }
    }
    Ok(())
}

/// The ranges that apply to the request.
fn ranges(scene: &Scene<'_>) -> impl Iterator<Item = Arc<Value>> + use<> {
    let resizes = scene.is("", "pods", "resize") && scene.request.operation == Operation::Update;
    // A pod's containers cannot be changed otherwise.
    let applies =
        resizes || (scene.is_pod() && scene.creates()) || scene.is("", "persistentvolumeclaims", "");
    let goes = scene.request.old.is_some_and(object::is_terminating);
    let ranges = if applies && !goes {
        scene.view.list(core("limitranges"), scene.request.namespace)
    } else {
        Vec::new()
    };
    ranges.into_iter()
}

/// The defaults that all limits of a range give to containers.
fn defaults_of(range: &Value, key: &str) -> List {
    let limits =
        object::items(range, &["spec", "limits"]).filter(|l| object::text(l, &["type"]) == "Container");
    limits.flat_map(|limit| resources::of(limit.get(key))).collect()
}

/// Sets what a container does not ask for; the names of it.
fn fill(container: &mut Value, side: &str, defaults: &List) -> Vec<String> {
    let own = resources::of(object::at(container, &["resources", side]));
    let missing = resources::only(defaults, |name| !own.contains_key(name));
    if !missing.is_empty() {
        let resources = object::member(container, "resources");
        let list = resources.entry(side).or_insert(Value::Null);
        if list.is_null() {
            *list = serde_json::json!({});
        }
        for (name, quantity) in &missing {
            list[name] = quantity.to_string().into();
        }
    }
    missing.into_keys().collect()
}

fn check(limit: &Value, requests: &List, limits: &List, faults: &mut Vec<String>) {
    let kind = object::text(limit, &["type"]);
    for (name, bound) in resources::of(limit.get("min")) {
        minimum(kind, &name, bound, requests, limits, faults);
    }
    for (name, bound) in resources::of(limit.get("max")) {
        let (request, most) = (requests.get(&name), limits.get(&name));
        let head = format!("maximum {name} usage per {kind} is {bound}");
        match (request, most) {
            (_, None) => faults.push(format!("{head}.  No limit is specified")),
            (_, Some(most)) if most.amount > bound.amount => {
                faults.push(format!("{head}, but limit is {most}"))
            }
            (Some(request), _) if request.amount > bound.amount => {
                faults.push(format!("{head}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (name, bound) in resources::of(limit.get("maxLimitRequestRatio")) {
        ratio(kind, &name, bound, requests, limits, faults);
    }
}

fn check_claim(limit: &Value, requests: &List, faults: &mut Vec<String>) {
    let kind = object::text(limit, &["type"]);
    for (name, bound) in resources::of(limit.get("min")) {
        minimum(kind, &name, bound, requests, &List::new(), faults);
    }
    for (name, bound) in resources::of(limit.get("max")) {
        let head = format!("maximum {name} usage per {kind} is {bound}");
        match requests.get(&name) {
            None => faults.push(format!("{head}.  No request is specified")),
            Some(request) if request.amount > bound.amount => {
                faults.push(format!("{head}, but request is {request}"));
            }
            _ => {}
        }
    }
}

fn minimum(
    kind: &str,
    name: &str,
    bound: Quantity,
    requests: &List,
    limits: &List,
    faults: &mut Vec<String>,
) {
    let head = format!("minimum {name} usage per {kind} is {bound}");
    match (requests.get(name), limits.get(name)) {
        (None, _) => faults.push(format!("{head}.  No request is specified")),
        (Some(request), _) if request.amount < bound.amount => {
            faults.push(format!("{head}, but request is {request}"));
        }
        (_, Some(most)) if most.amount < bound.amount => faults.push(format!("{head}, but limit is {most}")),
        _ => {}
    }
}

fn ratio(kind: &str, name: &str, bound: Quantity, requests: &List, limits: &List, faults: &mut Vec<String>) {
    let head = format!("{name} max limit to request ratio per {kind} is {bound}, but");
    let given = |list: &List| list.get(name).map(|q| q.amount).filter(|amount| *amount != Amount::default());
    match (given(requests), given(limits)) {
        (None, _) => faults.push(format!("{head} no request is specified or request is 0")),
        (_, None) => faults.push(format!("{head} no limit is specified or limit is 0")),
        (Some(request), Some(most)) => {
            let ratio = most.as_f64() / request.as_f64();
            if ratio > bound.amount.as_f64() {
                faults.push(format!("{head} provided ratio is {ratio:.6}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
