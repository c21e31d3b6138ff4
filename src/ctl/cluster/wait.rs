//! `cleat ctl wait`: until an object is as it should be.

use std::time::Duration;

use anyhow::{Context, bail};
use client::{Query, WatchEvent};
use proto_kube::object;
use serde_json::Value;

use super::{Cluster, Target, targets};

/// What is waited for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Gone,
    Condition(&'a str, &'a str),
}

pub(super) async fn run(
    cluster: &Cluster,
    words: &[String],
    condition: &str,
    timeout: u64,
) -> anyhow::Result<()> {
    let wanted = wanted(condition)?;
    for target in targets(words)? {
        let namespace = cluster.namespace_of(target.resource, &cluster.namespace);
        let limit = Some(Duration::from_secs(timeout));
        match wanted {
            Wanted::Gone => until_gone(cluster, &target, namespace, limit).await?,
            Wanted::Condition(kind, status) => {
                let is_met = |object: Option<&Value>| object.is_some_and(|o| has(o, kind, status));
                until(cluster, &target, namespace, limit, is_met).await?;
            }
        }
        println!("{target} condition met");
    }
    Ok(())
}

fn wanted(text: &str) -> anyhow::Result<Wanted<'_>> {
    match text.split_once('=') {
        None if text == "delete" => Ok(Wanted::Gone),
        Some(("condition", condition)) => {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
            Ok(Wanted::Condition(kind, status))
        }
        _ => bail!("--for takes `condition=TYPE[=STATUS]` or `delete`, not {text:?}"),
    }
}

fn has(object: &Value, kind: &str, status: &str) -> bool {
    let same = |c: &Value, key: &str, text: &str| object::text(c, &[key]).eq_ignore_ascii_case(text);
    object::items(object, &["status", "conditions"])
        .any(|c| same(c, "type", kind) && same(c, "status", status))
}

/// Until there is no such object.
pub(super) async fn until_gone(
    cluster: &Cluster,
    target: &Target,
    namespace: &str,
    limit: Option<Duration>,
) -> anyhow::Result<()> {
    until(cluster, target, namespace, limit, |object| object.is_none()).await
}

async fn until(
    cluster: &Cluster,
    target: &Target,
    namespace: &str,
    limit: Option<Duration>,
    is_met: impl Fn(Option<&Value>) -> bool,
) -> anyhow::Result<()> {
    let work = watch(cluster, target, namespace, is_met);
    match limit {
        None => work.await,
        Some(limit) => {
            let late = || format!("{target}: not within {} s", limit.as_secs());
            tokio::time::timeout(limit, work).await.with_context(late)?
        }
    }
}

async fn watch(
    cluster: &Cluster,
    target: &Target,
    namespace: &str,
    is_met: impl Fn(Option<&Value>) -> bool,
) -> anyhow::Result<()> {
    let by_name = Query::default().with("fieldSelector", &format!("metadata.name={}", target.name));
    loop {
        let list = cluster.client.list(target.resource, namespace, by_name.clone()).await?;
        if is_met(object::items(&list, &["items"]).next()) {
            return Ok(());
        }
        let revision = object::text(&list, &["metadata", "resourceVersion"]);
        let query = by_name.clone().with("resourceVersion", revision);
        let mut events = cluster.client.watch(target.resource, namespace, query).await?;
        while let Some(event) = events.next().await? {
            let now = match &event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object),
                WatchEvent::Deleted(_) => None,
                WatchEvent::Bookmark(_) => continue,
            };
            if is_met(now) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions() {
        assert_eq!(wanted("delete").unwrap(), Wanted::Gone);
        assert_eq!(wanted("condition=Ready").unwrap(), Wanted::Condition("Ready", "True"));
        assert_eq!(wanted("condition=Ready=false").unwrap(), Wanted::Condition("Ready", "false"));
        assert!(wanted("Ready").is_err());
        let object = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(has(&object, "ready", "True"));
        assert!(!has(&object, "Ready", "False"));
    }
}
