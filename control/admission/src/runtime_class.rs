//! RuntimeClass: a pod's runtime says what it takes itself, and which nodes have it.

use std::sync::Arc;

use proto_kube::status::Result;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use crate::Effects;
use crate::resources;
use crate::scene::Scene;

pub(crate) fn admit(scene: &Scene<'_>, pod: &mut Value, _: &mut Effects) -> Result<()> {
    if !scene.is_pod() {
        return Ok(());
    }
    let Some(class) = class(scene, pod)? else { return Ok(()) };
    if let Some(overhead) = object::at(&class, &["overhead"]) {
        let fixed = resources::of(overhead.get("podFixed"));
        let own = resources::of(object::at(pod, &["spec", "overhead"]));
        if !own.is_empty() && own != fixed {
            return Err(
                scene.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            );
        }
        object::member(pod, "spec").insert("overhead".to_owned(), resources::to_json(&fixed));
    }
    let Some(scheduling) = object::at(&class, &["scheduling"]) else { return Ok(()) };
    for (key, value) in scheduling.get("nodeSelector").and_then(Value::as_object).into_iter().flatten() {
        let selector = object::member(&mut pod["spec"], "nodeSelector");
        match selector.get(key).filter(|own| *own != value) {
            Some(own) => {
                let (value, own) = (value.as_str().unwrap_or_default(), own.as_str().unwrap_or_default());
                return Err(scene.forbidden(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                )));
            }
            None => drop(selector.insert(key.clone(), value.clone())),
        }
    }
    let all: Vec<&Value> = object::items(pod, &["spec", "tolerations"])
        .chain(object::items(scheduling, &["tolerations"]))
        .collect();
    let merged: Vec<Value> = merge(&all).into_iter().cloned().collect();
    if !merged.is_empty() {
        pod["spec"]["tolerations"] = merged.into();
    }
    Ok(())
}

pub(crate) fn validate(scene: &Scene<'_>, pod: &Value, _: &mut Effects) -> Result<()> {
    if !scene.is_pod() {
        return Ok(());
    }
    let class = class(scene, pod)?;
    let own = object::at(pod, &["spec", "overhead"]);
    match class.as_ref().and_then(|class| object::at(class, &["overhead"])) {
        Some(overhead) if resources::of(own) != resources::of(overhead.get("podFixed")) => {
            Err(scene.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
        }
        None if own.is_some() => Err(scene
            .forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")),
        _ => Ok(()),
    }
}

fn class(scene: &Scene<'_>, pod: &Value) -> Result<Option<Arc<Value>>> {
    let Some(name) = object::at(pod, &["spec", "runtimeClassName"]).and_then(Value::as_str) else {
        return Ok(None);
    };
    let classes = GroupResource { group: "node.k8s.io", resource: "runtimeclasses" };
    let class = scene.view.get(classes, "", name);
    class.map(Some).ok_or_else(|| scene.forbidden(format!("pod rejected: RuntimeClass {name:?} not found")))
}

/// Tolerations without those that another one covers.
fn merge<'a>(all: &[&'a Value]) -> Vec<&'a Value> {
    let mut merged: Vec<&Value> = Vec::new();
    for (at, toleration) in all.iter().enumerate() {
        let later = all[at + 1..].iter().any(|other| other != toleration && covers(other, toleration));
        if !later && !merged.iter().any(|other| covers(other, toleration)) {
            merged.push(toleration);
        }
    }
    merged
}

fn covers(one: &Value, other: &Value) -> bool {
    if one == other {
        return true;
    }
    let text = |toleration, key| object::text(toleration, &[key]);
    let operator = text(one, "operator");
    if text(one, "key") != text(other, "key") && !(text(one, "key").is_empty() && operator == "Exists") {
        return false;
    }
    if !["", text(other, "effect")].contains(&text(one, "effect")) {
        return false;
    }
    if text(one, "effect") == "NoExecute"
        && let Some(seconds) = one["tolerationSeconds"].as_i64()
        && other["tolerationSeconds"].as_i64().is_none_or(|own| own > seconds)
    {
        return false;
    }
    match operator {
        "Exists" => true,
        "" | "Equal" => text(other, "operator") == "Equal" && text(one, "value") == text(other, "value"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::{Ask, Cluster, pod};

    fn cluster() -> Cluster {
        let class = json!({
            "metadata": {"name": "kata"}, "handler": "kata",
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
        });
        Cluster::usual().and("node.k8s.io", "runtimeclasses", class)
    }

    fn with(key: &str, value: Value) -> Value {
        let mut pod = pod("p");
        pod["spec"]["runtimeClassName"] = "kata".into();
        pod["spec"][key] = value;
        pod
    }

    #[test]
    fn the_class_fills_in_the_pod() {
        let mut pod = with("tolerations", json!([{"key": "vm", "operator": "Equal", "value": "x"}]));
        for _ in 0..2 {
            Ask::create("", "pods").admit(&mut pod, &cluster()).unwrap();
            assert_eq!(pod["spec"]["overhead"], json!({"cpu": "250m"}));
            assert_eq!(pod["spec"]["nodeSelector"], json!({"vm": "yes"}));
            let vm = object::items(&pod, &["spec", "tolerations"]).filter(|t| t["key"] == "vm");
            assert_eq!(vm.collect::<Vec<_>>(), [&json!({"key": "vm", "operator": "Exists"})]);
        }
    }

    #[test]
    fn the_pod_must_agree() {
        for (key, value, why) in [
            ("overhead", json!({"cpu": "0.25"}), ""),
            (
                "overhead",
                json!({"cpu": "1"}),
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ),
            ("runtimeClassName", json!("no"), "pod rejected: RuntimeClass \"no\" not found"),
            (
                "nodeSelector",
                json!({"vm": "no"}),
                "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
            ),
        ] {
            let refusal = Ask::create("", "pods").refusal(&with(key, value), &cluster());
            assert_eq!(refusal.strip_prefix("pods \"p\" is forbidden: ").unwrap_or_default(), why);
        }
        let mut alone = pod("p");
        alone["spec"]["overhead"] = json!({"cpu": "1"});
        assert!(
            Ask::create("", "pods")
                .refusal(&alone, &cluster())
                .ends_with("Pod Overhead set without corresponding RuntimeClass defined Overhead")
        );
    }
}
