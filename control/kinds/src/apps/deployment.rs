//! `Deployment`: pods that are replaced step by step when their template changes.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::{Value, json};

use super::workload::{self, number};
use super::{replica_set, rolling};
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, text};
use crate::{Kind, pod};

pub(super) struct Deployment;

impl Kind for Deployment {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        object::default(spec, "replicas", 1);
        workload::default_text(workload::within(spec, &["strategy"]), "type", "RollingUpdate");
        if spec["strategy"]["type"] == "RollingUpdate" {
            let rolling = workload::within(spec, &["strategy", "rollingUpdate"]);
            object::default(rolling, "maxUnavailable", "25%");
            object::default(rolling, "maxSurge", "25%");
        }
        object::default(spec, "revisionHistoryLimit", 10);
        object::default(spec, "progressDeadlineSeconds", 600);
        pod::template::default(workload::within(spec, &["template"]));
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // Annotations are copied to the replica sets: a change of theirs is one that the controller must see.
        if !check::same_at(new, old, &["metadata", "annotations"]) {
            let generation = number(old, &["metadata", "generation"]) + 1;
            object::metadata(new).insert("generation".to_owned(), generation.into());
        }
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        crate::meta::only(new, old, &["status"]);
        workload::keep_metadata(new, old, &["labels"]);
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| spec(&object.at("spec")))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            spec(&new.at("spec"));
            new.at("spec").at("selector").unchanged(old);
        })
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            let status = new.at("status");
            workload::counts(
                &status,
                &[
                    "observedGeneration",
                    "replicas",
                    "updatedReplicas",
                    "readyReplicas",
                    "availableReplicas",
                    "unavailableReplicas",
                    "terminatingReplicas",
                    "collisionCount",
                ],
            );
            let members = ["updatedReplicas", "readyReplicas", "availableReplicas"];
            workload::no_more(&status, &members, "replicas", "cannot be greater than status.replicas");
            let text = "cannot be greater than readyReplicas";
            workload::no_more(&status, &["availableReplicas"], "readyReplicas", text);
            let before = object::at(old, &["status", "collisionCount"]).and_then(Value::as_i64);
            workload::not_decremented(&status.at("collisionCount"), before);
        })
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Ready", "How many of the wanted pods are ready."),
            text("Up-to-date", "How many pods run the current template."),
            text("Available", "How many pods have been ready for long enough."),
            AGE,
            workload::CONTAINERS,
            workload::IMAGES,
            workload::SELECTOR,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (ready, wanted) =
            (number(object, &["status", "readyReplicas"]), number(object, &["spec", "replicas"]));
        let middle = vec![
            format!("{ready}/{wanted}").into(),
            number(object, &["status", "updatedReplicas"]).into(),
            number(object, &["status", "availableReplicas"]).into(),
        ];
        let mut cells = workload::row(object, middle, now);
        cells.extend(
            object::at(object, &["spec", "template", "spec"]).map(column::containers).into_iter().flatten(),
        );
        cells.resize(7, "".into());
        cells.push(
            object::at(object, &["spec", "selector"])
                .map_or_else(String::new, crate::scale::selector_text)
                .into(),
        );
        cells
    }

    fn scale(&self, object: &Value) -> Option<Value> {
        workload::scale_of(object)
    }
}

fn spec(spec: &Field<'_>) {
    spec.at("replicas").non_negative();
    replica_set::selector_and_template(spec);
    strategy(&spec.at("strategy"));
    spec.at("minReadySeconds").non_negative();
    spec.at("revisionHistoryLimit").non_negative();
    let deadline = spec.at("progressDeadlineSeconds");
    deadline.non_negative();
    if deadline.number().is_some_and(|seconds| seconds <= spec.at("minReadySeconds").number_or_zero()) {
        deadline.invalid("must be greater than minReadySeconds");
    }
}

fn strategy(strategy: &Field<'_>) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "Recreate" if rolling.is_set() => {
            rolling.forbidden("may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (missing, extra) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            rolling::int_or_percent(&missing);
            rolling::int_or_percent(&extra);
            if rolling::amount(missing.value) == 0 && rolling::amount(extra.value) == 0 {
                missing.invalid("may not be 0 when `maxSurge` is 0");
            }
            rolling::at_most_all(&missing);
        }
        _ => strategy.not_supported(&["Recreate", "RollingUpdate"]),
    }
}
