//! Where pods go, and what is told of those that go nowhere.

use proto_kube::object::{items, text};
use serde_json::{Value, json};

use crate::cluster::{Cluster, node_of, pod};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fits_nowhere_waits_for_what_helps() {
    let cluster = Cluster::start().await;
    let control = cluster.control("one", false);
    cluster.create("pods", "default", pod("p", "4")).await;
    cluster.refused("p", |why| why == "no nodes available to schedule pods").await;
    cluster.node("small", "1", json!({})).await;
    cluster.refused("p", |why| why.starts_with("0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")).await;
    cluster.node("large", "8", json!({})).await;
    let placed = cluster.until("pods", "default", "p", |pod| !node_of(pod).is_empty()).await;
    assert_eq!(node_of(&placed), "large");
    let said = |all: &[Value]| all.iter().any(|e| text(e, &["reason"]) == "FailedScheduling");
    cluster.until_all("events", said).await;
    control.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_keeps_a_pod_back() {
    let cluster = Cluster::start().await;
    let control = cluster.control("one", false);
    cluster.node("a", "8", json!({})).await;
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    cluster.create("pods", "default", gated).await;
    cluster.create("pods", "default", pod("free", "1")).await;
    cluster.bound(1).await;
    let waiting = cluster.until("pods", "default", "gated", |_| true).await;
    assert_eq!(node_of(&waiting), "");
    let condition = items(&waiting, &["status", "conditions"]).find(|c| c["type"] == "PodScheduled");
    assert_eq!(condition.map(|c| text(c, &["reason"])), Some("SchedulingGated"));
    cluster.patch("pods", "default", "gated", None, &json!({"spec": {"schedulingGates": []}})).await;
    cluster.bound(2).await;
    control.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_important_makes_room_for_itself() {
    let cluster = Cluster::start().await;
    let control = cluster.control("one", false);
    cluster.node("a", "2", json!({})).await;
    cluster.create("priorityclasses", "", json!({"metadata": {"name": "high"}, "value": 1000})).await;
    cluster.create("pods", "default", pod("low", "1500m")).await;
    cluster.bound(1).await;
    let mut high = pod("high", "1");
    high["spec"]["priorityClassName"] = "high".into();
    cluster.create("pods", "default", high).await;
    let victim = cluster.until("pods", "default", "low", proto_kube::object::is_terminating).await;
    let told = items(&victim, &["status", "conditions"]).find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!(told["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    cluster.until("pods", "default", "high", |pod| pod["status"]["nominatedNodeName"] == "a").await;
    // Its node lets it go.
    let options = json!({"gracePeriodSeconds": 0});
    cluster.admin.delete(crate::cluster::of("pods"), "default", "low", &options).await.unwrap();
    cluster.until("pods", "default", "high", |pod| node_of(pod) == "a").await;
    control.end().await;
}
