//! A deployment becomes pods on nodes.

use std::collections::BTreeSet;

use proto_kube::object::{self, text};
use serde_json::json;

use crate::cluster::{Cluster, deployment, of};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_spread_over_the_nodes() {
    let cluster = Cluster::start().await;
    let control = cluster.control("one", false);
    for name in ["a", "b", "c"] {
        cluster.node(name, "8", json!({})).await;
    }
    cluster.create("deployments", "default", deployment("web", 30, "100m")).await;
    let nodes = cluster.bound(30).await;
    assert_eq!(nodes.values().collect::<BTreeSet<_>>(), BTreeSet::from([&10]), "{nodes:?}");
    let events = cluster
        .until_all("events", |all| all.iter().filter(|e| text(e, &["reason"]) == "Scheduled").count() == 30);
    assert!(
        events.await.iter().any(|e| text(e, &["message"]).starts_with("Successfully assigned default/web-"))
    );
    assert!(control.metrics.text().contains("scheduler_schedule_attempts_total{result=\"scheduled\"} 30"));
    control.end().await;
    assert_eq!(cluster.list("pods").await.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_pods_at_once_are_three_hundred() {
    let cluster = Cluster::start().await;
    let control = cluster.control("one", false);
    for n in 0..6 {
        cluster.node(&format!("node-{n}"), "64", json!({})).await;
    }
    cluster.create("deployments", "default", deployment("web", 300, "10m")).await;
    let nodes = cluster.bound(300).await;
    assert_eq!(nodes.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([50]), "{nodes:?}");
    cluster.patch("deployments", "default", "web", None, &json!({"spec": {"replicas": 0}})).await;
    let leaving = |pods: &[serde_json::Value]| pods.iter().all(object::is_terminating);
    let pods = cluster.until_all("pods", leaving).await;
    assert_eq!(pods.len(), 300, "nodes that are only objects end no pods");
    let options = json!({"gracePeriodSeconds": 0});
    for pod in pods {
        cluster.admin.delete(of("pods"), "default", object::name(&pod), &options).await.unwrap();
    }
    cluster.until_all("pods", <[_]>::is_empty).await;
    control.end().await;
}
