//! What one does with pods.

use anyhow::{Context, Result, ensure};
use client::Query;
use conformance::{Bed, FOREVER, holds, of, pod, seen, with, with_container, with_spec};
use http::Method;
use proto_kube::object::{is_terminating, label, name, text};
use serde_json::{Value, json};

/// A pod that stays, with a label.
fn labelled() -> Value {
    with(pod("p", FOREVER), "/metadata", json!({"labels": {"time": "one"}}))
}

pub(crate) async fn submitted_and_removed(bed: Bed) -> Result<()> {
    let before = bed.client.list(of("pods"), &bed.namespace, Query::default()).await?;
    let mut watch = bed.watch("pods", "time=one", text(&before, &["metadata", "resourceVersion"])).await?;
    bed.create("pods", with_spec(labelled(), json!({"terminationGracePeriodSeconds": 30}))).await?;
    ensure!(bed.list("pods", "time=one").await?.len() == 1, "the pod is not found by its label");
    seen(&mut watch, "ADDED", |pod| name(pod) == "p").await?;
    seen(&mut watch, "MODIFIED", |pod| pod["status"]["phase"] == "Running").await?;
    bed.delete("pods", "p").await?;
    seen(&mut watch, "MODIFIED", is_terminating).await?;
    let last = seen(&mut watch, "DELETED", |pod| name(pod) == "p").await?;
    ensure!(is_terminating(&last), "{last:#}");
    ensure!(bed.list("pods", "time=one").await?.is_empty(), "the pod is still found");
    Ok(())
}

pub(crate) async fn updated(bed: Bed) -> Result<()> {
    bed.ready(labelled()).await?;
    ensure!(bed.list("pods", "time=one").await?.len() == 1, "the pod is not found by its label");
    bed.update("pods", "p", |pod| pod["metadata"]["labels"]["time"] = "two".into()).await?;
    ensure!(bed.list("pods", "time=two").await?.len() == 1, "the pod is not found by its new label");
    Ok(())
}

pub(crate) async fn deadline_updated(bed: Bed) -> Result<()> {
    bed.ready(labelled()).await?;
    ensure!(bed.list("pods", "time=one").await?.len() == 1, "the pod is not found by its label");
    bed.update("pods", "p", |pod| pod["spec"]["activeDeadlineSeconds"] = 3.into()).await?;
    let pod = bed.until("pods", "p", |pod| pod["status"]["phase"] == "Failed").await?;
    ensure!(pod["status"]["reason"] == "DeadlineExceeded", "{:#}", pod["status"]);
    Ok(())
}

pub(crate) async fn host_ip(bed: Bed) -> Result<()> {
    let pod = bed.ready(labelled()).await?;
    let ip = text(&pod, &["status", "hostIP"]);
    let node = bed.get("nodes", text(&pod, &["spec", "nodeName"])).await?;
    let own = proto_kube::object::items(&node, &["status", "addresses"]).any(|a| a["address"] == ip);
    ensure!(
        ip.parse::<std::net::IpAddr>().is_ok() && own,
        "{ip} is none of {:#}",
        node["status"]["addresses"]
    );
    Ok(())
}

pub(crate) async fn status_patched(bed: Bed) -> Result<()> {
    bed.ready(labelled()).await?;
    // A condition is of nobody's but ours; the rest of a status is the kubelet's, who writes it again.
    let patch = json!({"status": {"conditions": [{"type": "example.com/Patched", "status": "True"}]}});
    bed.patch_as("pods", "p/status", (client::Patch::Strategic, patch)).await?;
    let pod = bed.get("pods", "p").await?;
    ensure!(conformance::condition(&pod, "example.com/Patched") == "True", "{:#}", pod["status"]);
    ensure!(conformance::condition(&pod, "Ready") == "True", "{:#}", pod["status"]);
    Ok(())
}

