//! `ValidatingAdmissionPolicy`: expressions that decide about requests. Kept and checked for its form; it is data here, and
//! its expressions are neither compiled nor evaluated.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::matching;
use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, integer, text};

const ANNOTATIONS: usize = 20;
const ANNOTATION_BYTES: usize = 5 << 10;

pub(super) struct ValidatingAdmissionPolicy;

impl Kind for ValidatingAdmissionPolicy {
    fn default(&self, object: &mut Value) {
        default_spec(object);
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        workload::only_status(new, old);
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| spec(&object.at("spec"), object.at("metadata").at("name").text()))
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Validations", "How many expressions decide."),
            text("ParamKind", "The kind of objects that give parameters."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let validations = object::items(object, &["spec", "validations"]).count();
        workload::row(object, vec![validations.into(), param_kind_cell(object).into()], now)
    }
}

/// The kind of a policy's parameters, for its row.
pub(super) fn param_kind_cell(object: &Value) -> String {
    object::at(object, &["spec", "paramKind"]).map_or("<unset>".to_owned(), |kind| {
        format!("{}/{}", object::text(kind, &["apiVersion"]), object::text(kind, &["kind"]))
    })
}

/// Sets what a policy leaves out.
pub(super) fn default_spec(object: &mut Value) {
    object::member(object, "spec");
    let spec = &mut object["spec"];
    object::default(spec, "failurePolicy", "Fail");
    if let Some(resources) = spec.get_mut("matchConstraints").filter(|r| r.is_object()) {
        default_resources(resources);
    }
}

/// Sets what `MatchResources` leave out.
pub(super) fn default_resources(resources: &mut Value) {
    matching::default_selectors(resources);
    matching::default_rules(resources, "resourceRules");
    matching::default_rules(resources, "excludeResourceRules");
}

/// Rule: what a policy is asked about, and what becomes of a request when that fails.
pub(super) fn matched(spec: &Field<'_>) {
    spec.at("failurePolicy").one_of(&["Fail", "Ignore"]);
    if let Some(kind) = spec.member("paramKind") {
        param_kind(&kind);
    }
    let resources = spec.at("matchConstraints");
    if resources.needs_value("") {
        matching::resources_of(&resources);
        resources.at("resourceRules").needs("");
    }
}

fn spec(spec: &Field<'_>, policy: &str) {
    matched(spec);
    matching::conditions(&spec.at("matchConditions"));
    spec.at("variables").items().for_each(|at| variable(&at));
    let (validations, annotations) = (spec.at("validations"), spec.at("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let text = "validations or auditAnnotations must contain at least one item";
        validations.required(text);
        annotations.required(text);
    }
    validations.items().for_each(|at| validation(&at));
    if annotations.len() > ANNOTATIONS {
        annotations.invalid(format!("must not have more than {ANNOTATIONS} auditAnnotations"));
    }
    let mut seen = BTreeSet::new();
    for annotation in annotations.items() {
        let (key, value) = (annotation.at("key"), annotation.at("valueExpression"));
        for fault in name::qualified(&format!("{policy}/{}", key.text())) {
            key.invalid_value(format!("{policy}/{}", key.text()), fault);
        }
        matching::expression(&value, "valueExpression is not specified");
        if value.text().trim().len() > ANNOTATION_BYTES {
            value.required(format!("must not exceed {ANNOTATION_BYTES} bytes in length"));
        }
        if !seen.insert(key.text()) {
            key.duplicate();
        }
    }
}

fn param_kind(kind: &Field<'_>) {
    let (version, named) = (kind.at("apiVersion"), kind.at("kind"));
    if version.needs("") {
        match version.text().split('/').collect::<Vec<_>>()[..] {
            [plain] => group_version(&version, "", plain),
            [group, plain] => group_version(&version, group, plain),
            _ => version.invalid(format!("unexpected GroupVersion string: {}", version.text())),
        }
    }
    let faults = name::label_1035(&named.text().to_lowercase());
    if named.needs("") && !faults.is_empty() {
        named.invalid(format!("may have mixed case, but should otherwise match: {}", faults.join(",")));
    }
}

fn group_version(at: &Field<'_>, group: &str, version: &str) {
    let faults = if group.is_empty() { Vec::new() } else { name::subdomain(group) };
    if !faults.is_empty() {
        at.invalid_value(group, faults.join(","));
    }
    let faults = name::label_1035(version);
    if version.is_empty() {
        at.invalid("version must be specified");
    } else if !faults.is_empty() {
        at.invalid_value(version, faults.join(","));
    }
}

pub(super) fn variable(variable: &Field<'_>) {
    let at = variable.at("name");
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if at.text().trim().is_empty() {
        at.required("name is not specified");
    } else if !at.text().starts_with(first) || !at.text().chars().all(|c| first(c) || c.is_ascii_digit()) {
        at.invalid("must be a valid CEL identifier");
    }
    matching::expression(&variable.at("expression"), "expression is not specified");
}

fn validation(validation: &Field<'_>) {
    matching::expression(&validation.at("expression"), "expression is not specified");
    for at in ["messageExpression", "message"].map(|member| validation.at(member)) {
        if !at.is_empty() && at.text().trim().is_empty() {
            at.invalid("must be non-empty if specified");
        }
    }
    let message = validation.at("message");
    if message.text().trim().contains(['\n', '\r']) {
        message.invalid("must not contain line breaks");
    }
    let reason = validation.at("reason");
    reason.maybe_one_of(&["Forbidden", "Invalid", "RequestEntityTooLarge"]);
}
