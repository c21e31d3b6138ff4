//! `ReplicaSet`: so many pods of one template.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::{Value, json};

use super::workload::{self, number};
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, integer};
use crate::{Kind, pod};

pub(super) struct ReplicaSet;

impl Kind for ReplicaSet {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        object::default(spec, "replicas", 1);
        pod::template::default(workload::within(spec, &["template"]));
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"replicas": 0}))
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| rules(&object.at("spec")))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            rules(&new.at("spec"));
            new.at("spec").at("selector").unchanged(old);
        })
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::object(new, |new| {
            let status = new.at("status");
            let members = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
            workload::counts(&status, &members);
            workload::counts(&status, &["observedGeneration", "terminatingReplicas"]);
            workload::no_more(&status, &members[1..], "replicas", "cannot be greater than status.replicas");
            let text = "cannot be greater than readyReplicas";
            workload::no_more(&status, &["availableReplicas"], "readyReplicas", text);
        })
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Desired", "How many pods are wanted."),
            integer("Current", "How many pods there are."),
            integer("Ready", "How many pods are ready."),
            AGE,
            workload::CONTAINERS,
            workload::IMAGES,
            workload::SELECTOR,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let middle = vec![
            number(object, &["spec", "replicas"]).into(),
            number(object, &["status", "replicas"]).into(),
            number(object, &["status", "readyReplicas"]).into(),
        ];
        let mut cells = workload::row(object, middle, now);
        cells.extend(workload::wide_cells(&object["spec"]));
        cells
    }

    fn scale(&self, object: &Value) -> Option<Value> {
        workload::scale_of(object)
    }
}

fn rules(spec: &Field<'_>) {
    spec.at("replicas").non_negative();
    spec.at("minReadySeconds").non_negative();
    selector_and_template(spec);
}

/// Rule: the selector and the template of a replica set, or of a deployment, which makes replica sets of its own.
pub(super) fn selector_and_template(spec: &Field<'_>) {
    if workload::selector(spec, "deployment", "invalid label selector") {
        let template = spec.at("template");
        pod::template::validate(&template);
        workload::runs_forever(&template, "ReplicaSet");
    }
}
