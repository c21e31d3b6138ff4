//! Who watches sees everything, in order, from where he asks on.

use anyhow::{Result, bail, ensure};
use client::{Client, Query, Watch, WatchEvent};
use conformance::{Bed, of, seen};
use proto_kube::object::{name, text};
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn version(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

async fn map(bed: &Bed, name: &str, label: &str) -> Result<Value> {
    bed.create("configmaps", json!({"metadata": {"name": name, "labels": {"watch": label}}})).await
}

async fn change(bed: &Bed, name: &str, value: &str) -> Result<Value> {
    bed.patch("configmaps", name, json!({"data": {"mutation": value}})).await
}

async fn relabel(bed: &Bed, name: &str, label: &str) -> Result<Value> {
    bed.patch("configmaps", name, json!({"metadata": {"labels": {"watch": label}}})).await
}

/// The next event, whatever it is.
async fn next(watch: &mut Watch) -> Result<(&'static str, Value)> {
    Ok(match tokio::time::timeout(conformance::PATIENCE, watch.next()).await?? {
        Some(WatchEvent::Added(object)) => ("ADDED", object),
        Some(WatchEvent::Modified(object)) => ("MODIFIED", object),
        Some(WatchEvent::Deleted(object)) => ("DELETED", object),
        other => bail!("{other:?}"),
    })
}

/// The next events are these, and no other is between them: type, name, `data.mutation`.
async fn tells(watch: &mut Watch, wanted: &[(&str, &str, &str)]) -> Result<()> {
    for (kind, called, value) in wanted {
        let (met, object) = next(watch).await?;
        let mutation = text(&object, &["data", "mutation"]);
        let as_wanted = met == *kind && name(&object) == *called && mutation == *value;
        ensure!(as_wanted, "{met} {} {mutation:?} instead of {kind} {called} {value:?}", name(&object));
    }
    Ok(())
}

/// The resource version of all ConfigMaps here.
async fn now(bed: &Bed) -> Result<String> {
    let list = bed.client.list(of("configmaps"), &bed.namespace, Query::default()).await?;
    Ok(version(&list).to_owned())
}

pub(crate) async fn by_label(bed: Bed) -> Result<()> {
    let now = now(&bed).await?;
    let mut a = bed.watch("configmaps", "watch=a", &now).await?;
    let mut b = bed.watch("configmaps", "watch=b", &now).await?;
    let mut both = bed.watch("configmaps", "watch in (a,b)", &now).await?;
    map(&bed, "one", "a").await?;
    change(&bed, "one", "1").await?;
    change(&bed, "one", "2").await?;
    bed.delete("configmaps", "one").await?;
    map(&bed, "other", "b").await?;
    bed.delete("configmaps", "other").await?;
    map(&bed, "last", "a").await?;
    let one =
        [("ADDED", "one", ""), ("MODIFIED", "one", "1"), ("MODIFIED", "one", "2"), ("DELETED", "one", "2")];
    let other = [("ADDED", "other", ""), ("DELETED", "other", "")];
    let last = [("ADDED", "last", "")];
    tells(&mut a, &[&one[..], &last].concat()).await?;
    tells(&mut b, &other).await?;
    tells(&mut both, &[&one[..], &other, &last].concat()).await
}

pub(crate) async fn from_version(bed: Bed) -> Result<()> {
    map(&bed, "m", "a").await?;
    let first = change(&bed, "m", "1").await?;
    change(&bed, "m", "2").await?;
    bed.delete("configmaps", "m").await?;
    let mut watch = bed.watch("configmaps", "watch=a", version(&first)).await?;
    tells(&mut watch, &[("MODIFIED", "m", "2"), ("DELETED", "m", "2")]).await
}

pub(crate) async fn restarted(bed: Bed) -> Result<()> {
    let mut watch = bed.watch("configmaps", "watch=a", &now(&bed).await?).await?;
    map(&bed, "m", "a").await?;
    change(&bed, "m", "1").await?;
    tells(&mut watch, &[("ADDED", "m", "")]).await?;
    let last = seen(&mut watch, "MODIFIED", |_| true).await?;
    drop(watch);
    change(&bed, "m", "2").await?;
    bed.delete("configmaps", "m").await?;
    let mut watch = bed.watch("configmaps", "watch=a", version(&last)).await?;
    tells(&mut watch, &[("MODIFIED", "m", "2"), ("DELETED", "m", "2")]).await
}

pub(crate) async fn stops_to_match(bed: Bed) -> Result<()> {
    let mut watch = bed.watch("configmaps", "watch=a", &now(&bed).await?).await?;
    map(&bed, "m", "a").await?;
    change(&bed, "m", "1").await?;
    relabel(&bed, "m", "b").await?;
    change(&bed, "m", "2").await?;
    relabel(&bed, "m", "a").await?;
    change(&bed, "m", "3").await?;
    bed.delete("configmaps", "m").await?;
    tells(
        &mut watch,
        &[("ADDED", "m", ""), ("MODIFIED", "m", "1"), ("DELETED", "m", "1"), ("ADDED", "m", "2")],
    )
    .await?;
    tells(&mut watch, &[("MODIFIED", "m", "3"), ("DELETED", "m", "3")]).await
}

/// So many events, and a watch from each on.
const EVENTS: usize = 60;

async fn writes(bed: Bed) -> Result<()> {
    for round in 0..EVENTS {
        let name = format!("m-{}", round / 3);
        match round % 3 {
            0 => drop(map(&bed, &name, "a").await?),
            1 => drop(change(&bed, &name, "1").await?),
            _ => bed.delete("configmaps", &name).await?,
        }
    }
    Ok(())
}

/// The versions that a watch tells from one on, up to a last one.
async fn versions(client: Client, namespace: String, from: String, last: String) -> Result<Vec<String>> {
    let query = Query::default().with("labelSelector", "watch=a").with("resourceVersion", &from);
    let mut watch = client.watch(of("configmaps"), &namespace, query).await?;
    let mut all = Vec::new();
    while all.last() != Some(&last) {
        all.push(version(&next(&mut watch).await?.1).to_owned());
    }
    Ok(all)
}

pub(crate) async fn same_order(bed: Bed) -> Result<()> {
    let mut watch = bed.watch("configmaps", "watch=a", &now(&bed).await?).await?;
    let writer = tokio::spawn(writes(bed.clone()));
    let mut all = Vec::new();
    for _ in 0..EVENTS {
        all.push(version(&next(&mut watch).await?.1).to_owned());
    }
    writer.await??;
    let last = all[EVENTS - 1].clone();
    let mut others = JoinSet::new();
    for (at, from) in all[..EVENTS - 1].iter().cloned().enumerate() {
        let told = versions(bed.client.clone(), bed.namespace.clone(), from, last.clone());
        others.spawn(async move { (at, told.await) });
    }
    while let Some(done) = others.join_next().await {
        let (at, told) = done?;
        ensure!(told? == all[at + 1..], "the watch from the event {at} on sees something else");
    }
    Ok(())
}
