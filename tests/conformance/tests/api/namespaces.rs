//! The life of a namespace, and what goes with it.

use anyhow::{Result, ensure};
use client::Query;
use conformance::{Bed, FOREVER, condition, holds, of, pod};
use http::Method;
use proto_kube::object::{is_terminating, items, text};
use serde_json::{Value, json};

/// Another namespace, made here; the case's hands in it.
async fn another(bed: &Bed) -> Result<Bed> {
    let other = Bed { namespace: format!("{}-other", bed.namespace), ..bed.clone() };
    bed.create("namespaces", json!({"metadata": {"name": other.namespace}})).await?;
    bed.eventually("its account", || async { other.get("serviceaccounts", "default").await }).await?;
    Ok(other)
}

/// Deletes the namespace, waits until it is gone, and makes it anew.
async fn anew(bed: &Bed, other: &Bed) -> Result<()> {
    bed.delete("namespaces", &other.namespace).await?;
    bed.gone("namespaces", &other.namespace).await?;
    another(bed).await.map(drop)
}

pub(crate) async fn takes_pods(bed: Bed) -> Result<()> {
    let other = another(&bed).await?;
    other.ready(pod("p", FOREVER)).await?;
    anew(&bed, &other).await?;
    ensure!(other.list("pods", "").await?.is_empty(), "a pod is left");
    bed.delete("namespaces", &other.namespace).await
}

pub(crate) async fn takes_services(bed: Bed) -> Result<()> {
    let other = another(&bed).await?;
    other.create("services", json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await?;
    anew(&bed, &other).await?;
    ensure!(other.list("services", "").await?.is_empty(), "a service is left");
    bed.delete("namespaces", &other.namespace).await
}

pub(crate) async fn pods_first(bed: Bed) -> Result<()> {
    let other = another(&bed).await?;
    let mut pod = pod("p", FOREVER);
    pod["metadata"]["finalizers"] = json!(["example.com/held"]);
    other.create("pods", pod).await?;
    other.create("configmaps", json!({"metadata": {"name": "c"}})).await?;
    bed.delete("namespaces", &other.namespace).await?;
    other.until("pods", "p", is_terminating).await?;
    // Said after a whole round of deletion.
    let waits = |ns: &Value| condition(ns, "NamespaceFinalizersRemaining") == "True";
    bed.until("namespaces", &other.namespace, waits).await?;
    let kept = other.get("configmaps", "c").await?;
    ensure!(!is_terminating(&kept), "{kept:#}");
    other.patch("pods", "p", json!({"metadata": {"finalizers": null}})).await?;
    bed.gone("namespaces", &other.namespace).await
}

pub(crate) async fn patched(bed: Bed) -> Result<()> {
    bed.patch("namespaces", &bed.namespace, json!({"metadata": {"labels": {"testLabel": "testValue"}}}))
        .await?;
    let read = bed.get("namespaces", &bed.namespace).await?;
    ensure!(read["metadata"]["labels"]["testLabel"] == "testValue", "{read:#}");
    Ok(())
}

pub(crate) async fn updated(bed: Bed) -> Result<()> {
    let change = |ns: &mut Value| ns["metadata"]["labels"]["updated"] = "yes".into();
    let updated = bed.update("namespaces", &bed.namespace, change).await?;
    ensure!(updated["metadata"]["labels"]["updated"] == "yes", "{updated:#}");
    Ok(())
}

pub(crate) async fn status(bed: Bed) -> Result<()> {
    let path = of("namespaces").path("", &bed.namespace) + "/status";
    let read = bed.client.call(Method::GET, &path, None).await?;
    ensure!(text(&read, &["status", "phase"]) == "Active", "{read:#}");
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "reason": "E2E", "message": "Set by a case"});
    let patch = json!({"metadata": {"annotations": {"patched": "true"}},
        "status": {"conditions": [condition("StatusPatch")]}});
    let patched = bed.patch("namespaces", &format!("{}/status", bed.namespace), patch.clone()).await?;
    ensure!(holds(&patched, &patch), "{patched:#}");
    let both = json!([condition("StatusPatch"), condition("StatusUpdate")]);
    let change = |ns: &mut Value| {
        if let Some(conditions) = ns["status"]["conditions"].as_array_mut() {
            conditions.push(condition("StatusUpdate"));
        }
    };
    let updated = bed.update_status("namespaces", &bed.namespace, change).await?;
    ensure!(holds(&updated["status"]["conditions"], &both), "{updated:#}");
    Ok(())
}

/// Replaces the finalizers of a namespace's spec.
async fn finalize(bed: &Bed, finalizers: Value) -> Result<Value> {
    let mut namespace = bed.get("namespaces", &bed.namespace).await?;
    namespace["spec"]["finalizers"] = finalizers;
    Ok(bed.client.update(of("namespaces"), Some("finalize"), &namespace, Query::default()).await?)
}

pub(crate) async fn finalizer(bed: Bed) -> Result<()> {
    let has = |ns: &Value| items(ns, &["spec", "finalizers"]).any(|f| f == "example.com/fake");
    let other = another(&bed).await?;
    ensure!(has(&finalize(&other, json!(["kubernetes", "example.com/fake"])).await?), "it is not kept");
    let read = bed.get("namespaces", &other.namespace).await?;
    ensure!(has(&read), "{read:#}");
    ensure!(!has(&finalize(&other, json!(["kubernetes"])).await?), "it is not removed");
    bed.delete("namespaces", &other.namespace).await?;
    bed.gone("namespaces", &other.namespace).await
}
