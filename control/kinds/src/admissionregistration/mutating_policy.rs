//! `MutatingAdmissionPolicy`: expressions that change objects in requests. Kept and checked for its form; its expressions are
//! neither compiled nor evaluated.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors};
use proto_kube::object;
use serde_json::Value;

use super::{matching, policy};
use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, integer, text};

pub(super) struct MutatingAdmissionPolicy;

impl Kind for MutatingAdmissionPolicy {
    fn default(&self, object: &mut Value) {
        policy::default_spec(object);
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| spec(&object.at("spec")))
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Mutations", "How many expressions change an object."),
            text("ParamKind", "The kind of objects that give parameters."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mutations = object::items(object, &["spec", "mutations"]).count();
        workload::row(object, vec![mutations.into(), policy::param_kind_cell(object).into()], now)
    }
}

fn spec(spec: &Field<'_>) {
    policy::matched(spec);
    let resources = spec.at("matchConstraints");
    if resources.is_set() {
        mutable(&resources);
    }
    matching::conditions(&spec.at("matchConditions"));
    spec.at("variables").items().for_each(|at| policy::variable(&at));
    let mutations = spec.at("mutations");
    mutations.needs("mutations must contain at least one item");
    mutations.items().for_each(|at| mutation(&at));
    spec.at("reinvocationPolicy").one_of(&["IfNeeded", "Never"]);
}

/// Rule: what is deleted is not changed.
pub(super) fn mutable(resources: &Field<'_>) {
    let at = resources.at("resourceRules").at("operations");
    for operation in resources.at("resourceRules").items().flat_map(|rule| rule.at("operations").items()) {
        let known = ["*", "CONNECT", "CREATE", "UPDATE"];
        if !known.contains(&operation.text()) {
            at.fault(Error::not_supported(&at.path, operation.text(), &known));
        }
    }
}

fn mutation(mutation: &Field<'_>) {
    let kind = mutation.at("patchType");
    let (chosen, unwanted) = match kind.text() {
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => return kind.one_of(&["ApplyConfiguration", "JSONPatch"]),
    };
    let patch = mutation.at(chosen);
    if patch.needs_value(&format!("must be specified when patchType is {}", kind.text())) {
        matching::expression(&patch.at("expression"), "");
    }
    if let Some(other) = mutation.member(unwanted) {
        let text = format!("must not be specified when patchType is {}", kind.text());
        other.invalid_value(format!("{{{unwanted}}}"), text);
    }
}
