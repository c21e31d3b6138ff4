//! What may change in a pod, through itself and through its subresources.

use proto_kube::field::{Error, Errors, Path};
use proto_kube::object;
use serde_json::{Value, json};

use super::{kind, resources};
use crate::check::{self, Field};
use crate::meta;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const MIRROR: &str = "kubernetes.io/config.mirror";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Keeps of a change through a subresource what the subresource is for.
pub(super) fn prepare(subresource: &str, new: &mut Value, old: &Value) {
    match subresource {
        "ephemeralcontainers" => {
            let containers = object::at(new, &["spec", "ephemeralContainers"]).cloned();
            meta::reset(new, old, &[]);
            if let Some(spec) = new.get_mut("spec") {
                meta::put(spec, "ephemeralContainers", containers);
            }
        }
        "resize" => resize(new, old),
        _ => {
            meta::only(new, old, &["status"]);
            kind::keep_owners(new, old);
            let class = object::at(old, &["status", "qosClass"]).cloned();
            if let Some(class) = class.filter(|_| object::text(new, &["status", "qosClass"]).is_empty()) {
                new["status"]["qosClass"] = class;
            }
        }
    }
}

/// Keeps only the new resources of containers that are still the same ones; otherwise validation tells.
fn resize(new: &mut Value, old: &Value) {
    let lists = ["containers", "initContainers"];
    let names = |pod: &Value, list: &str| {
        object::items(pod, &["spec", list]).map(|c| object::text(c, &["name"]).to_owned()).collect::<Vec<_>>()
    };
    if lists.iter().any(|list| names(new, list) != names(old, list)) {
        return;
    }
    let mut spec = old["spec"].clone();
    for list in lists {
        for (index, container) in object::items(new, &["spec", list]).enumerate() {
            for key in ["resources", "resizePolicy"] {
                meta::put(&mut spec[list][index], key, object::at(container, &[key]).cloned());
            }
        }
    }
    meta::put(&mut spec, "resources", object::at(new, &["spec", "resources"]).cloned());
    meta::reset(new, old, &[]);
    new["spec"] = spec;
}

/// What is wrong with a change of the pod itself.
pub(super) fn validate(new: &Value, old: &Value) -> Errors {
    check::object(new, |pod| {
        kind::rules(&pod);
        annotations(&pod, old);
        let (spec, was) = (pod.at("spec"), &old["spec"]);
        for list in ["containers", "initContainers"] {
            if !as_many(&spec.at(list), &was[list]) {
                return;
            }
        }
        if !deadline(&spec.at("activeDeadlineSeconds"), &was["activeDeadlineSeconds"]) {
            return;
        }
        tolerations(&spec.at("tolerations"), &was["tolerations"]);
        for gate in spec.at("schedulingGates").items() {
            let name = gate.at("name");
            let known = object::items(was, &["schedulingGates"]).any(|g| g["name"] == *name.value);
            if !known {
                let detail =
                    format!("only deletion is allowed, but found new scheduling gate '{}'", name.text());
                name.forbidden(detail);
            }
        }
        let rest = without_updatable(&spec, was);
        if !check::same(&rest, was) {
            spec.forbidden(format!("{UPDATABLE}\n{}", check::diff(was, &rest)));
        }
    })
}

