//! Pods that give way to more important ones.

use anyhow::{Result, ensure};
use client::Query;
use conformance::{Bed, condition, holds, of, with_spec};
use proto_kube::object::{items, name, text};
use serde_json::{Value, json};

use crate::scheduling::{needs, offer};
use crate::workload::{has_ready, is_ready};

const CLASSES: &str = "priorityclasses";

/// Creates a priority class of the case; gives its name.
async fn class(bed: &Bed, value: i64) -> Result<String> {
    let name = format!("{}-{value}", bed.namespace);
    bed.create(
        CLASSES,
        json!({"metadata": {"name": name, "labels": {"case": bed.namespace}}, "value": value}),
    )
    .await?;
    Ok(name)
}

async fn no_classes(bed: &Bed) -> Result<()> {
    bed.delete_all(CLASSES, &format!("case={}", bed.namespace)).await
}

fn with_class(pod: Value, class: &str) -> Value {
    with_spec(pod, json!({"priorityClassName": class}))
}

/// Fills both nodes with a pod of low and one of middle importance; waits until the low one has given way to `above`.
async fn gives_way(bed: &Bed, above: impl AsyncFnOnce(&str) -> Result<Value>) -> Result<()> {
    let resource = offer(bed, &bed.list("nodes", "").await?, 5).await?;
    let (low, middle) = (class(bed, 1).await?, class(bed, 100).await?);
    bed.ready(with_class(needs("low", &resource, 4), &low)).await?;
    bed.ready(with_class(needs("middle", &resource, 4), &middle)).await?;
    let above = above(&resource).await?;
    bed.until("pods", name(&above), is_ready).await?;
    bed.gone("pods", "low").await?;
    ensure!(is_ready(&bed.get("pods", "middle").await?), "the other one had to go");
    no_classes(bed).await
}

pub(crate) async fn basic(bed: Bed) -> Result<()> {
    let above = async |resource: &str| {
        let high = class(&bed, 1000).await?;
        bed.create("pods", with_class(needs("high", resource, 4), &high)).await
    };
    gives_way(&bed, above).await
}

pub(crate) async fn critical(bed: Bed) -> Result<()> {
    let above = async |resource: &str| {
        bed.create("pods", with_class(needs("critical", resource, 4), "system-cluster-critical")).await
    };
    gives_way(&bed, above).await
}

pub(crate) async fn condition_added(bed: Bed) -> Result<()> {
    let nodes = bed.list("nodes", "").await?;
    let resource = offer(&bed, &nodes[..1], 1).await?;
    let (low, high) = (class(&bed, 1).await?, class(&bed, 1000).await?);
    let mut victim = with_class(needs("victim", &resource, 1), &low);
    victim["metadata"]["finalizers"] = json!(["example.com/case"]);
    let victim = bed.ready(victim).await?;
    bed.create("pods", with_class(needs("preemptor", &resource, 1), &high)).await?;
    let victim = bed.until("pods", name(&victim), |pod| condition(pod, "DisruptionTarget") == "True").await?;
    let reason =
        json!({"status": {"conditions": [{"type": "DisruptionTarget", "reason": "PreemptionByScheduler"}]}});
    ensure!(holds(&victim, &reason), "{victim:#}");
    bed.patch("pods", name(&victim), json!({"metadata": {"finalizers": null}})).await?;
    bed.gone("pods", name(&victim)).await?;
    bed.until("pods", "preemptor", is_ready).await?;
    no_classes(&bed).await
}

/// Four sets on one node, each more important than the one before; the last takes the room of the first.
pub(crate) async fn execution_path(bed: Bed) -> Result<()> {
    let nodes = bed.list("nodes", "").await?;
    let resource = offer(&bed, &nodes[..1], 10).await?;
    for (level, (replicas, amount)) in [(1, 2), (1, 3), (1, 4), (1, 2)].into_iter().enumerate() {
        let (app, priority) = (format!("level-{level}"), class(&bed, 1 + i64::try_from(level)?).await?);
        let template = json!({"metadata": {"labels": {"app": app}},
            "spec": with_spec(with_class(needs("", &resource, amount), &priority), json!({"restartPolicy": "Always"}))["spec"]});
        bed.create("replicasets", crate::workload::of_template("replicasets", &app, replicas, template))
            .await?;
        bed.until("replicasets", &app, |set| has_ready(set, 1)).await?;
    }
    // The first has made another pod, for which there is no room.
    let waits = |pods: &[Value]| pods.len() == 1 && condition(&pods[0], "PodScheduled") == "False";
    bed.until_all("pods", "app=level-0", waits).await?;
    for level in 1..4 {
        bed.until("replicasets", &format!("level-{level}"), |set| has_ready(set, 1)).await?;
    }
    let all = bed.list("pods", "").await?;
    ensure!(all.len() == 4, "{all:#?}");
    no_classes(&bed).await
}

pub(crate) async fn classes(bed: Bed) -> Result<()> {
    let (one, two) = (class(&bed, 1).await?, class(&bed, 2).await?);
    let mine = Query::default().with("labelSelector", &format!("case={}", bed.namespace));
    let all = bed.client.list(of(CLASSES), "", mine).await?;
    ensure!(items(&all, &["items"]).count() == 2, "{all:#}");
    let whole = bed.client.list(of(CLASSES), "", Query::default()).await?;
    ensure!(items(&whole, &["items"]).any(|class| name(class) == "system-node-critical"), "{whole:#}");
    let patched = bed.patch(CLASSES, &one, json!({"description": "patched"})).await?;
    ensure!(text(&patched, &["description"]) == "patched", "{patched:#}");
    let updated = bed.update(CLASSES, &two, |class| class["description"] = "updated".into()).await?;
    ensure!(text(&updated, &["description"]) == "updated", "{updated:#}");
    ensure!(bed.patch(CLASSES, &one, json!({"value": 3})).await.is_err(), "the value was patched");
    let mut other = bed.get(CLASSES, &two).await?;
    other["value"] = 3.into();
    let refused = bed.client.update(of(CLASSES), None, &other, Query::default()).await;
    ensure!(refused.as_ref().is_err_and(|error| error.code() == Some(422)), "{refused:?}");
    ensure!(bed.get(CLASSES, &two).await?["value"] == 2, "the value was updated");
    no_classes(&bed).await
}
