//! `PriorityClass`: a name for how important pods are.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::Value;

use crate::Kind;
use crate::apps::workload::{self, number};
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, boolean, integer, text};

/// The most that a class of users may have.
const USERS_MOST: i64 = 1_000_000_000;
const SYSTEM: &str = "system-";
const KNOWN: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) struct PriorityClass;

impl Kind for PriorityClass {
    fn default(&self, object: &mut Value) {
        object::default(object, "preemptionPolicy", "PreemptLowerPriority");
        object::default(object, "value", 0);
    }

    fn prepare_create(&self, object: &mut Value) {
        object::metadata(object).insert("generation".to_owned(), 1.into());
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |class| {
            let (name, value) = (class.at("metadata").at("name"), class.at("value"));
            if name.text().starts_with(SYSTEM) {
                if let Some(why) = not_known(&class) {
                    name.forbidden(format!("priority class names with '{SYSTEM}' prefix are reserved for system use only. error: {why}"));
                }
            } else if value.number_or_zero() > USERS_MOST {
                value.forbidden(format!("maximum allowed value of a user defined priority is {USERS_MOST}"));
            }
            let policy = class.at("preemptionPolicy");
            if policy.is_set() {
                policy.one_of(&["PreemptLowerPriority", "Never"]);
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |class| {
            if class.at("value").number_or_zero() != number(old, &["value"]) {
                class.at("value").forbidden("may not be changed in an update.");
            }
            class.at("preemptionPolicy").unchanged(old);
        })
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Value", "The priority of the class's pods."),
            boolean("Global-Default", "Whether pods without a class are of this one."),
            AGE,
            text("PreemptionPolicy", "Whether its pods may push out others."),
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let middle = vec![number(object, &["value"]).into(), (object["globalDefault"] == true).into()];
        let mut cells = workload::row(object, middle, now);
        cells.push(object::text(object, &["preemptionPolicy"]).into());
        cells
    }
}

fn not_known(class: &Field<'_>) -> Option<String> {
    let name = class.at("metadata").at("name").text();
    match KNOWN.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, value)) if class.at("value").number_or_zero() != *value => {
            Some(format!("value of {name} PriorityClass must be {value}"))
        }
        Some(_) if class.at("globalDefault").is_true() => {
            Some(format!("globalDefault of {name} PriorityClass must be false"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules() {
        for (class, expected) in [
            (json!({"metadata": {"name": "a"}, "value": 1_000_000_000}), ""),
            (
                json!({"metadata": {"name": "a"}, "value": 1_000_000_001}),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
            (json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}), ""),
            (
                json!({"metadata": {"name": "system-node-critical"}, "value": 1}),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000",
            ),
            (
                json!({"metadata": {"name": "system-x"}}),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
            ),
            (
                json!({"metadata": {"name": "a"}, "preemptionPolicy": "x"}),
                "preemptionPolicy: Unsupported value: \"x\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ),
        ] {
            let texts: Vec<String> = PriorityClass.validate(&class).iter().map(ToString::to_string).collect();
            assert_eq!(texts.join("; "), expected, "{class}");
        }
        let (old, new) =
            (json!({"value": 1, "preemptionPolicy": "Never"}), json!({"value": 2, "preemptionPolicy": "x"}));
        let texts: Vec<String> =
            PriorityClass.validate_update(&new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "value: Forbidden: may not be changed in an update.",
                "preemptionPolicy: Invalid value: \"x\": field is immutable",
            ]
        );
    }

    #[test]
    fn row() {
        let mut class = json!({"metadata": {"name": "a"}});
        PriorityClass.default(&mut class);
        let cells = Value::from(PriorityClass.cells(&class, Timestamp::UNIX_EPOCH));
        assert_eq!(cells, json!(["a", 0, false, "<unknown>", "PreemptLowerPriority"]));
    }
}
