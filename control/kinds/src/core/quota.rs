//! `ResourceQuota`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::check::{self, Field};
use crate::column::{self, AGE, NAME, text};
use crate::pod::{default, resources};
use crate::{Column, Kind};

pub(super) struct ResourceQuota;

const COLUMNS: &[Column] = &[
    NAME,
    text("Request", "What is used of what may be asked for."),
    text("Limit", "What is used of what limits may come to."),
    AGE,
];

/// What counts for a scope of pods that have or lack requests.
const COMPUTE: &[&str] =
    &["cpu", "limits.cpu", "limits.memory", "memory", "pods", "requests.cpu", "requests.memory"];

impl Kind for ResourceQuota {
    fn default(&self, quota: &mut Value) {
        default::within(quota, "spec", |spec| default::amounts(spec, "hard"));
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn validate(&self, quota: &Value) -> Errors {
        check::object(quota, |quota| {
            spec(&quota.at("spec"));
            status(&quota.at("status"));
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |quota| {
            let now = quota.at("spec");
            spec(&now);
            let set = |spec: &Value| -> BTreeSet<String> {
                object::items(spec, &["scopes"]).filter_map(Value::as_str).map(str::to_owned).collect()
            };
            if set(now.value) != set(&old["spec"]) {
                let scopes = now.at("scopes");
                scopes.invalid_value(scopes.value.clone(), check::IMMUTABLE);
            }
        })
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::object(new, |quota| status(&quota.at("status")))
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, quota: &Value, now: Timestamp) -> Vec<Value> {
        let hard = object::at(quota, &["status", "hard"]).and_then(Value::as_object);
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, most) in hard.into_iter().flatten() {
            let used = object::text(quota, &["status", "used", name]);
            let used = if used.is_empty() { "0" } else { used };
            let text = format!("{name}: {used}/{}", most.as_str().unwrap_or_default());
            if name.starts_with("limits") { limits.push(text) } else { requests.push(text) }
        }
        vec![
            object::name(quota).into(),
            requests.join(", ").into(),
            limits.join(", ").into(),
            column::age(quota, now),
        ]
    }
}

fn amounts(list: &Field<'_>) {
    for (resource, amount) in list.entries() {
        let faults = name::qualified(resource);
        let plain = !resource.contains('/');
        if faults.is_empty() && plain && !resources::is_standard(resource) && !counts(resource) {
            amount.invalid_value(resource, "must be a standard resource type or fully qualified");
        }
        faults.into_iter().for_each(|fault| amount.invalid_value(resource, fault));
        if plain && !resources::is_of_quotas(resource) {
            amount.invalid_value(resource, "must be a standard resource for quota");
        }
        resources::quantity(&amount, resource);
    }
}

/// Whether a name is one that counts objects: `count/pods`.
fn counts(resource: &str) -> bool {
    resource.starts_with("count/")
}

fn status(status: &Field<'_>) {
    amounts(&status.at("hard"));
    amounts(&status.at("used"));
}

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Whether a resource of a quota can be limited to a scope.
fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            ["persistentvolumeclaims", "requests.storage"].contains(&resource)
                || resource.ends_with("/persistentvolumeclaims")
                || resource.ends_with("/requests.storage")
        }
        _ => {
            COMPUTE.contains(&resource)
                || resource == "ephemeral-storage"
                || resource.ends_with(".ephemeral-storage")
        }
    }
}

fn spec(spec: &Field<'_>) {
    amounts(&spec.at("hard"));
    let scopes = spec.at("scopes");
    let named: Vec<&str> = scopes.items().map(|s| s.text()).collect();
    for scope in &named {
        if !SCOPES.contains(scope) {
            scopes.invalid("unsupported scope");
        }
        for _ in misfits(spec, scope) {
            scopes.invalid("unsupported scope applied to resource");
        }
    }
    conflicts(&scopes, &named);
    let selector = spec.at("scopeSelector");
    let list = selector.at("matchExpressions");
    let mut named = Vec::new();
    for expression in list.items() {
        let scope = expression.at("scopeName").text();
        let at = |key: &str| expression.at(key).shown_at(list.path.child(key));
        if !SCOPES.contains(&scope) {
            at("scopeName").invalid("unsupported scope");
        }
        for _ in misfits(spec, scope) {
            list.invalid_value(selector.value.clone(), "unsupported scope applied to resource");
        }
        let operator = at("operator");
        if !["PriorityClass", "VolumeAttributesClass"].contains(&scope)
            && SCOPES.contains(&scope)
            && operator.text() != "Exists"
        {
            operator.invalid("must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity");
        }
        let values = at("values");
        match (operator.text(), values.is_empty()) {
            ("In" | "NotIn", true) => {
                values.required(
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                );
            }
            ("Exists" | "DoesNotExist", false) => {
                values.invalid(
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                );
            }
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
            _ => operator.invalid("not a valid selector operator"),
        }
        named.push(scope);
    }
    conflicts(&scopes.shown_at(list.path.clone()), &named);
}

/// The limited resources that a scope does not fit.
fn misfits<'a>(spec: &Field<'a>, scope: &str) -> Vec<&'a str> {
    spec.at("hard")
        .entries()
        .map(|(name, _)| name)
        .filter(|n| resources::is_of_quotas(n) && !fits(scope, n))
        .collect()
}

fn conflicts(scopes: &Field<'_>, named: &[&str]) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| named.contains(scope)) {
            scopes.invalid("conflicting scopes");
        }
    }
}
