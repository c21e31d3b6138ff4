//! Where pods go.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, allocatable, condition, pod, with_container, with_spec};
use proto_kube::object::{name, text};
use serde_json::{Value, json};

/// Gives nodes so many of a resource that only this case asks for; gives its name.
pub(crate) async fn offer(bed: &Bed, nodes: &[Value], amount: u32) -> Result<String> {
    let resource = format!("example.com/{}", bed.namespace);
    for node in nodes {
        let amounts = json!({"status": {"capacity": {&resource: amount.to_string()},
            "allocatable": {&resource: amount.to_string()}}});
        bed.patch("nodes", &format!("{}/status", name(node)), amounts).await?;
    }
    Ok(resource)
}

/// A pod that runs until it is told to end and needs so many of a resource.
pub(crate) fn needs(name: &str, resource: &str, amount: i64) -> Value {
    let amounts = json!({resource: amount.to_string()});
    with_container(pod(name, FOREVER), json!({"resources": {"requests": amounts, "limits": amounts}}))
}

/// Creates a pod that fits nowhere, and waits until the scheduler has said so.
async fn unschedulable(bed: &Bed, pod: Value) -> Result<()> {
    let pod = bed.create("pods", pod).await?;
    let pod = bed.until("pods", name(&pod), |pod| condition(pod, "PodScheduled") == "False").await?;
    ensure!(text(&pod, &["spec", "nodeName"]).is_empty(), "{pod:#}");
    let told = |event: &Value| {
        text(event, &["reason"]) == "FailedScheduling"
            && text(event, &["involvedObject", "name"]) == name(&pod)
    };
    bed.until_all("events", "", |events| events.iter().any(told)).await.map(drop)
}

pub(crate) async fn limits(bed: Bed) -> Result<()> {
    let nodes = bed.list("nodes", "").await?;
    let resource = offer(&bed, &nodes, 10).await?;
    for number in 0..nodes.len() {
        bed.ready(needs(&format!("filler-{number}"), &resource, 7)).await?;
    }
    unschedulable(&bed, needs("more", &resource, 5)).await?;
    let most = nodes.iter().map(|node| allocatable(node).0).max().unwrap_or_default();
    unschedulable(&bed, needs("huge", "cpu", most + 1)).await?;
    bed.delete("pods", "filler-0").await?;
    bed.until("pods", "more", |pod| condition(pod, "Ready") == "True").await?;
    Ok(())
}

pub(crate) async fn selected(bed: Bed) -> Result<()> {
    let key = format!("example.com/{}", bed.namespace);
    let nodes = bed.list("nodes", "").await?;
    for node in &nodes {
        bed.patch("nodes", name(node), json!({"metadata": {"labels": {&key: "42"}}})).await?;
        let chosen = json!({"nodeSelector": {&key: "42"}});
        let pod = bed.ready(with_spec(pod(&format!("on-{}", name(node)), FOREVER), chosen)).await?;
        ensure!(text(&pod, &["spec", "nodeName"]) == name(node), "{pod:#}");
        bed.patch("nodes", name(node), json!({"metadata": {"labels": {&key: null}}})).await?;
    }
    Ok(())
}

pub(crate) async fn not_selected(bed: Bed) -> Result<()> {
    unschedulable(&bed, with_spec(pod("nowhere", FOREVER), json!({"nodeSelector": {"label": "nonempty"}})))
        .await
}

pub(crate) async fn port_conflict(bed: Bed) -> Result<()> {
    let nodes = bed.list("nodes", "").await?;
    let key = "kubernetes.io/hostname";
    let here = json!({"nodeSelector": {key: nodes[0]["metadata"]["labels"][key]}});
    let with_port = |name: &str, address: &str| {
        let port = json!({"containerPort": 80, "hostPort": 21018, "protocol": "TCP", "hostIP": address});
        with_spec(with_container(pod(name, FOREVER), json!({"ports": [port]})), here.clone())
    };
    bed.ready(with_port("all", "0.0.0.0")).await?;
    unschedulable(&bed, with_port("one", "127.0.0.1")).await
}

pub(crate) async fn two_nodes(bed: Bed) -> Result<()> {
    let nodes = bed.list("nodes", "").await?;
    let fit = |node: &&Value| {
        let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
        condition(node, "Ready") == "True" && taints == 0 && node["spec"]["unschedulable"] != true
    };
    ensure!(nodes.iter().filter(fit).count() >= 2, "{nodes:#?}");
    Ok(())
}
