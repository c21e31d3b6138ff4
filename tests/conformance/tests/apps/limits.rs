//! LimitRanges.

use anyhow::{Result, ensure};
use client::Query;
use conformance::{Bed, FOREVER, holds, of, pod, seen, with_container};
use proto_kube::object::{items, name};
use serde_json::{Value, json};

const RANGES: &str = "limitranges";

/// A range of a container's resources: the least, the most, and what one gets that says nothing.
fn range(name: &str, min: &str, max: &str) -> Value {
    let limit = json!({"type": "Container", "min": {"cpu": min, "memory": "16Mi"},
        "max": {"cpu": max, "memory": "500Mi"}, "defaultRequest": {"cpu": "100m", "memory": "64Mi"},
        "default": {"cpu": "400m", "memory": "400Mi"}});
    json!({"metadata": {"name": name, "labels": {"set": "case"}}, "spec": {"limits": [limit]}})
}

fn resources(requests: Value, limits: Value) -> Value {
    json!({"resources": {"requests": requests, "limits": limits}})
}

/// The resources of the first container are these.
fn has(pod: &Value, wanted: &Value) -> Result<()> {
    let container = &pod["spec"]["containers"][0];
    ensure!(holds(container, wanted), "{container:#} instead of {wanted:#}");
    Ok(())
}

pub(crate) async fn defaults(bed: Bed) -> Result<()> {
    let mut watch = bed.watch(RANGES, "", "").await?;
    bed.create(RANGES, range("range", "50m", "500m")).await?;
    let wanted = range("range", "50m", "500m")["spec"].clone();
    seen(&mut watch, "ADDED", |range| holds(&range["spec"], &wanted)).await?;
    let read = bed.get(RANGES, "range").await?;
    ensure!(holds(&read["spec"], &wanted), "{read:#}");

    let defaults =
        resources(json!({"cpu": "100m", "memory": "64Mi"}), json!({"cpu": "400m", "memory": "400Mi"}));
    let made = bed.create("pods", pod("silent", FOREVER)).await?;
    has(&made, &defaults)?;
    // A limit alone is a request too; a default stands where there is neither.
    let partial = resources(json!({"cpu": "300m"}), json!({"memory": "300Mi"}));
    let made = bed.create("pods", with_container(pod("partial", FOREVER), partial)).await?;
    has(
        &made,
        &resources(json!({"cpu": "300m", "memory": "300Mi"}), json!({"cpu": "400m", "memory": "300Mi"})),
    )?;
    let tried = |name: &'static str, cpu: &'static str| {
        let pod = with_container(pod(name, FOREVER), resources(json!({"cpu": cpu}), json!({"cpu": cpu})));
        async { bed.try_create("pods", pod).await }
    };
    for (name, cpu) in [("little", "10m"), ("much", "600m")] {
        let answer = tried(name, cpu).await;
        ensure!(answer.as_ref().is_err_and(|error| error.code() == Some(403)), "{answer:?}");
    }

    let updated = bed
        .update(RANGES, "range", |object| object["spec"] = range("", "5m", "700m")["spec"].clone())
        .await?;
    seen(&mut watch, "MODIFIED", |range| range["spec"] == updated["spec"]).await?;
    for (name, cpu) in [("little", "10m"), ("much", "600m")] {
        tried(name, cpu).await?;
    }
    bed.delete(RANGES, "range").await?;
    bed.gone(RANGES, "range").await?;
    let huge = with_container(pod("huge", FOREVER), resources(json!({"cpu": "900m"}), json!({})));
    bed.create("pods", huge).await.map(drop)
}

pub(crate) async fn collection(bed: Bed) -> Result<()> {
    let other = Bed { namespace: format!("{}-other", bed.namespace), ..bed.clone() };
    bed.create("namespaces", json!({"metadata": {"name": other.namespace}})).await?;
    let set = json!({"metadata": {"labels": {"set": bed.namespace}}});
    for bed in [&bed, &other] {
        bed.create(RANGES, conformance::with(range("range", "50m", "500m"), "", set.clone())).await?;
    }
    let selector = format!("set={}", bed.namespace);
    let all = bed.client.list(of(RANGES), "", Query::default().with("labelSelector", &selector)).await?;
    ensure!(items(&all, &["items"]).count() == 2, "{all:#}");
    let patch = json!({"metadata": {"labels": {"patched": "yes"}}, "spec": range("", "40m", "800m")["spec"]});
    let patched = bed.patch(RANGES, "range", patch.clone()).await?;
    ensure!(name(&patched) == "range" && holds(&patched, &patch), "{patched:#}");
    bed.delete_all(RANGES, "patched=yes").await?;
    bed.gone(RANGES, "range").await?;
    let all = bed.client.list(of(RANGES), "", Query::default().with("labelSelector", &selector)).await?;
    ensure!(items(&all, &["items"]).count() == 1, "{all:#}");
    bed.delete("namespaces", &other.namespace).await
}
