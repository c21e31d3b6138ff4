//! `PodDisruptionBudget`: how many pods an eviction must leave alone.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::apps::{rolling, workload};
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, integer, text};
use crate::{Kind, meta};

pub(super) struct PodDisruptionBudget;

impl Kind for PodDisruptionBudget {
    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}))
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| spec(&object.at("spec")))
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Errors {
        check::object(new, |new| {
            let status = new.at("status");
            conditions(&status.at("conditions"));
            let members = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
            workload::counts(&status, &members);
        })
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Min Available", "How many pods must stay."),
            text("Max Unavailable", "How many pods may be missing."),
            integer("Allowed Disruptions", "How many pods may be evicted now."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let wish = |member: &str| match object::at(object, &["spec", member]) {
            None => Value::from("N/A"),
            Some(Value::String(text)) => text.clone().into(),
            Some(number) => number.to_string().into(),
        };
        let allowed = workload::number(object, &["status", "disruptionsAllowed"]);
        let middle = vec![wish("minAvailable"), wish("maxUnavailable"), allowed.into()];
        workload::row(object, middle, now)
    }
}

fn spec(spec: &Field<'_>) {
    let wishes: Vec<Field<'_>> =
        ["minAvailable", "maxUnavailable"].into_iter().filter_map(|member| spec.member(member)).collect();
    if wishes.len() > 1 {
        spec.invalid("minAvailable and maxUnavailable cannot be both set");
    }
    for wish in wishes {
        rolling::int_or_percent(&wish);
        rolling::at_most_all(&wish);
    }
    meta::label_selector(&spec.at("selector"));
    spec.at("unhealthyPodEvictionPolicy").maybe_one_of(&["AlwaysAllow", "IfHealthyBudget"]);
}

const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// Rule: a list of `meta/v1 Condition`s.
fn conditions(conditions: &Field<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for condition in conditions.items() {
        let (kind, reason) = (condition.at("type"), condition.at("reason"));
        if seen.contains(&kind.text()) {
            kind.duplicate();
        }
        seen.push(kind.text());
        kind.all_invalid(name::qualified(kind.text()));
        let status = condition.at("status");
        if !["False", "True", "Unknown"].contains(&status.text()) {
            status.not_supported(&["False", "True", "Unknown"]);
        }
        if condition.at("observedGeneration").number_or_zero() < 0 {
            condition.at("observedGeneration").invalid("must be greater than or equal to zero");
        }
        condition.at("lastTransitionTime").needs("");
        if reason.needs("") {
            if !is_reason(reason.text()) {
                reason.invalid(REASON);
            }
            reason.at_most(1 << 10);
        }
        condition.at("message").at_most(32 << 10);
    }
}

fn is_reason(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_,:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (spec, expected) in [
            (json!({}), &[][..]),
            (json!({"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}), &[]),
            (json!({"maxUnavailable": "50%", "unhealthyPodEvictionPolicy": "AlwaysAllow"}), &[]),
            (
                json!({"minAvailable": 1, "maxUnavailable": "101%"}),
                &[
                    "spec: Invalid value: {\"maxUnavailable\":\"101%\",\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
                    "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                ],
            ),
            (
                json!({"minAvailable": -1, "unhealthyPodEvictionPolicy": "x"}),
                &[
                    "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"x\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
                ],
            ),
        ] {
            let found = PodDisruptionBudget.validate(&json!({"spec": spec}));
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{spec}");
        }
    }

    #[test]
    fn row() {
        let budget = json!({"metadata": {"name": "a"}, "spec": {"minAvailable": "10%"}, "status": {"disruptionsAllowed": 2}});
        let cells = PodDisruptionBudget.cells(&budget, Timestamp::UNIX_EPOCH);
        assert_eq!(cells, [json!("a"), json!("10%"), json!("N/A"), json!(2), json!("<unknown>")]);
        assert_eq!(cells.len(), PodDisruptionBudget.columns().len());
    }
}
