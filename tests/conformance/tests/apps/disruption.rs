//! PodDisruptionBudgets and evictions.

use anyhow::{Result, ensure};
use bytes::Bytes;
use client::{ClientError, Query};
use conformance::{Bed, FOREVER, holds, of, pod};
use http::Method;
use proto_kube::object::items;
use serde_json::{Value, json};

use crate::workload::{is_observed, ready_pods, running, workload};

const BUDGETS: &str = "poddisruptionbudgets";

fn budget(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "kept"}});
    json!({"metadata": {"name": name, "labels": {"set": "case"}}, "spec": spec})
}

/// Asks for the eviction of a pod.
pub(crate) async fn evict(bed: &Bed, pod: &str) -> Result<Value, ClientError> {
    let path = of("pods").path(&bed.namespace, pod) + "/eviction";
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": bed.namespace}});
    bed.client.call(Method::POST, &path, Some(("application/json", Bytes::from(eviction.to_string())))).await
}

/// Waits until so many of the pods may go.
async fn allowed(bed: &Bed, count: u32) -> Result<()> {
    let told = |budget: &Value| is_observed(budget) && budget["status"]["disruptionsAllowed"] == count;
    bed.until(BUDGETS, "budget", told).await.map(drop)
}

/// Creates three pods and waits for them.
async fn kept(bed: &Bed) -> Result<()> {
    running(bed, "replicasets", workload("replicasets", "kept", 3)).await?;
    ready_pods(bed, "kept", 3).await.map(drop)
}

pub(crate) async fn collection(bed: Bed) -> Result<()> {
    let other = Bed { namespace: format!("{}-other", bed.namespace), ..bed.clone() };
    bed.create("namespaces", json!({"metadata": {"name": other.namespace}})).await?;
    for (bed, name) in [(&bed, "one"), (&bed, "two"), (&other, "three")] {
        bed.create(BUDGETS, budget(name, json!({"minAvailable": 1}))).await?;
    }
    let all = bed.client.list(of(BUDGETS), "", Query::default().with("labelSelector", "set=case")).await?;
    let here = |budget: &&Value| {
        budget["metadata"]["namespace"] == bed.namespace || budget["metadata"]["namespace"] == other.namespace
    };
    ensure!(items(&all, &["items"]).filter(here).count() == 3, "{all:#}");
    ensure!(bed.list(BUDGETS, "set=case").await?.len() == 2, "others are listed too");
    bed.delete_all(BUDGETS, "set=case").await?;
    bed.until_all(BUDGETS, "", <[Value]>::is_empty).await?;
    ensure!(other.list(BUDGETS, "").await?.len() == 1, "it is gone from another namespace");
    bed.delete("namespaces", &other.namespace).await
}

pub(crate) async fn blocked(bed: Bed) -> Result<()> {
    kept(&bed).await?;
    bed.create(BUDGETS, budget("budget", json!({"minAvailable": 3}))).await?;
    allowed(&bed, 0).await?;
    let pods = bed.list("pods", "app=kept").await?;
    let victim = proto_kube::object::name(&pods[0]);
    let refused = evict(&bed, victim).await;
    ensure!(refused.as_ref().is_err_and(|error| error.code() == Some(429)), "{refused:?}");
    bed.patch(BUDGETS, "budget", json!({"spec": {"minAvailable": 2}})).await?;
    allowed(&bed, 1).await?;
    evict(&bed, victim).await?;
    bed.gone("pods", victim).await?;
    // Its successor stands in for it.
    allowed(&bed, 1).await
}

pub(crate) async fn operations(bed: Bed) -> Result<()> {
    bed.create(BUDGETS, budget("budget", json!({"minAvailable": 1}))).await?;
    bed.until(BUDGETS, "budget", is_observed).await?;
    let updated =
        bed.update(BUDGETS, "budget", |budget| budget["spec"]["minAvailable"] = "50%".into()).await?;
    ensure!(updated["spec"]["minAvailable"] == "50%", "{updated:#}");
    bed.until(BUDGETS, "budget", is_observed).await?;
    let patched = bed.patch(BUDGETS, "budget", json!({"spec": {"minAvailable": 3}})).await?;
    ensure!(patched["spec"]["minAvailable"] == 3, "{patched:#}");
    bed.until(BUDGETS, "budget", is_observed).await?;
    bed.delete(BUDGETS, "budget").await?;
    bed.gone(BUDGETS, "budget").await
}

pub(crate) async fn observed(bed: Bed) -> Result<()> {
    bed.create(BUDGETS, budget("budget", json!({"minAvailable": 1}))).await?;
    allowed(&bed, 0).await?;
    kept(&bed).await?;
    allowed(&bed, 2).await?;
    let budget = bed.get(BUDGETS, "budget").await?;
    let status = json!({"status": {"currentHealthy": 3, "desiredHealthy": 1, "expectedPods": 3}});
    ensure!(holds(&budget, &status), "{budget:#}");
    Ok(())
}

pub(crate) async fn status(bed: Bed) -> Result<()> {
    let mut chosen = pod("kept", FOREVER);
    chosen["metadata"]["labels"]["app"] = "kept".into();
    bed.ready(chosen).await?;
    bed.create(BUDGETS, budget("budget", json!({"minAvailable": 1}))).await?;
    bed.until(BUDGETS, "budget", is_observed).await?;
    let now = proto_kube::object::text(&bed.get("pods", "kept").await?, &["metadata", "creationTimestamp"])
        .to_owned();
    let disrupted = json!({"status": {"disruptedPods": {"kept": now}}});
    let change =
        |budget: &mut Value| budget["status"]["disruptedPods"] = disrupted["status"]["disruptedPods"].clone();
    let updated = bed.update_status(BUDGETS, "budget", change).await?;
    ensure!(holds(&updated, &disrupted), "{updated:#}");
    let cleared =
        bed.patch(BUDGETS, "budget/status", json!({"status": {"disruptedPods": {"kept": null}}})).await?;
    ensure!(!holds(&cleared, &disrupted), "{cleared:#}");
    let patched = bed.patch(BUDGETS, "budget/status", disrupted.clone()).await?;
    ensure!(holds(&patched, &disrupted), "{patched:#}");
    Ok(())
}
