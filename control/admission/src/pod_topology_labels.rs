//! PodTopologyLabels: a pod that is bound to a node learns the node's zone and region.

use proto_kube::object;
use proto_kube::status::Result;
use serde_json::Value;

use crate::Effects;
use crate::scene::{Scene, core};

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// Writes the labels into the pod, or into the binding, whose labels the pod takes over.
pub(crate) fn admit(scene: &Scene<'_>, object: &mut Value, _: &mut Effects) -> Result<()> {
    let name = if scene.is_pod() {
        object::text(object, &["spec", "nodeName"])
    } else if scene.is("", "pods", "binding") && object::text(object, &["target", "kind"]) == "Node" {
        object::text(object, &["target", "name"])
    } else {
        ""
    };
    let node = if name.is_empty() { None } else { scene.view.get(core("nodes"), "", name) };
    for (key, value) in node.iter().flat_map(|node| object::labels(node)).filter(|(k, _)| LABELS.contains(k))
    {
        let labels = object::metadata(object).entry("labels").or_insert(Value::Null);
        if labels.is_null() {
            *labels = serde_json::json!({});
        }
        labels[key] = value.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::tests::{Ask, Cluster, pod};

    #[test]
    fn the_zone_of_the_node_is_the_zone_of_the_pod() {
        let labels =
            json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "o"});
        let cluster = Cluster::usual().and("", "nodes", json!({"metadata": {"name": "n", "labels": labels}}));
        let expected = json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"});
        let mut binding =
            json!({"metadata": {"name": "p", "namespace": "ns"}, "target": {"kind": "Node", "name": "n"}});
        Ask::create("", "pods").sub("binding").admit(&mut binding, &cluster).unwrap();
        assert_eq!(binding["metadata"]["labels"], expected);
        let mut bound = pod("p");
        bound["spec"]["nodeName"] = "n".into();
        Ask::create("", "pods").admit(&mut bound, &cluster).unwrap();
        assert_eq!(bound["metadata"]["labels"], expected);
        let mut free = pod("p");
        Ask::create("", "pods").admit(&mut free, &cluster).unwrap();
        assert!(free["metadata"].get("labels").is_none());
    }
}
