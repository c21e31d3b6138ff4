//! Nodes: their ranges, and pods of those that are gone.

use serde_json::json;

use crate::plane::{Plane, until};

#[tokio::test]
async fn each_node_gets_a_range_of_its_own() {
    let mut plane = Plane::start().await;
    for name in ["a", "b", "c"] {
        plane.node(name, true).await;
    }
    let ranges = until("all have one", || async {
        let nodes = plane.list(("", "nodes"), "").await;
        nodes.iter().map(|n| Some(n["spec"]["podCIDR"].as_str()?.to_owned())).collect::<Option<Vec<_>>>()
    })
    .await;
    let mut once = ranges.clone();
    once.sort();
    once.dedup();
    assert_eq!(once, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]);
    until("what is not ready is no longer said of them", || async {
        let nodes = plane.list(("", "nodes"), "").await;
        nodes.iter().all(|n| n["spec"]["taints"].is_null()).then_some(())
    })
    .await;
    plane.patch(("", "nodes"), ("", "a"), None, json!({"spec": {"unschedulable": true}})).await;
    until("a taint", || async {
        let node = plane.get(("", "nodes"), "", "a").await?;
        (node["spec"]["taints"][0]["key"] == "node.kubernetes.io/unschedulable").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_taint_drives_pods_away() {
    let mut plane = Plane::start().await;
    plane.node("n", true).await;
    plane.pod("default", "p", "n", "10.244.0.1").await;
    let taints = json!([{"key": "example.com/away", "effect": "NoExecute"}]);
    plane.patch(("", "nodes"), ("", "n"), None, json!({"spec": {"taints": taints}})).await;
    until("its end", || async { plane.get(("", "pods"), "default", "p").await.is_none().then_some(()) })
        .await;
    until("that people are told", || async {
        let events = plane.list(("", "events"), "default").await;
        events.iter().any(|e| e["reason"] == "TaintManagerEviction").then_some(())
    })
    .await;
}
