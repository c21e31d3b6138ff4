//! `cleat ctl delete`, `label`, `annotate`, `scale` and `patch`.

use anyhow::{Context, bail};
use client::{Patch, Query};
use proto_kube::object;
use serde_json::{Map, Value, json};

use super::{Cluster, Target, apply, kind, managed, target, targets, wait};
use crate::args::{Delete, PatchKind};

pub(super) async fn delete(cluster: &Cluster, delete: Delete) -> anyhow::Result<()> {
    let mut found: Vec<(Target, String)> = Vec::new();
    if !delete.files.is_empty() {
        let objects = apply::read(cluster, &delete.files)?;
        found.extend(objects.into_iter().map(|(target, namespace, _)| (target, namespace)));
    }
    match (&delete.selector, delete.all, delete.objects.as_slice()) {
        (None, false, []) => {}
        (None, false, words) => {
            let named = targets(words)?.into_iter();
            found.extend(
                named.map(|t| (t.clone(), cluster.namespace_of(t.resource, &cluster.namespace).to_owned())),
            );
        }
        (selector, _, [words]) => {
            for resource in kind::find_all(words)? {
                let namespace = cluster.namespace_of(resource, &cluster.namespace);
                let query = Query::default().with("labelSelector", selector.as_deref().unwrap_or_default());
                let list = cluster.client.list(resource, namespace, query).await?;
                let names = object::items(&list, &["items"]).map(|o| object::name(o).to_owned());
                found.extend(names.map(|name| (Target { resource, name }, namespace.to_owned())));
            }
        }
        _ => bail!("--selector and --all take one TYPE: `cleat ctl delete pods --all`"),
    }
    if found.is_empty() {
        bail!("nothing to delete: name objects as `TYPE NAME`, or files with -f");
    }
    let mut options = json!({ "propagationPolicy": "Background" });
    if let Some(grace) = delete.grace_period {
        options["gracePeriodSeconds"] = grace.into();
    }
    for (target, namespace) in &found {
        let gone = cluster.client.delete(target.resource, namespace, &target.name, &options).await?;
        cluster.done(target, "deleted", &gone)?;
    }
    if !delete.no_wait {
        for (target, namespace) in &found {
            wait::until_gone(cluster, target, namespace, None).await?;
        }
    }
    Ok(())
}

/// Sets and removes (`key-`) labels or annotations.
pub(super) async fn metadata(cluster: &Cluster, map: &str, words: &[String]) -> anyhow::Result<()> {
    // No type and no name looks like a change.
    let changes = words.iter().position(|w| w.contains('=') || w.ends_with('-')).unwrap_or(words.len());
    let (words, changes) = words.split_at(changes);
    if changes.is_empty() {
        bail!("which {map}? KEY=VALUE sets one, KEY- removes it");
    }
    let mut values = Map::new();
    for change in changes {
        let (key, value) = match (change.split_once('='), change.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Value::from(value)),
            (None, Some(key)) => (key, Value::Null),
            (None, None) => bail!("{change:?} is neither KEY=VALUE nor KEY-"),
        };
        values.insert(key.to_owned(), value);
    }
    let body = json!({ "metadata": { map: values } });
    for target in targets(words)? {
        let changed = send(cluster, &target, None, (Patch::Merge, &body)).await?;
        cluster.done(&target, if map == "labels" { "labeled" } else { "annotated" }, &changed)?;
    }
    Ok(())
}

pub(super) async fn scale(cluster: &Cluster, words: &[String], replicas: u32) -> anyhow::Result<()> {
    let body = json!({ "spec": { "replicas": replicas } });
    for target in targets(words)? {
        if target.resource.subresource("scale").is_none() {
            bail!("{target} has no replicas to scale");
        }
        let scaled = send(cluster, &target, Some("scale"), (Patch::Merge, &body)).await?;
        cluster.done(&target, "scaled", &scaled)?;
    }
    Ok(())
}

pub(super) async fn patch(
    cluster: &Cluster,
    words: &[String],
    body: &str,
    kind: PatchKind,
) -> anyhow::Result<()> {
    let body: Value = serde_saphyr::from_str(body).context("the patch is neither JSON nor YAML")?;
    let kind = match kind {
        PatchKind::Json => Patch::Json,
        PatchKind::Merge => Patch::Merge,
        PatchKind::Strategic => Patch::Strategic,
    };
    let target = target(words)?;
    let changed = send(cluster, &target, None, (kind, &body)).await?;
    cluster.done(&target, "patched", &changed)
}

async fn send(
    cluster: &Cluster,
    target: &Target,
    subresource: Option<&str>,
    patch: (Patch, &Value),
) -> anyhow::Result<Value> {
    let namespace = cluster.namespace_of(target.resource, &cluster.namespace);
    let place = (target.resource, namespace, target.name.as_str());
    Ok(cluster.client.patch(place, subresource, patch, managed(Query::default())).await?)
}
