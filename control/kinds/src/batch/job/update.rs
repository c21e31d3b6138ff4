//! What an update of a job may change.

use proto_kube::object;
use serde_json::Value;

use super::{condition, is_indexed};
use crate::check::{self, Field};

/// Rule: the spec changes only where it may.
pub(super) fn rules(spec: &Field<'_>, old: &Value) {
    completions(spec, old);
    spec.at("selector").unchanged(old);
    template(spec, old);
    for member in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        spec.at(member).unchanged(old);
    }
}

fn completions(spec: &Field<'_>, old: &Value) {
    let completions = spec.at("completions");
    if !is_indexed(spec) {
        completions.unchanged(old);
    } else if completions.is_set()
        && completions.value != &old["spec"]["completions"]
        && completions.value != spec.at("parallelism").value
    {
        completions.invalid("can only be modified in tandem with spec.parallelism");
    }
}

/// Whether the template of a job may change: it is suspended and none of its pods runs.
fn is_open(job: &Value) -> bool {
    let started = object::at(job, &["status", "startTime"]).is_some();
    job["spec"]["suspend"] == true
        && (!started || condition(job, "Suspended", "True"))
        && object::at(job, &["status", "active"]).and_then(Value::as_i64).unwrap_or(0) == 0
}

fn template(spec: &Field<'_>, old: &Value) {
    let template = spec.at("template");
    let mut allowed = old["spec"]["template"].clone();
    let mut at = template.clone();
    if is_open(old) {
        allow(&mut allowed, template.value);
        at = template.at("spec");
        allowed = allowed["spec"].take();
    }
    if !check::same(at.value, &allowed) {
        at.invalid_value(at.value.clone(), check::IMMUTABLE);
    }
}

/// Takes over into the old template what may change of the pods: where they run, and their resources.
fn allow(old: &mut Value, new: &Value) {
    let mut take = |path: &[&str]| {
        let Some((last, parents)) = path.split_last() else { return };
        let parent = parents.iter().try_fold(&mut *old, |value, key| value.get_mut(key));
        if let Some(Value::Object(parent)) = parent {
            match object::at(new, path) {
                Some(value) => drop(parent.insert((*last).to_owned(), value.clone())),
                None => drop(parent.remove(*last)),
            }
        }
    };
    for member in ["nodeSelector", "tolerations", "schedulingGates"] {
        take(&["spec", member]);
    }
    affinity(old, new);
    for list in ["containers", "initContainers"] {
        let news = object::items(new, &["spec", list]);
        let olds = old["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (old, new) in olds.zip(news).filter(|(old, new)| old["name"] == new["name"]) {
            crate::meta::put(old, "resources", object::at(new, &["resources"]).cloned());
        }
    }
}

fn affinity(old: &mut Value, new: &Value) {
    let node = object::at(new, &["spec", "affinity", "nodeAffinity"]).cloned();
    let Some(spec) = old.get_mut("spec") else { return };
    if spec["affinity"].is_null() && node.is_none() {
        return;
    }
    object::member(spec, "affinity");
    crate::meta::put(&mut spec["affinity"], "nodeAffinity", node);
}