pub(crate) async fn lifecycle(bed: Bed) -> Result<()> {
    bed.ready(labelled()).await?;
    let patch = json!({
        "metadata": {"labels": {"time": "patched"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1.22"}]},
    });
    bed.patch_as("pods", "p", (client::Patch::Strategic, patch)).await?;
    let image =
        |pod: &Value| text(&pod["status"]["containerStatuses"][0], &["image"]).ends_with("nginx:1.22");
    let pod = bed.until("pods", "p", image).await?;
    ensure!(label(&pod, "time") == Some("patched"), "{:#}", pod["metadata"]);
    let path = of("pods").path(&bed.namespace, "p") + "/status";
    ensure!(name(&bed.client.call(Method::GET, &path, None).await?) == "p", "no status");
    let condition = json!({"type": "example.com/Replaced", "status": "False", "reason": "Said"});
    let add = |pod: &mut Value| {
        pod["status"]["conditions"].as_array_mut().map(|all| all.push(condition.clone())).unwrap_or_default();
    };
    bed.update_status("pods", "p", add).await?;
    let pod = bed.get("pods", "p").await?;
    let kept = proto_kube::object::items(&pod, &["status", "conditions"]).any(|c| holds(c, &condition));
    ensure!(kept, "{:#}", pod["status"]);
    bed.delete_all("pods", "time=patched").await?;
    bed.gone("pods", "p").await
}

pub(crate) async fn qos_class(bed: Bed) -> Result<()> {
    let amounts = json!({"cpu": "10m", "memory": "16Mi"});
    let resources = json!({"resources": {"requests": amounts, "limits": amounts}});
    let pod = bed.create("pods", with_container(labelled(), resources)).await?;
    ensure!(text(&pod, &["status", "qosClass"]) == "Guaranteed", "{:#}", pod["status"]);
    Ok(())
}

/// The generation that the kubelet has seen last, and that of the pod.
fn generations(pod: &Value) -> (i64, i64) {
    let of = |part: &str, field: &str| pod[part][field].as_i64().unwrap_or(0);
    (of("metadata", "generation"), of("status", "observedGeneration"))
}

async fn converge(bed: &Bed, on: i64) -> Result<()> {
    let pod = bed.until("pods", "p", |pod| generations(pod).1 >= on).await?;
    ensure!(generations(&pod) == (on, on), "{:?} instead of {on}", generations(&pod));
    Ok(())
}

pub(crate) async fn generation_grows(bed: Bed) -> Result<()> {
    let pod = bed.create("pods", labelled()).await?;
    ensure!(generations(&pod).0 == 1, "it starts at {}", generations(&pod).0);
    converge(&bed, 1).await?;
    let toleration =
        json!([{"op": "add", "path": "/spec/tolerations/-", "value": {"key": "k", "operator": "Exists"}}]);
    bed.patch_as("pods", "p", (client::Patch::Json, toleration)).await?;
    converge(&bed, 2).await?;
    bed.update("pods", "p", |pod| pod["spec"]["activeDeadlineSeconds"] = 5000.into()).await?;
    converge(&bed, 3).await?;
    bed.update("pods", "p", |pod| pod["spec"]["containers"][0]["image"] = "nginx:1.22".into()).await?;
    converge(&bed, 4).await?;
    // What is no change of the spec does not count.
    bed.update("pods", "p", |pod| pod["metadata"]["labels"]["time"] = "two".into()).await?;
    converge(&bed, 4).await
}

pub(crate) async fn generation_converges(bed: Bed) -> Result<()> {
    bed.ready(labelled()).await?;
    for seconds in (5001..5500).rev() {
        bed.patch("pods", "p", json!({"spec": {"activeDeadlineSeconds": seconds}})).await?;
    }
    converge(&bed, 500).await
}

pub(crate) async fn generation_of_deletion(bed: Bed) -> Result<()> {
    let pod = with(labelled(), "/metadata", json!({"generation": 100, "finalizers": ["example.com/stay"]}));
    bed.create("pods", with_spec(pod, json!({"terminationGracePeriodSeconds": 30}))).await?;
    let pod = bed.until("pods", "p", |pod| conformance::condition(pod, "Ready") == "True").await?;
    ensure!(generations(&pod).0 == 1, "the custom generation {} was kept", generations(&pod).0);
    bed.delete("pods", "p").await?;
    let pod = bed.get("pods", "p").await?;
    ensure!(is_terminating(&pod) && generations(&pod).0 == 2, "{:#}", pod["metadata"]);
    bed.patch("pods", "p", json!({"metadata": {"finalizers": null}})).await?;
    bed.gone("pods", "p").await.context("after its finalizer went")
}
