//! PodResizeValidator: a pod does not grow beyond its node.

use proto_kube::object;
use proto_kube::status::Result;
use serde_json::{Value, json};

use crate::Effects;
use crate::resources::{self, Side};
use crate::scene::{Scene, core};

pub(crate) fn validate(scene: &Scene<'_>, pod: &Value, _: &mut Effects) -> Result<()> {
    let name = object::text(pod, &["spec", "nodeName"]);
    let changed = scene.request.old.is_some_and(|old| old.get("spec") != pod.get("spec"));
    if !scene.is("", "pods", "resize") || name.is_empty() || !changed {
        return Ok(());
    }
    let Some(node) = scene.view.get(core("nodes"), "", name) else {
        return Err(scene.forbidden(format!("node {name:?} not found")));
    };
    let refuse = |why: String, reason: &str| {
        Err(scene.forbidden(why).with_detail("causes", json!([{"reason": reason}])))
    };
    let os = object::labels(&node).find(|(key, _)| *key == "kubernetes.io/os").map_or("linux", |(_, os)| os);
    if os != "linux" {
        let why = format!("pod resize is only supported on linux nodes, node {name:?} is {os:?}");
        return refuse(why, "UnsupportedPlatform");
    }
    let mut asked = Side::Requests.of_spec(pod);
    resources::add(&mut asked, &resources::of(object::at(pod, &["spec", "overhead"])));
    let has = resources::of(object::at(&node, &["status", "allocatable"]));
    let amount = |list: &resources::List, name| list.get(name).copied().unwrap_or_default().amount;
    let mut beyond = Vec::new();
    let (cpu, memory) = (amount(&asked, "cpu"), amount(&asked, "memory"));
    if cpu > amount(&has, "cpu") {
        let has = amount(&has, "cpu").millis();
        beyond.push(format!("cpu, requested: {}, allocatable: {has}", cpu.millis()));
    }
    if memory > amount(&has, "memory") {
        let has = amount(&has, "memory").units();
        beyond.push(format!("memory, requested: {}, allocatable: {has}", memory.units()));
    }
    if beyond.is_empty() {
        return Ok(());
    }
    refuse(format!("node didn't have enough allocatable resources: {}", beyond.join("; ")), "NodeCapacity")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Ask, Cluster, pod};

    #[test]
    fn a_pod_stays_within_its_node() {
        let node = |os: &str| json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": os}}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}});
        let sized = |cpu: &str, memory: &str| {
            let mut pod = pod("p");
            pod["spec"]["nodeName"] = "n".into();
            pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu, "memory": memory}});
            pod
        };
        for (os, cpu, memory, why, reason) in [
            ("linux", "2", "1Gi", "", Value::Null),
            (
                "linux",
                "3",
                "1Gi",
                "node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000",
                json!("NodeCapacity"),
            ),
            (
                "linux",
                "3",
                "2Gi",
                "node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824",
                json!("NodeCapacity"),
            ),
            (
                "windows",
                "1",
                "1",
                "pod resize is only supported on linux nodes, node \"n\" is \"windows\"",
                json!("UnsupportedPlatform"),
            ),
        ] {
            let cluster = Cluster::usual().and("", "nodes", node(os));
            let ask = Ask::update("", "pods", sized("1", "1Mi")).sub("resize");
            let refused = ask.validate(&sized(cpu, memory), &cluster).err();
            let text = refused
                .as_ref()
                .map_or("", |status| status.message.trim_start_matches("pods \"p\" is forbidden: "));
            assert_eq!(text, why);
            assert_eq!(refused.map_or(Value::Null, |s| s.details["causes"][0]["reason"].clone()), reason);
        }
        let ask = Ask::update("", "pods", sized("9", "1Mi")).sub("resize");
        assert_eq!(ask.refusal(&sized("9", "1Mi"), &Cluster::usual()), "", "nothing changed");
    }
}
