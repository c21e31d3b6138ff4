//! `RuntimeClass`: which container runtime runs a pod.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::Value;

use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, text};
use crate::{Kind, meta, pod};

pub(super) struct RuntimeClass;

impl Kind for RuntimeClass {
    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |class| {
            class.at("handler").needs_shape(name::label);
            for (resource, amount) in class.at("overhead").at("podFixed").entries() {
                amount.all_invalid(name::qualified(resource));
                pod::resources::quantity(&amount, resource);
            }
            scheduling(&class.at("scheduling"));
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        errors.extend(check::object(new, |class| class.at("handler").unchanged(old)));
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let labels = object::at(new, &["scheduling", "nodeSelector"]).and_then(Value::as_object);
        let texts = labels.into_iter().flatten().filter_map(|(label, _)| pod::warnings::old_label(label));
        texts.map(|text| format!("scheduling.nodeSelector: {text}")).collect()
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, text("Handler", "The runtime's configuration, by the name that nodes know it by."), AGE];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        workload::row(object, vec![object::text(object, &["handler"]).into()], now)
    }
}

fn scheduling(scheduling: &Field<'_>) {
    meta::labels(&scheduling.at("nodeSelector"));
    let tolerations = scheduling.at("tolerations");
    pod::scheduling::tolerations(&tolerations);
    let mut seen: Vec<[&str; 4]> = Vec::new();
    for toleration in tolerations.items() {
        let key = ["key", "operator", "value", "effect"].map(|member| toleration.at(member).text());
        if seen.contains(&key) {
            toleration.duplicate();
        }
        seen.push(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules() {
        let texts = |errors: Errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(RuntimeClass.validate(&json!({"handler": "runc"}))), Vec::<String>::new());
        assert_eq!(texts(RuntimeClass.validate(&json!({}))), ["handler: Required value"]);
        let twice = json!({"key": "a", "operator": "Exists"});
        assert_eq!(
            texts(RuntimeClass.validate(&json!({"handler": "a", "overhead": {"podFixed": {"cpu": "-1"}}, "scheduling": {"tolerations": [twice, twice]}}))),
            [
                "overhead.podFixed[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}",
            ]
        );
        let update = RuntimeClass.validate_update(&json!({"handler": "b"}), &json!({"handler": "a"}));
        assert_eq!(texts(update), ["handler: Invalid value: \"b\": field is immutable"]);
    }
}
