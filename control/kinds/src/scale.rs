//! The `scale` subresource: a kind's replicas as an `autoscaling/v1 Scale`.

use proto_kube::object;
use serde_json::{Map, Value, json};

/// The scale of an object whose replicas are `spec.replicas` and `status.replicas`; `selector` is the text of the
/// selector of its pods.
#[must_use]
pub fn of(object: &Value, selector: &str) -> Value {
    let number = |path: &[&str]| object::at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object::at(object, &["metadata", key]) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let mut spec = Map::new();
    match number(&["spec", "replicas"]) {
        0 => {}
        replicas => drop(spec.insert("replicas".to_owned(), replicas.into())),
    }
    let mut status = json!({"replicas": number(&["status", "replicas"])});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec, "status": status})
}

/// Writes the wish of a scale into an object.
pub fn set(object: &mut Value, scale: &Value) {
    let replicas = object::at(scale, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    object::member(object, "spec").insert("replicas".to_owned(), replicas.into());
}

/// What is wrong with a scale that a client sends.
#[must_use]
pub fn validate(scale: &Value) -> proto_kube::field::Errors {
    crate::check::object(scale, |scale| {
        scale.at("spec").at("replicas").non_negative();
    })
}

/// The text of a `LabelSelector`, as upstream writes it: `app=web,tier in (a,b)`.
#[must_use]
pub fn selector_text(selector: &Value) -> String {
    let mut terms: Vec<(String, String)> = Vec::new();
    for (key, value) in
        object::at(selector, &["matchLabels"]).and_then(Value::as_object).into_iter().flatten()
    {
        terms.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in object::items(selector, &["matchExpressions"]) {
        let key = object::text(expression, &["key"]);
        let mut values: Vec<&str> =
            object::items(expression, &["values"]).filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match object::text(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}
