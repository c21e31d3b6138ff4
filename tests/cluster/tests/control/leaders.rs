//! Of several processes one leads.

use proto_kube::object::text;
use serde_json::{Value, json};

use crate::cluster::{Cluster, deployment};

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_next_takes_over() {
    let cluster = Cluster::start().await;
    let first = cluster.control("first", true);
    for lease in ["kube-controller-manager", "kube-scheduler"] {
        let held = |lease: &Value| text(lease, &["spec", "holderIdentity"]) == "first";
        cluster.until("leases", "kube-system", lease, held).await;
    }
    let second = cluster.control("second", true);
    cluster.node("a", "64", json!({})).await;
    cluster.create("deployments", "default", deployment("web", 20, "10m")).await;
    cluster.bound(20).await;
    assert!(!second.metrics.text().contains("workqueue"), "{}", second.metrics.text());
    first.end().await;
    for lease in ["kube-controller-manager", "kube-scheduler"] {
        let held = |lease: &Value| text(lease, &["spec", "holderIdentity"]) == "second";
        let lease = cluster.until("leases", "kube-system", lease, held).await;
        assert_eq!(lease["spec"]["leaseTransitions"], 1);
    }
    cluster.patch("deployments", "default", "web", None, &json!({"spec": {"replicas": 40}})).await;
    cluster.bound(40).await;
    assert_eq!(cluster.list("pods").await.len(), 40);
    second.end().await;
}
