//! `HorizontalPodAutoscaler`: as many pods as the load needs. Kept in the form of `autoscaling/v2`; what `v1` has no place
//! for stands in its annotations.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{GroupVersion, name, object};
use serde_json::{Value, json};

use super::{convert, metrics};
use crate::Kind;
use crate::apps::workload::{self, number};
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, text};

const PERIOD_MOST: i64 = 1800;
const WINDOW_MOST: i64 = 3600;

pub(super) struct V1;
pub(super) struct V2;

impl Kind for V2 {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        object::default(spec, "minReplicas", 1);
        if object::items(spec, &["metrics"]).next().is_none() {
            spec["metrics"] = json!([convert::cpu(convert::DEFAULT_CPU)]);
        }
        if let Some(behavior) = spec.get_mut("behavior").filter(|b| b.is_object()) {
            let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
            let up = json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]);
            default_rules(workload::within(behavior, &["scaleUp"]), up, Some(0));
            default_rules(workload::within(behavior, &["scaleDown"]), json!([percent]), None);
        }
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"desiredReplicas": 0}))
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| spec(&object.at("spec"), None))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| spec(&new.at("spec"), Some(&old["spec"])))
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::object(new, |new| workload::counts(&new.at("status"), &["currentReplicas", "desiredReplicas"]))
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Reference", "What is scaled."),
            text("Targets", "What the metrics are, and what they should be."),
            text("MinPods", "The fewest pods."),
            text("MaxPods", "The most pods."),
            text("Replicas", "How many pods there are."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let target = |member: &str| object::text(object, &["spec", "scaleTargetRef", member]);
        let least =
            object::at(object, &["spec", "minReplicas"]).map_or("<unset>".to_owned(), Value::to_string);
        let middle = vec![
            format!("{}/{}", target("kind"), target("name")).into(),
            metrics::cell(object).into(),
            least.into(),
            number(object, &["spec", "maxReplicas"]).into(),
            number(object, &["status", "currentReplicas"]).into(),
        ];
        workload::row(object, middle, now)
    }
}

impl Kind for V1 {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        object::default(&mut object["spec"], "minReplicas", 1);
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"currentReplicas": 0, "desiredReplicas": 0}))
    }

    fn validate(&self, object: &Value) -> Errors {
        V2.validate(&convert::stored(object))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        V2.validate_update(&convert::stored(new), &convert::stored(old))
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Errors {
        V2.validate_status(new, old)
    }

    fn columns(&self) -> &'static [Column] {
        V2.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        V2.cells(&convert::stored(object), now)
    }

    fn to_storage(&self, object: &mut Value) {
        convert::to_v2(object);
    }

    fn from_storage(&self, object: &mut Value) {
        convert::to_v1(object);
    }
}

fn default_rules(rules: &mut Value, policies: Value, window: Option<i64>) {
    workload::default_text(rules, "selectPolicy", "Max");
    object::default(rules, "policies", policies);
    if let Some(window) = window {
        object::default(rules, "stabilizationWindowSeconds", window);
    }
}

fn spec(spec: &Field<'_>, old: Option<&Value>) {
    let was_zero = old.is_some_and(|old| old["minReplicas"] == 0);
    let bound = i64::from(!was_zero);
    let (least, most) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    if least.number().is_some_and(|n| n < bound) {
        least.invalid(format!("must be greater than or equal to {bound}"));
    }
    match most.number_or_zero() {
        0 => most.required("must be set and greater than 0"),
        ..0 => most.invalid("must be greater than or equal to 1"),
        _ => {}
    }
    if least.number().is_some_and(|least| most.number_or_zero() < least) {
        most.invalid_value(most.number_or_zero(), "must be greater than or equal to `minReplicas`");
    }
    let target = spec.at("scaleTargetRef");
    let same =
        |member: &str| old.is_some_and(|old| &old["scaleTargetRef"][member] == target.at(member).value);
    let version = match target.at("kind").text() {
        _ if same("apiVersion") && same("kind") => Version::Any,
        "ReplicationController" => Version::Core,
        _ => Version::Group,
    };
    reference(&target, version);
    let old_metrics = old.map(|old| object::items(old, &["metrics"]));
    let was_wrong = old_metrics.into_iter().flatten().any(|metric| {
        let described = object::text(metric, &["object", "describedObject", "apiVersion"]);
        described.matches('/').count() > 1
    });
    metrics::rules(&spec.at("metrics"), &least, if was_wrong { Version::Any } else { Version::Core });
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.at("behavior").at(direction);
        if rules.is_set() {
            scaling(&rules);
        }
    }
}

/// What the `apiVersion` of a reference may be.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Version {
    /// Anything.
    Any,
    /// Of a group, or of the core group.
    Core,
    /// Of a group.
    Group,
}

/// Rule: a reference to an object of whatever version.
pub(super) fn reference(reference: &Field<'_>, version: Version) {
    reference.at("kind").needs_shape(name::path_segment);
    reference.at("name").needs_shape(name::path_segment);
    let at = reference.at("apiVersion");
    if version == Version::Any {
        return;
    }
    if at.text().matches('/').count() > 1 {
        at.invalid(format!("unexpected GroupVersion string: {}", at.text()));
    } else if version == Version::Group && GroupVersion::parse(at.text()).group.is_empty() {
        at.invalid("apiVersion must specify API group");
    }
}

fn scaling(rules: &Field<'_>) {
    let window = rules.at("stabilizationWindowSeconds");
    match window.number_or_zero() {
        ..0 => window.invalid("must be greater than or equal to zero"),
        n if n > WINDOW_MOST => window.invalid(format!("must be less than or equal to {WINDOW_MOST}")),
        _ => {}
    }
    rules.at("selectPolicy").maybe_one_of(&["Disabled", "Max", "Min"]);
    rules.at("policies").needs("must specify at least one Policy");
    for policy in rules.at("policies").items() {
        let (kind, period) = (policy.at("type"), policy.at("periodSeconds"));
        if !["Percent", "Pods"].contains(&kind.text()) {
            kind.not_supported(&["Percent", "Pods"]);
        }
        for at in [&policy.at("value"), &period] {
            if at.number_or_zero() <= 0 {
                at.invalid_value(at.number_or_zero(), "must be greater than zero");
            }
        }
        if period.number_or_zero() > PERIOD_MOST {
            period.invalid(format!("must be less than or equal to {PERIOD_MOST}"));
        }
    }
    let tolerance = rules.at("tolerance");
    if tolerance.quantity().is_some_and(|amount| amount < proto_kube::quantity::Amount::default()) {
        tolerance.invalid("must be greater than or equal to 0");
    }
}
