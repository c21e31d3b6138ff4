//! `DaemonSet`: one pod on each node.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::{Value, json};

use super::rolling;
use super::workload::{self, number};
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, integer, text};
use crate::{Kind, meta, pod};

/// Where `apps/v1` keeps the number of the template.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) struct DaemonSet;

impl Kind for DaemonSet {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        workload::default_text(workload::within(spec, &["updateStrategy"]), "type", "RollingUpdate");
        if spec["updateStrategy"]["type"] == "RollingUpdate" {
            let rolling = workload::within(spec, &["updateStrategy", "rollingUpdate"]);
            object::default(rolling, "maxUnavailable", 1);
            object::default(rolling, "maxSurge", 0);
        }
        object::default(spec, "revisionHistoryLimit", 10);
        pod::template::default(workload::within(spec, &["template"]));
        // Who makes the object owns the annotation, which upstream writes whenever it converts one.
        let generation = template_generation(object);
        set_template_generation(object, generation);
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        }))
    }

    fn prepare_create(&self, object: &mut Value) {
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let changed = !check::same_at(new, old, &["spec", "template"]);
        set_template_generation(new, template_generation(old) + i64::from(changed));
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| spec(&object.at("spec")))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            new.at("spec").at("selector").unchanged(old);
            spec(&new.at("spec"));
        })
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            let status = new.at("status");
            workload::counts(
                &status,
                &[
                    "currentNumberScheduled",
                    "numberMisscheduled",
                    "desiredNumberScheduled",
                    "numberReady",
                    "observedGeneration",
                    "updatedNumberScheduled",
                    "numberAvailable",
                    "numberUnavailable",
                    "collisionCount",
                ],
            );
            let before = object::at(old, &["status", "collisionCount"]).and_then(Value::as_i64);
            workload::not_decremented(&status.at("collisionCount"), before);
        })
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::template_warnings(new, old, &["spec", "template"])
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Desired", "On how many nodes a pod is wanted."),
            integer("Current", "How many of those nodes have a pod."),
            integer("Ready", "How many of the pods are ready."),
            integer("Up-to-date", "How many of the pods run the current template."),
            integer("Available", "How many of the pods have been ready for long enough."),
            text("Node Selector", "On which nodes the pods run."),
            AGE,
            workload::CONTAINERS,
            workload::IMAGES,
            workload::SELECTOR,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let status = |member: &str| Value::from(number(object, &["status", member]));
        let middle = vec![
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("numberReady"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
            column::labels(object::at(object, &["spec", "template", "spec", "nodeSelector"])).into(),
        ];
        let mut cells = workload::row(object, middle, now);
        cells.extend(workload::wide_cells(&object["spec"]));
        cells
    }
}

fn template_generation(object: &Value) -> i64 {
    object::text(object, &["metadata", "annotations", TEMPLATE_GENERATION]).parse().unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    workload::within(object, &["metadata", "annotations"])[TEMPLATE_GENERATION] =
        generation.to_string().into();
}

fn spec(spec: &Field<'_>) {
    let (selector, template) = (spec.at("selector"), spec.at("template"));
    let before = selector.count();
    meta::label_selector(&selector);
    if selector.count() == before {
        workload::selects(spec, false);
    }
    if selector.is_set()
        && selector.at("matchLabels").is_empty()
        && selector.at("matchExpressions").is_empty()
    {
        selector.invalid("empty selector is invalid for daemonset");
    }
    pod::template::validate(&template);
    workload::runs_forever(&template, "DaemonSet");
    spec.at("minReadySeconds").non_negative();
    strategy(&spec.at("updateStrategy"));
    spec.at("revisionHistoryLimit").non_negative();
}

fn strategy(strategy: &Field<'_>) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if rolling.needs_value("") => {
            let (missing, extra) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            for check in [rolling::int_or_percent, rolling::at_most_all] {
                check(&missing);
                check(&extra);
            }
            match (rolling::amount(missing.value) != 0, rolling::amount(extra.value) != 0) {
                (true, true) => extra.invalid("may not be set when maxUnavailable is non-zero"),
                (false, false) => missing.required("cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        "RollingUpdate" => {}
        _ => strategy.not_supported(&["RollingUpdate", "OnDelete"]),
    }
}
