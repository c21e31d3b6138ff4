//! Events of both groups.

use anyhow::{Result, ensure};
use client::Query;
use conformance::{Bed, holds, of};
use proto_kube::object::items;
use serde_json::{Value, json};

/// An event of a group.
fn event(bed: &Bed, plural: &str, name: &str) -> Value {
    let metadata = json!({"name": name, "labels": {"case": bed.namespace}});
    let about = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "namespace": bed.namespace});
    let time = "2026-01-01T00:00:00.000000Z";
    if plural == "events" {
        return json!({"metadata": metadata, "involvedObject": about, "reason": "Test", "message": "first", "type": "Normal",
            "source": {"component": "case"}, "firstTimestamp": "2026-01-01T00:00:00Z", "count": 1});
    }
    json!({"metadata": metadata, "regarding": about, "reason": "Test", "note": "first", "type": "Normal", "action": "Do",
        "reportingController": "example.com/case", "reportingInstance": "case-1", "eventTime": time})
}

/// The events of the case in all namespaces.
async fn everywhere(bed: &Bed, plural: &str) -> Result<Vec<Value>> {
    let query = Query::default().with("labelSelector", &format!("case={}", bed.namespace));
    let list = bed.client.list(of(plural), "", query).await?;
    Ok(items(&list, &["items"]).cloned().collect())
}

/// An event is made, patched, updated with a series and deleted. Of the newer group only the series may change: the
/// server keeps its note, which the text would have patched, as upstream's does.
async fn lifecycle(bed: Bed, plural: &str, patch: Value) -> Result<()> {
    bed.create(plural, event(&bed, plural, "e")).await?;
    ensure!(everywhere(&bed, plural).await?.len() == 1, "it is not listed");
    bed.patch(plural, "e", patch.clone()).await?;
    ensure!(holds(&bed.get(plural, "e").await?, &patch), "the patch is not kept");
    let series = series(100);
    bed.update(plural, "e", |event| event["series"] = series.clone()).await?;
    let read = bed.get(plural, "e").await?;
    ensure!(read["series"] == series, "{read:#}");
    bed.delete(plural, "e").await?;
    ensure!(everywhere(&bed, plural).await?.is_empty(), "it is still listed");
    bed.gone(plural, "e").await
}

fn series(count: u32) -> Value {
    json!({"count": count, "lastObservedTime": "2026-01-02T00:00:00.000000Z"})
}

pub(crate) async fn core_lifecycle(bed: Bed) -> Result<()> {
    lifecycle(bed, "events", json!({"message": "second"})).await
}

pub(crate) async fn newer_lifecycle(bed: Bed) -> Result<()> {
    lifecycle(bed, "events.events.k8s.io", json!({"series": series(2)})).await
}

pub(crate) async fn collection(bed: Bed, plural: &str) -> Result<()> {
    for name in ["e1", "e2", "e3"] {
        bed.create(plural, event(&bed, plural, name)).await?;
    }
    let selector = format!("case={}", bed.namespace);
    ensure!(bed.list(plural, &selector).await?.len() == 3, "not all are listed");
    bed.delete_all(plural, &selector).await?;
    ensure!(bed.list(plural, &selector).await?.is_empty(), "some are left");
    Ok(())
}
