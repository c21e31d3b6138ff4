//! Whether a pod may be on a node, as far as labels and taints say.

use serde_json::Value;

use crate::object;

/// Whether a toleration bears a taint.
#[must_use]
pub fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let [key, operator, value, effect] =
        ["key", "operator", "value", "effect"].map(|part| object::text(toleration, &[part]));
    let any_or_same = |own: &str, of: &str| own.is_empty() || own == object::text(taint, &[of]);
    any_or_same(key, "key")
        && any_or_same(effect, "effect")
        && match operator {
            "Exists" => true,
            "" | "Equal" => value == object::text(taint, &["value"]),
            _ => false,
        }
}

/// Whether a pod with these tolerations bears all taints of a node that have one of the effects.
#[must_use]
pub fn bears(tolerations: &[Value], node: &Value, effects: &[&str]) -> bool {
    object::items(node, &["spec", "taints"])
        .filter(|taint| effects.contains(&object::text(taint, &["effect"])))
        .all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether a node is one that a pod's spec asks for by its `nodeSelector` and its required node affinity.
#[must_use]
pub fn is_wanted(spec: &Value, node: &Value) -> bool {
    let mut selector = object::at(spec, &["nodeSelector"]).and_then(Value::as_object).into_iter().flatten();
    let affinity = ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    selector.all(|(key, value)| object::label(node, key) == value.as_str())
        && object::at(spec, &affinity).is_none_or(|affinity| {
            object::items(affinity, &["nodeSelectorTerms"]).any(|term| admits(term, node))
        })
}

/// A term without any requirement admits nothing.
fn admits(term: &Value, node: &Value) -> bool {
    let labels = |key: &str| object::label(node, key);
    let fields = |key: &str| (key == "metadata.name").then(|| object::name(node));
    let mut all = object::items(term, &["matchExpressions"])
        .map(|requirement| holds(requirement, &labels))
        .chain(object::items(term, &["matchFields"]).map(|requirement| holds(requirement, &fields)))
        .peekable();
    all.peek().is_some() && all.all(|holds| holds)
}

fn holds<'a>(requirement: &Value, of: &dyn Fn(&str) -> Option<&'a str>) -> bool {
    let value = of(object::text(requirement, &["key"]));
    let among = || object::items(requirement, &["values"]).any(|v| v.as_str() == value);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = || number(object::items(requirement, &["values"]).next().and_then(Value::as_str));
    match object::text(requirement, &["operator"]) {
        "In" => value.is_some() && among(),
        "NotIn" => value.is_none() || !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound()).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(bound()).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerations() {
        let taint = json!({"key": "a", "value": "1", "effect": "NoSchedule"});
        for (toleration, borne) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "a", "operator": "Exists"}), true),
            (json!({"key": "a", "value": "1"}), true),
            (json!({"key": "a", "operator": "Equal", "value": "2"}), false),
            (json!({"key": "b", "operator": "Exists"}), false),
            (json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"}), true),
        ] {
            assert_eq!(tolerates(&toleration, &taint), borne, "{toleration}");
        }
        let node = json!({"spec": {"taints": [taint]}});
        assert!(bears(&[], &node, &["NoExecute"]));
        assert!(!bears(&[], &node, &["NoExecute", "NoSchedule"]));
    }

    #[test]
    fn selectors_and_affinity() {
        let node = json!({"metadata": {"name": "n", "labels": {"zone": "z", "cpus": "8"}}});
        let require = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        let label = |key: &str, operator: &str, values: Value| {
            require(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
        };
        for (spec, wanted) in [
            (json!({}), true),
            (json!({"nodeSelector": {"zone": "z"}}), true),
            (json!({"nodeSelector": {"zone": "y"}}), false),
            (require(json!([])), false),
            (require(json!([{}])), false),
            (label("zone", "In", json!(["y", "z"])), true),
            (label("zone", "NotIn", json!(["z"])), false),
            (label("rack", "NotIn", json!(["z"])), true),
            (label("zone", "Exists", json!([])), true),
            (label("zone", "DoesNotExist", json!([])), false),
            (label("cpus", "Gt", json!(["7"])), true),
            (label("cpus", "Lt", json!(["7"])), false),
            (label("zone", "Gt", json!(["7"])), false),
            (
                require(
                    json!([{}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]),
                ),
                true,
            ),
            (
                require(
                    json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["m"]}]}]),
                ),
                false,
            ),
        ] {
            assert_eq!(is_wanted(&spec, &node), wanted, "{spec}");
        }
    }
}
