//! PodSecurity: how much power the pods of a namespace may have, by the namespace's labels.

mod baseline;
mod check;
mod policy;
mod restricted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto_kube::status::Result;
use proto_kube::{Status, field, object};
use serde_json::Value;

use crate::scene::{Scene, core};
use crate::{Effects, Operation};
use check::{Finding, Pod};
use policy::{Level, Mode, Policy};

const AUDIT: &str = "pod-security.kubernetes.io/";
/// How many pods are looked at when a namespace's level changes.
const MOST_PODS: usize = 3000;

pub(crate) fn validate(scene: &Scene<'_>, object: &Value, effects: &mut Effects) -> Result<()> {
    let request = scene.request;
    let whole = request.subresource.is_empty();
    let of = match (request.resource.group, request.resource.plural) {
        ("", "namespaces") if whole => return namespace(scene, object, effects),
        ("", "pods") if whole || ["ephemeralcontainers", "resize"].contains(&request.subresource) => {
            if request.old.is_some_and(|old| same_images(old, object)) {
                return Ok(());
            }
            Some(object)
        }
        ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets")
        | ("batch", "jobs")
        | ("", "replicationcontrollers")
            if whole =>
        {
            object::at(object, &["spec", "template"])
        }
        ("", "podtemplates") if whole => object::at(object, &["template"]),
        ("batch", "cronjobs") if whole => object::at(object, &["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    };
    let Some(template) = of else { return Ok(()) };
    let Some(namespace) = scene.view.get(core("namespaces"), "", request.namespace) else {
        return Err(Status::internal(format!("failed to lookup namespace {:?}", request.namespace)));
    };
    let (policy, faults) = Policy::of(&namespace);
    judge(scene, &policy, &faults, template, effects)
}

/// Refuses a pod that the enforced mode forbids; of others, and of what makes pods, only tells.
fn judge(
    scene: &Scene<'_>,
    policy: &Policy,
    faults: &[field::Error],
    template: &Value,
    effects: &mut Effects,
) -> Result<()> {
    let enforces = scene.request.resource.plural == "pods";
    let idle = [policy.audit, policy.warn].iter().all(|mode| mode.level == Level::Privileged);
    if faults.is_empty() && idle && (!enforces || policy.enforce.level == Level::Privileged) {
        if enforces {
            effects.audit.push((format!("{AUDIT}enforce-policy"), policy.enforce.to_string()));
        }
        return Ok(());
    }
    if !faults.is_empty() {
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let why = crate::scene::join(&texts).unwrap_or_default();
        effects.audit.push((format!("{AUDIT}error"), format!("Failed to parse policy: {why}")));
    }
    let pod = Pod::new(template);
    if enforces {
        effects.audit.push((format!("{AUDIT}enforce-policy"), policy.enforce.to_string()));
        if let Some(why) = violation(&pod, policy.enforce) {
            return Err(scene.forbidden(format!("violates PodSecurity \"{}\": {why}", policy.enforce)));
        }
    }
    if let Some(why) = violation(&pod, policy.audit) {
        let text = format!("would violate PodSecurity \"{}\": {why}", policy.audit);
        effects.audit.push((format!("{AUDIT}audit-violations"), text));
    }
    if let Some(why) = violation(&pod, policy.warn) {
        effects.warnings.push(format!("would violate PodSecurity \"{}\": {why}", policy.warn));
    }
    Ok(())
}

/// What a mode forbids about a pod, with details.
fn violation(pod: &Pod<'_>, mode: Mode) -> Option<String> {
    let found = findings(pod, mode);
    let text = |finding: &Finding| match finding.detail.as_str() {
        "" => finding.reason.clone(),
        detail => format!("{} ({detail})", finding.reason),
    };
    (!found.is_empty()).then(|| found.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn findings(pod: &Pod<'_>, mode: Mode) -> Vec<Finding> {
    let checks = baseline::CHECKS.iter().chain(restricted::CHECKS);
    let minor = mode.minor();
    checks
        .filter(|check| check.applies(mode.level, minor))
        .filter_map(|check| (check.find)(pod, minor))
        .collect()
}

/// Whether an update of a pod leaves all that matters here.
fn same_images(old: &Value, new: &Value) -> bool {
    let images = |pod: &Value, list| -> Vec<String> {
        object::items(pod, &["spec", list]).map(|c| object::text(c, &["image"]).to_owned()).collect()
    };
    let ephemeral = |pod: &Value| -> BTreeSet<(String, String)> {
        let containers = object::items(pod, &["spec", "ephemeralContainers"]);
        let pair = |c: &Value| ["name", "image"].map(|key| object::text(c, &[key]).to_owned());
        containers.map(pair).map(|[name, image]| (name, image)).collect()
    };
    ["containers", "initContainers"].into_iter().all(|list| images(old, list) == images(new, list))
        && ephemeral(new).is_subset(&ephemeral(old))
}

/// Checks a namespace's labels, and tells which of its pods a stricter level would forbid.
fn namespace(scene: &Scene<'_>, namespace: &Value, effects: &mut Effects) -> Result<()> {
    let (policy, faults) = Policy::of(namespace);
    let old = scene.request.old.filter(|_| scene.request.operation == Operation::Update).map(Policy::of);
    let known = old.as_ref().is_some_and(|(_, old)| !old.is_empty() && *old == faults);
    if !faults.is_empty() && !known {
        let kind = scene.request.resource.gvk();
        return Err(Status::invalid(&kind, object::name(namespace), &faults));
    }
    let Some((old, _)) = old else { return Ok(()) };
    let (new, old) = (policy.enforce, old.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new != old && new.level != Level::Privileged && !relaxed {
        effects.warnings.extend(warnings(scene, object::name(namespace), new));
    }
    Ok(())
}

/// One line a kind of violation, with the number of pods.
fn warnings(scene: &Scene<'_>, namespace: &str, mode: Mode) -> Vec<String> {
    let pods = first_of_each_controller(scene.view.list(core("pods"), namespace));
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in pods.iter().take(MOST_PODS) {
        let reasons: Vec<String> = findings(&Pod::new(pod), mode).into_iter().map(|f| f.reason).collect();
        if !reasons.is_empty() {
            found.entry(reasons.join(", ")).or_default().push(object::name(pod));
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > MOST_PODS {
        let all = pods.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {all} existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{mode}\""
        ));
    }
    let line = |(reason, pods): (&String, &Vec<&str>)| {
        let first = pods.iter().min().copied().unwrap_or_default();
        match pods.len() - 1 {
            0 => format!("{first}: {reason}"),
            1 => format!("{first} (and 1 other pod): {reason}"),
            more => format!("{first} (and {more} other pods): {reason}"),
        }
    };
    let mut lines: Vec<String> = found.iter().map(line).collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

/// The pods, those of a controller that has one already last.
fn first_of_each_controller(pods: Vec<Arc<Value>>) -> Vec<Arc<Value>> {
    let mut seen = BTreeSet::new();
    let (first, more): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        let mut owners = object::items(pod, &["metadata", "ownerReferences"]);
        let owner = owners.find(|owner| owner["controller"] == true);
        owner.is_none_or(|owner| seen.insert(object::text(owner, &["uid"]).to_owned()))
    });
    first.into_iter().chain(more).collect()
}

#[cfg(test)]
mod tests;