/// The annotations that stay as they are: those that make a mirror pod or used to set profiles.
fn annotations(pod: &Field<'_>, old: &Value) {
    let now = pod.at("metadata").at("annotations");
    let was = &old["metadata"]["annotations"];
    let kind = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        key if key.starts_with(APPARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    for (key, value) in was.as_object().into_iter().flatten() {
        if let Some(what) = kind(key).filter(|_| now.value.get(key) != Some(value)) {
            now.entry(key).forbidden(format!("may not remove or update {what}"));
        }
    }
    for (key, at) in now.entries().filter(|(key, _)| was.get(key).is_none()) {
        if let Some(what) = kind(key) {
            at.forbidden(format!("may not add {what}"));
        }
    }
}

/// Rule: the same number of containers. Tells whether it holds.
fn as_many(containers: &Field<'_>, was: &Value) -> bool {
    if containers.len() != was.as_array().map_or(0, Vec::len) {
        containers.forbidden("pod updates may not add or remove containers");
        return false;
    }
    true
}

fn deadline(now: &Field<'_>, was: &Value) -> bool {
    match (now.number(), was.as_i64()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            now.invalid("must be between 0 and 2147483647, inclusive");
            return false;
        }
        (Some(seconds), Some(before)) if before < seconds => {
            now.invalid("must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => {
            now.invalid_value(Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
    true
}

fn tolerations(now: &Field<'_>, was: &Value) {
    let plain = |toleration: &Value| {
        let mut plain = toleration.clone();
        meta::put(&mut plain, "tolerationSeconds", None);
        plain
    };
    for old in was.as_array().into_iter().flatten() {
        if !now.items().any(|new| check::same(&plain(new.value), &plain(old))) {
            return now.forbidden("existing toleration can not be modified except its tolerationSeconds");
        }
    }
}

/// The new spec with what may change as it was.
fn without_updatable(spec: &Field<'_>, was: &Value) -> Value {
    let mut rest = spec.value.clone();
    for list in ["containers", "initContainers"] {
        for (index, old) in object::items(was, &[list]).enumerate() {
            meta::put(&mut rest[list][index], "image", old.get("image").cloned());
        }
    }
    meta::keep(&mut rest, was, &["activeDeadlineSeconds", "tolerations", "schedulingGates"]);
    let seconds = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if seconds(was).is_some_and(|n| n < 0) && seconds(&rest) == Some(1) {
        meta::keep(&mut rest, was, &["terminationGracePeriodSeconds"]);
    }
    if object::items(was, &["schedulingGates"]).next().is_some() {
        gated(spec, &mut rest, was);
    }
    rest
}

/// A pod that the scheduler does not look at yet may be told more precisely where to run.
fn gated(spec: &Field<'_>, rest: &mut Value, was: &Value) {
    let selector = spec.at("nodeSelector");
    let kept = was["nodeSelector"].as_object().into_iter().flatten();
    if kept.clone().any(|(key, value)| selector.value.get(key) != Some(value)) {
        selector.invalid("only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    }
    meta::keep(rest, was, &["nodeSelector"]);
    let path = ["affinity", "nodeAffinity"];
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let (now, before) = (object::at(spec.value, &path), object::at(was, &path));
    if check::same(now.unwrap_or(&Value::Null), before.unwrap_or(&Value::Null)) {
        return;
    }
    let terms = |affinity: Option<&Value>| -> Vec<Value> {
        affinity
            .map(|a| object::items(a, &[required, "nodeSelectorTerms"]).cloned().collect())
            .unwrap_or_default()
    };
    let (now_terms, before_terms) = (terms(now), terms(before));
    let at = spec.at("affinity").at("nodeAffinity").at(required).at("nodeSelectorTerms");
    if !before_terms.is_empty() {
        if now_terms.len() != before_terms.len() {
            at.invalid("no additions/deletions to non-empty NodeSelectorTerms list are allowed");
        } else {
            for (index, (new, old)) in now_terms.iter().zip(&before_terms).enumerate() {
                let keeps = ["matchExpressions", "matchFields"].iter().all(|list| {
                    object::items(old, &[list])
                        .all(|o| object::items(new, &[list]).any(|n| check::same(n, o)))
                });
                if !keeps {
                    let path = at.path.index(index);
                    at.fault(Error::invalid(
                        &path,
                        new.clone(),
                        "only additions are allowed (no mutations or deletions)",
                    ));
                }
            }
        }
    }
    if let Some(affinity) = rest.get_mut("affinity").filter(|a| a.is_object()) {
        meta::put(affinity, "nodeAffinity", before.cloned());
    } else if let Some(before) = before {
        rest["affinity"] = json!({"nodeAffinity": before});
    }
    if object::at(was, &["affinity"]).is_none() && rest["affinity"] == json!({}) {
        meta::put(rest, "affinity", None);
    }
}

/// What is wrong with a change of the containers that joined later.
pub(super) fn validate_ephemeral(new: &Value, old: &Value) -> Errors {
    if old["metadata"]["annotations"].get(MIRROR).is_some() {
        return vec![Error::forbidden(&Path::new("[]"), "static pods do not support ephemeral containers")];
    }
    check::object(new, |pod| {
        kind::rules(&pod);
        annotations(&pod, old);
        let containers = pod.at("spec").at("ephemeralContainers");
        for old in object::items(old, &["spec", "ephemeralContainers"]) {
            let name = object::text(old, &["name"]);
            match containers.items().find(|c| c.at("name").text() == name) {
                None => containers
                    .forbidden(format!("existing ephemeral containers {name:?} may not be removed\n")),
                Some(new) if !check::same(new.value, old) => {
                    let diff = check::diff(old, new.value);
                    let detail = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                    containers.forbidden(detail);
                }
                Some(_) => {}
            }
        }
    })
}

/// What is wrong with a change of the containers' resources.
pub(super) fn validate_resize(new: &Value, old: &Value) -> Errors {
    let refused = if old["metadata"]["annotations"].get(MIRROR).is_some() {
        Some("static pods cannot be resized")
    } else if object::text(old, &["spec", "os", "name"]) == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(why) = refused {
        return vec![Error::forbidden(&Path::new("[]"), why)];
    }
    check::object(new, |pod| {
        kind::rules(&pod);
        let (spec, was) = (pod.at("spec"), &old["spec"]);
        if resources::qos(spec.value) != resources::qos(was) {
            let class = object::text(new, &["status", "qosClass"]);
            spec.invalid_value(class, "Pod QOS Class may not change as a result of resizing");
        }
        for list in ["initContainers", "containers"] {
            if spec.at(list).len() != was[list].as_array().map_or(0, Vec::len) {
                return spec.forbidden("only cpu and memory resources are mutable");
            }
            for (index, container) in spec.at(list).items().enumerate() {
                resized(&spec, list, &container, &was[list][index]);
            }
        }
    })
}

fn resized(spec: &Field<'_>, list: &str, container: &Field<'_>, was: &Value) {
    let sidecar = object::text(was, &["restartPolicy"]) == "Always";
    if list == "initContainers" && !sidecar {
        if !check::same(container.value, was) {
            spec.forbidden("resources for non-sidecar init containers are immutable");
        }
        return;
    }
    for part in ["requests", "limits"] {
        let at = container.at("resources").at(part);
        let gone = object::at(was, &["resources", part])
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .any(|(name, _)| at.value.get(name).is_none());
        if gone {
            at.forbidden(format!("resource {part} cannot be removed"));
        }
    }
    let mut rest = container.value.clone();
    for part in ["requests", "limits"] {
        let Some(before) = object::at(was, &["resources", part]) else {
            super::default::within(&mut rest, "resources", |resources| meta::put(resources, part, None));
            continue;
        };
        for name in ["cpu", "memory"] {
            let list = &mut rest["resources"];
            object::member(list, part);
            meta::put(&mut list[part], name, before.get(name).cloned());
        }
    }
    meta::keep(&mut rest, was, &["resizePolicy"]);
    if !check::same(&rest, was) {
        spec.forbidden(match list {
            "containers" => "only cpu and memory resources are mutable",
            _ => "only cpu and memory resources for sidecar containers are mutable",
        });
    }
}
