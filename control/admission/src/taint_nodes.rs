//! TaintNodesByCondition: a new node takes no pods before it is ready.

use proto_kube::object;
use proto_kube::status::Result;
use serde_json::{Value, json};

use crate::Effects;
use crate::scene::Scene;

const KEY: &str = "node.kubernetes.io/not-ready";

pub(crate) fn admit(scene: &Scene<'_>, node: &mut Value, _: &mut Effects) -> Result<()> {
    if !scene.is("", "nodes", "") {
        return Ok(());
    }
    let taint = json!({"key": KEY, "effect": "NoSchedule"});
    let same = |t: &Value| t["key"] == taint["key"] && t["effect"] == taint["effect"];
    if !object::items(node, &["spec", "taints"]).any(same) {
        let mut taints: Vec<Value> = object::items(node, &["spec", "taints"]).cloned().collect();
        taints.push(taint);
        object::member(node, "spec").insert("taints".to_owned(), taints.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Ask, Cluster};

    #[test]
    fn a_new_node_is_tainted_once() {
        let cluster = Cluster::default();
        let mut node = json!({"metadata": {"name": "n"}});
        for _ in 0..2 {
            Ask::create("", "nodes").admit(&mut node, &cluster).unwrap();
            assert_eq!(node["spec"]["taints"], json!([{"key": KEY, "effect": "NoSchedule"}]));
        }
        let mut other =
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": KEY, "effect": "NoExecute"}]}});
        Ask::create("", "nodes").admit(&mut other, &cluster).unwrap();
        assert_eq!(other["spec"]["taints"].as_array().unwrap().len(), 2);
    }
}
