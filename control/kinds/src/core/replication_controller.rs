//! `ReplicationController`.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors, Path};
use proto_kube::object;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{self, AGE, NAME, integer, text, wide};
use crate::pod::{default, template};
use crate::{Column, Kind, Propagation, scale};

pub(super) struct ReplicationController;

const COLUMNS: &[Column] = &[
    NAME,
    integer("Desired", "How many pods there should be."),
    integer("Current", "How many pods there are."),
    integer("Ready", "How many of the pods are ready."),
    AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    wide(text("Selector", "The labels of the pods that count.")),
];

impl Kind for ReplicationController {
    fn default(&self, controller: &mut Value) {
        let labels = object::at(controller, &["spec", "template", "metadata", "labels"]).cloned();
        default::within(controller, "spec", |spec| {
            object::default(spec, "replicas", 1);
            if let Some(labels) = labels.as_ref().filter(|_| is_empty(&spec["selector"])) {
                spec["selector"] = labels.clone();
            }
            default::within(spec, "template", template::default);
        });
        if let Some(labels) = labels.filter(|_| is_empty(&controller["metadata"]["labels"])) {
            controller["metadata"]["labels"] = labels;
        }
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"replicas": 0}))
    }

    fn validate(&self, controller: &Value) -> Errors {
        check::object(controller, |controller| rules(&controller.at("spec")))
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::object(new, |controller| status(&controller.at("status")))
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let generation = |o: &Value| o["metadata"]["generation"].as_i64();
        if old.is_some_and(|old| generation(old) == generation(new)) {
            return Vec::new();
        }
        let template = |o| object::at(o, &["spec", "template"]);
        let path = Path::new("spec.template");
        template(new).map(|t| template::warnings(&path, t, old.and_then(template))).unwrap_or_default()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, controller: &Value, now: Timestamp) -> Vec<Value> {
        let number =
            |path: &[&str]| Value::from(object::at(controller, path).and_then(Value::as_i64).unwrap_or(0));
        let [names, images] = column::containers(&controller["spec"]["template"]["spec"]);
        vec![
            object::name(controller).into(),
            number(&["spec", "replicas"]),
            number(&["status", "replicas"]),
            number(&["status", "readyReplicas"]),
            column::age(controller, now),
            names,
            images,
            column::labels(object::at(controller, &["spec", "selector"])).into(),
        ]
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn fields(&self, controller: &Value) -> Vec<(&'static str, String)> {
        let replicas = object::at(controller, &["status", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
        vec![("status.replicas", replicas.to_string())]
    }

    fn default_propagation(&self) -> Propagation {
        Propagation::Orphan
    }

    fn scale(&self, controller: &Value) -> Option<Value> {
        let selector = match object::at(controller, &["spec", "selector"]) {
            Some(labels) if !is_empty(labels) => column::labels(Some(labels)),
            _ => String::new(),
        };
        Some(scale::of(controller, &selector))
    }
}

fn is_empty(map: &Value) -> bool {
    map.as_object().is_none_or(serde_json::Map::is_empty)
}

fn rules(spec: &Field<'_>) {
    spec.at("minReadySeconds").non_negative();
    let selector = spec.at("selector");
    selector.needs("");
    spec.at("replicas").non_negative();
    let template = spec.at("template");
    if !template.needs_value("") {
        return;
    }
    let labels = template.at("metadata").at("labels");
    if selector.entries().any(|(key, value)| labels.value.get(key) != Some(value.value)) {
        labels.invalid_value(labels.value.clone(), "`selector` does not match template `labels`");
    }
    template::validate(&template);
    let policy = template.at("spec").at("restartPolicy");
    if policy.text() != "Always" {
        policy.not_supported(&["Always"]);
    }
    let deadline = template.at("spec").at("activeDeadlineSeconds");
    if deadline.is_set() {
        deadline.forbidden("activeDeadlineSeconds in ReplicationController is not Supported");
    }
}

fn status(status: &Field<'_>) {
    let number = |key: &str| status.at(key).number_or_zero();
    for key in
        ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"]
    {
        status.at(key).non_negative();
    }
    for key in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        if number(key) > number("replicas") {
            status.at(key).invalid("cannot be greater than status.replicas");
        }
    }
    if number("availableReplicas") > number("readyReplicas") {
        let at = status.at("availableReplicas");
        at.fault(Error::invalid(&at.path, at.value.clone(), "cannot be greater than readyReplicas"));
    }
}
