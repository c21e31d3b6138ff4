//! `IngressClass`: which controller serves an ingress.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors};
use proto_kube::{name, object};
use serde_json::Value;

use crate::Kind;
use crate::batch::domain_prefixed_path;
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, text};

const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const CONTROLLER_MOST: usize = 250;

pub(super) struct IngressClass;

impl Kind for IngressClass {
    fn default(&self, object: &mut Value) {
        if let Some(parameters) = object.pointer_mut("/spec/parameters").filter(|p| p.is_object()) {
            object::default(parameters, "scope", "Cluster");
        }
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            let controller = object.at("spec").at("controller");
            if controller.text().len() > CONTROLLER_MOST {
                controller.fault(Error::too_long(&controller.path, CONTROLLER_MOST));
            }
            domain_prefixed_path(&controller);
            if let Some(parameters) = object.at("spec").member("parameters") {
                reference(&parameters);
                scope(&parameters);
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = check::object(new, |new| new.at("spec").at("controller").unchanged(old));
        errors.extend(self.validate(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Controller", "The controller of the class."),
            text("Parameters", "Where more of its configuration is."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let default = object::annotations(object).any(|(key, value)| key == DEFAULT && value == "true");
        let name = format!("{}{}", object::name(object), if default { " (default)" } else { "" });
        let parameters = object::at(object, &["spec", "parameters"]).map(|parameters| {
            let group = object::at(parameters, &["apiGroup"]).and_then(Value::as_str);
            let group = group.map_or_else(String::new, |group| format!(".{group}"));
            format!("{}{group}/{}", object::text(parameters, &["kind"]), object::text(parameters, &["name"]))
        });
        vec![
            name.into(),
            object::text(object, &["spec", "controller"]).into(),
            parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
            column::age(object, now),
        ]
    }
}

/// Rule: a reference to an object by its group, kind and name.
pub(super) fn reference(reference: &Field<'_>) {
    let group = reference.at("apiGroup");
    if group.is_set() {
        group.all_invalid(name::subdomain(group.text()));
    }
    reference.at("kind").needs_shape(name::path_segment);
    reference.at("name").needs_shape(name::path_segment);
}

fn scope(parameters: &Field<'_>) {
    let (scope, namespace) = (parameters.at("scope"), parameters.at("namespace"));
    if !scope.needs_value("") {
        return;
    }
    match scope.text() {
        "Namespace" if !namespace.is_set() => namespace.required("`parameters.scope` is set to 'Namespace'"),
        "Namespace" => namespace.all_invalid(name::label(namespace.text())),
        "Cluster" if namespace.is_set() => namespace.forbidden("`parameters.scope` is set to 'Cluster'"),
        "Cluster" => {}
        _ => scope.not_supported(&["Cluster", "Namespace"]),
    }
}
