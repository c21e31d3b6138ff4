//! NodeDeclaredFeatureValidator: a pod is not changed in a way that its node does not know.

use proto_kube::object;
use proto_kube::status::Result;
use serde_json::Value;

use crate::Effects;
use crate::scene::{Scene, core};

pub(crate) fn validate(scene: &Scene<'_>, pod: &Value, _: &mut Effects) -> Result<()> {
    let name = object::text(pod, &["spec", "nodeName"]);
    let pods = scene.is_pod() || scene.is("", "pods", "resize");
    let (true, Some(old)) = (pods && !name.is_empty(), scene.request.old) else { return Ok(()) };
    let mut needed = needed(old, pod);
    if needed.is_empty() {
        return Ok(());
    }
    let Some(node) = scene.view.get(core("nodes"), "", name) else {
        return Err(scene.forbidden(format!("node {name:?} not found")));
    };
    needed.retain(|feature| {
        !object::items(&node, &["status", "declaredFeatures"]).any(|known| known == feature)
    });
    if needed.is_empty() {
        return Ok(());
    }
    let list = needed.join(", ");
    Err(scene
        .forbidden(format!("pod update requires features {list} which are not available on node {name:?}")))
}

/// What a node must know to follow a change.
fn needed(old: &Value, new: &Value) -> Vec<&'static str> {
    let resources = |holder: &Value| object::at(holder, &["resources"]).cloned();
    let starts = |pod: &Value| -> Vec<Option<Value>> {
        let containers = object::items(pod, &["spec", "initContainers"]);
        containers.filter(|c| object::text(c, &["restartPolicy"]) != "Always").map(resources).collect()
    };
    let whole = |pod: &Value| pod.get("spec").and_then(resources);
    let mut needed = Vec::new();
    if whole(old) != whole(new) {
        needed.push("InPlacePodLevelResourcesVerticalScaling");
    }
    if starts(old) != starts(new) {
        needed.push("InPlacePodVerticalScalingInitContainers");
    }
    needed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::{Ask, Cluster, pod};

    #[test]
    fn the_node_must_know_how() {
        let sized = |whole: &str, init: &str, stays: bool| {
            let mut pod = pod("p");
            let policy = if stays { json!("Always") } else { Value::Null };
            pod["spec"]["nodeName"] = "n".into();
            pod["spec"]["resources"] = json!({"requests": {"cpu": whole}});
            pod["spec"]["initContainers"] = json!([{"name": "i", "image": "i", "restartPolicy": policy, "resources": {"requests": {"cpu": init}}}]);
            pod
        };
        let node = |features: Value| {
            let status = json!({"declaredFeatures": features, "allocatable": {"cpu": "9"}});
            Cluster::usual().and("", "nodes", json!({"metadata": {"name": "n"}, "status": status}))
        };
        let no = |features: &str| {
            format!(
                "pods \"p\" is forbidden: pod update requires features {features} which are not available on node \"n\""
            )
        };
        let (whole, init) =
            ("InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers");
        for (old, new, features, refusal) in [
            (sized("1", "1", false), sized("1", "1", false), json!([]), String::new()),
            (sized("1", "1", false), sized("2", "1", false), json!([]), no(whole)),
            (sized("1", "1", false), sized("2", "1", false), json!([whole]), String::new()),
            (sized("1", "1", false), sized("2", "2", false), json!([]), no(&format!("{whole}, {init}"))),
            (sized("1", "1", false), sized("1", "2", false), json!([whole]), no(init)),
            (sized("1", "1", true), sized("1", "2", true), json!([]), String::new()),
        ] {
            assert_eq!(Ask::update("", "pods", old).sub("resize").refusal(&new, &node(features)), refusal);
        }
    }
}
