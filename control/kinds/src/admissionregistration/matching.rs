//! What webhooks and policies are asked about.

use std::collections::BTreeSet;

use proto_kube::field::Error;
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::check::Field;
use crate::meta;

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const CONDITIONS: usize = 64;

/// Sets what a rule leaves out.
pub(super) fn default_rules(holder: &mut Value, list: &str) {
    for rule in holder.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
        object::default(rule, "scope", "*");
    }
}

/// Sets which objects are meant, of all.
pub(super) fn default_selectors(holder: &mut Value) {
    object::default(holder, "matchPolicy", "Equivalent");
    object::default(holder, "namespaceSelector", json!({}));
    object::default(holder, "objectSelector", json!({}));
}

/// Rule: operations on resources.
pub(super) fn rule(rule: &Field<'_>) {
    let operations = rule.at("operations");
    operations.needs("");
    alone(&operations, "operations");
    operations.items().for_each(|operation| operation.one_of(&OPERATIONS));
    for (member, word) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = rule.at(member);
        list.needs("");
        alone(&list, word);
    }
    for version in rule.at("apiVersions").items() {
        version.needs("");
    }
    resources(&rule.at("resources"));
    rule.at("scope").maybe_one_of(&["*", "Cluster", "Namespaced"]);
}

/// Rule: a star that stands for all stands alone.
fn alone(list: &Field<'_>, word: &str) {
    if list.len() > 1 && list.items().any(|item| item.text() == "*") {
        list.invalid(format!("if '*' is present, must not specify other {word}"));
    }
}

fn resources(list: &Field<'_>) {
    list.needs("");
    let (mut all_of, mut of_all) = (BTreeSet::new(), BTreeSet::new());
    let mut whole = false;
    for item in list.items() {
        if !item.needs("") {
            continue;
        }
        let text = item.text();
        let Some((resource, part)) = text.split_once('/') else {
            whole = text != "*";
            continue;
        };
        if all_of.contains(resource) {
            item.invalid(format!("if '{resource}/*' is present, must not specify {text}"));
        }
        if of_all.contains(part) {
            item.invalid(format!("if '*/{part}' is present, must not specify {text}"));
        }
        if part == "*" {
            all_of.insert(resource);
        }
        if resource == "*" {
            of_all.insert(part);
        }
    }
    let has = |text: &str| list.items().any(|item| item.text() == text);
    if list.len() > 1 && has("*/*") {
        list.invalid("if '*/*' is present, must not specify other resources");
    }
    if whole && has("*") {
        list.invalid("if '*' is present, must not specify other resources without subresources");
    }
}

/// Rule: the `MatchResources` of a policy or its binding.
pub(super) fn resources_of(holder: &Field<'_>) {
    holder.at("matchPolicy").one_of(&["Equivalent", "Exact"]);
    for selector in ["namespaceSelector", "objectSelector"].map(|member| holder.at(member)) {
        if selector.needs_value("") {
            meta::label_selector(&selector);
        }
    }
    for item in ["resourceRules", "excludeResourceRules"].iter().flat_map(|list| holder.at(list).items()) {
        let names = item.at("resourceNames");
        names.items().for_each(|at| at.all_invalid(name::path_segment(at.text())));
        names.distinct();
        rule(&item);
    }
}

/// Rule: conditions on a request. Whether their expressions can be read is not looked at: none is ever evaluated here.
pub(super) fn conditions(list: &Field<'_>) {
    if list.len() > CONDITIONS {
        list.fault(Error::too_many(&list.path, list.len(), CONDITIONS));
    }
    let mut seen = BTreeSet::new();
    for condition in list.items() {
        expression(&condition.at("expression"), "");
        let at = condition.at("name");
        at.needs_shape(name::qualified);
        if !at.is_empty() && !seen.insert(at.text()) {
            at.duplicate();
        }
    }
}

/// Rule: an expression is there.
pub(super) fn expression(at: &Field<'_>, detail: &str) {
    if at.text().trim().is_empty() {
        at.required(detail);
    }
}
