//! Priority: the name of a class becomes a number. The system's own classes stay.

use std::sync::Arc;

use proto_kube::status::Result;
use proto_kube::{GroupResource, object};
use serde_json::Value;

use crate::scene::Scene;
use crate::{Effects, Operation};

const CLASSES: GroupResource<'static> =
    GroupResource { group: "scheduling.k8s.io", resource: "priorityclasses" };
const SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

pub(crate) fn admit(scene: &Scene<'_>, pod: &mut Value, _: &mut Effects) -> Result<()> {
    if !scene.is_pod() || scene.request.operation == Operation::Delete {
        return Ok(());
    }
    if let Some(old) = scene.request.old.filter(|_| !scene.creates()) {
        // Who leaves out what was set at creation means to leave it.
        for key in ["priority", "preemptionPolicy"] {
            if let Some(value) = object::at(old, &["spec", key]) {
                object::default(&mut pod["spec"], key, value.clone());
            }
        }
        return Ok(());
    }
    let name = object::text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = match name.as_str() {
        "" => default(scene),
        name => {
            let class = scene.view.get(CLASSES, "", name);
            Some(
                class
                    .ok_or_else(|| scene.forbidden(format!("no PriorityClass with name {name} was found")))?,
            )
        }
    };
    let priority = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or_default();
    let policy = match &class {
        Some(class) => object::text(class, &["preemptionPolicy"]),
        None => "PreemptLowerPriority",
    };
    let spec = object::member(pod, "spec");
    if let Some(own) = spec.get("priority").and_then(Value::as_i64).filter(|own| *own != priority) {
        return Err(scene.forbidden(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        )));
    }
    if let Some(own) = spec.get("preemptionPolicy").and_then(Value::as_str)
        && !policy.is_empty()
        && own != policy
    {
        return Err(scene.forbidden(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    spec.insert("priority".to_owned(), priority.into());
    if !policy.is_empty() {
        spec.insert("preemptionPolicy".to_owned(), policy.into());
    }
    if let Some(class) = class {
        spec.insert("priorityClassName".to_owned(), object::name(&class).into());
    }
    Ok(())
}

pub(crate) fn validate(scene: &Scene<'_>, class: &Value, _: &mut Effects) -> Result<()> {
    if !scene.is(CLASSES.group, CLASSES.resource, "") {
        return Ok(());
    }
    if scene.request.operation == Operation::Delete {
        return match SYSTEM.contains(&scene.request.name) {
            true => Err(scene.forbidden("this is a system priority class and cannot be deleted")),
            false => Ok(()),
        };
    }
    if class["globalDefault"] != true {
        return Ok(());
    }
    match default(scene) {
        Some(other) if scene.creates() || object::name(&other) != object::name(class) => {
            let name = object::name(&other);
            Err(scene.forbidden(format!(
                "PriorityClass {name} is already marked as default. Only one default can exist"
            )))
        }
        _ => Ok(()),
    }
}

/// The default class; of several, the lowest.
fn default(scene: &Scene<'_>) -> Option<Arc<Value>> {
    let classes = scene.view.list(CLASSES, "").into_iter().filter(|class| class["globalDefault"] == true);
    classes.min_by_key(|class| class["value"].as_i64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::{Ask, Cluster, pod};

    fn class(name: &str, value: i64, default: bool) -> Value {
        json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "PreemptLowerPriority"})
    }

    fn with(spec: Value) -> Value {
        let mut pod = pod("p");
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        pod
    }

    #[test]
    fn a_class_gives_the_number() {
        let none = Cluster::usual().and(CLASSES.group, CLASSES.resource, class("high", 1000, false));
        let ask = Ask::create("", "pods");
        for (spec, refusal) in [
            (json!({"priorityClassName": "high", "priority": 1000}), ""),
            (
                json!({"priorityClassName": "no"}),
                "pods \"p\" is forbidden: no PriorityClass with name no was found",
            ),
            (
                json!({"priority": 5}),
                "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
            ),
            (
                json!({"preemptionPolicy": "Never"}),
                "pods \"p\" is forbidden: the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
            ),
        ] {
            assert_eq!(ask.refusal(&with(spec), &none), refusal);
        }
        let given = |spec, cluster: &Cluster| {
            let mut pod = with(spec);
            ask.admit(&mut pod, cluster).unwrap();
            let spec = &pod["spec"];
            (spec["priorityClassName"].clone(), spec["priority"].clone(), spec["preemptionPolicy"].clone())
        };
        assert_eq!(given(json!({}), &none), (Value::Null, json!(0), json!("PreemptLowerPriority")));
        assert_eq!(given(json!({"priorityClassName": "high"}), &none).1, 1000);
        let some = none.and(CLASSES.group, CLASSES.resource, class("a", 7, true)).and(
            CLASSES.group,
            CLASSES.resource,
            class("b", 9, true),
        );
        assert_eq!(given(json!({}), &some), (json!("a"), json!(7), json!("PreemptLowerPriority")));
    }

    #[test]
    fn an_update_keeps_the_number() {
        let old = with(json!({"priority": 7, "preemptionPolicy": "Never"}));
        let mut new = pod("p");
        Ask::update("", "pods", old.clone()).admit(&mut new, &Cluster::usual()).unwrap();
        assert_eq!(
            (&new["spec"]["priority"], &new["spec"]["preemptionPolicy"]),
            (&json!(7), &json!("Never"))
        );
    }

    #[test]
    fn the_systems_classes_stay() {
        let cluster = Cluster::usual();
        let delete = |name| {
            Ask::delete(CLASSES.group, CLASSES.resource, class(name, 1, false))
                .refusal(&Value::Null, &cluster)
        };
        let no = "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot be deleted";
        assert_eq!((delete("system-node-critical").as_str(), delete("a").as_str()), (no, ""));
        assert_eq!(Ask::delete("", "pods", pod("a")).refusal(&Value::Null, &cluster), "");
    }

    #[test]
    fn there_is_one_default() {
        let cluster = Cluster::usual().and(CLASSES.group, CLASSES.resource, class("a", 7, true));
        let no = "priorityclasses.scheduling.k8s.io \"b\" is forbidden: PriorityClass a is already marked as default. Only one default can exist";
        let create = Ask::create(CLASSES.group, CLASSES.resource);
        assert_eq!(create.refusal(&class("b", 1, true), &cluster), no);
        assert_eq!(create.refusal(&class("b", 1, false), &cluster), "");
        let update = |name| Ask::update(CLASSES.group, CLASSES.resource, class(name, 1, false));
        assert_eq!(update("b").refusal(&class("b", 1, true), &cluster), no);
        assert_eq!(update("a").refusal(&class("a", 1, true), &cluster), "");
    }
}
