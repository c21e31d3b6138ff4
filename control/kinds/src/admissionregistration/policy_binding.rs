//! `ValidatingAdmissionPolicyBinding` and `MutatingAdmissionPolicyBinding`: where a policy holds, and with which parameters.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::Value;

use super::{matching, mutating_policy, policy};
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, text};
use crate::{Kind, meta, scale};

const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

pub(super) struct Binding {
    pub(super) mutating: bool,
}

impl Kind for Binding {
    fn default(&self, object: &mut Value) {
        if let Some(resources) = object.pointer_mut("/spec/matchResources").filter(|r| r.is_object()) {
            policy::default_resources(resources);
        }
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            let spec = object.at("spec");
            spec.at("policyName").needs_shape(name::subdomain);
            if let Some(parameters) = spec.member("paramRef") {
                param_ref(&parameters);
            }
            if let Some(resources) = spec.member("matchResources") {
                matching::resources_of(&resources);
                if self.mutating {
                    mutating_policy::mutable(&resources);
                }
            }
            if !self.mutating {
                actions(&spec.at("validationActions"));
            }
        })
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("PolicyName", "The policy."),
            text("ParamRef", "The object that gives parameters."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let parameters = object::at(object, &["spec", "paramRef"]).map(|parameters| {
            match (object::text(parameters, &["name"]), object::text(parameters, &["namespace"])) {
                ("", _) => {
                    object::at(parameters, &["selector"]).map_or("<unset>".to_owned(), scale::selector_text)
                }
                (name, "") => format!("*/{name}"),
                (name, namespace) => format!("{namespace}/{name}"),
            }
        });
        let parameters = parameters.unwrap_or_else(|| "<unset>".to_owned());
        let policy = object::text(object, &["spec", "policyName"]);
        workload::row(object, vec![policy.into(), parameters.into()], now)
    }
}

fn param_ref(parameters: &Field<'_>) {
    const BOTH: &str = "name and selector are mutually exclusive";
    let (named, selector) = (parameters.at("name"), parameters.at("selector"));
    named.shaped(name::path_segment);
    if selector.is_set() {
        meta::label_selector(&selector);
    }
    match (!named.is_empty(), selector.is_set()) {
        (true, true) => {
            named.forbidden(BOTH);
            selector.forbidden(BOTH);
        }
        (false, false) => parameters.required("one of name or selector must be specified"),
        _ => {}
    }
    parameters.at("parameterNotFoundAction").one_of(&["Deny", "Allow"]);
}

fn actions(list: &Field<'_>) {
    list.items().for_each(|action| action.one_of(&ACTIONS));
    list.distinct();
    let has = |action: &str| list.items().any(|item| item.text() == action);
    if has("Deny") && has("Warn") {
        list.invalid("must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
    list.needs("at least one validation action is required");
}
