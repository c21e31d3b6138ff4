//! What the API lets one do with the objects of any resource.

use anyhow::{Context, Result, bail, ensure};
use client::{Query, Watch, WatchEvent};
use http::Method;
use proto_kube::object::{items, name, text};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Bed, PATIENCE, of};

/// The verbs of a resource that is kept.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Whether an object has all that `part` says; a list, what is in the list of `part`.
#[must_use]
pub fn holds(object: &Value, part: &Value) -> bool {
    match (object, part) {
        (Value::Object(object), Value::Object(part)) => {
            part.iter().all(|(key, part)| object.get(key).is_some_and(|value| holds(value, part)))
        }
        (Value::Array(all), Value::Array(parts)) => {
            parts.iter().all(|part| all.iter().any(|value| holds(value, part)))
        }
        _ => object == part,
    }
}

/// The next event of a type (`ADDED`, `MODIFIED`, `DELETED`) that is as wanted; gives its object.
pub async fn seen(watch: &mut Watch, kind: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let search = async {
        loop {
            let (met, object) = match watch.next().await?.context("the watch has ended")? {
                WatchEvent::Added(object) => ("ADDED", object),
                WatchEvent::Modified(object) => ("MODIFIED", object),
                WatchEvent::Deleted(object) => ("DELETED", object),
                WatchEvent::Bookmark(object) => ("BOOKMARK", object),
            };
            if met == kind && wanted(&object) {
                return Ok(object);
            }
        }
    };
    timeout(PATIENCE, search).await.with_context(|| format!("the watch did not tell of {kind}"))?
}

/// A resource has all verbs, and its group, its version, it and these subresources stand in the documents of discovery.
pub async fn discovered(bed: &Bed, plural: &str, subresources: &[&str]) -> Result<()> {
    let resource = of(plural);
    let at = resource.api_version();
    let mut path = format!("/api/{}", resource.version);
    if !resource.group.is_empty() {
        let read = |path: String| async move { bed.client.call(Method::GET, &path, None).await };
        let groups = read("/apis".into()).await?;
        let group = items(&groups, &["groups"]).find(|g| g["name"] == resource.group);
        let group = group.with_context(|| format!("{} is not in /apis", resource.group))?;
        let served = |group: &Value| items(group, &["versions"]).any(|v| v["groupVersion"] == at);
        ensure!(served(group), "{at} is not in /apis: {group}");
        let group = read(format!("/apis/{}", resource.group)).await?;
        ensure!(served(&group), "{at} is not in the document of its group: {group}");
        path = format!("/apis/{at}");
    }
    let document = bed.client.call(Method::GET, &path, None).await?;
    let verbs = |name: &str| -> Vec<String> {
        let found = items(&document, &["resources"]).find(|r| r["name"] == name);
        found
            .map(|r| items(r, &["verbs"]).filter_map(|v| v.as_str().map(str::to_owned)).collect())
            .unwrap_or_default()
    };
    let has = verbs(plural.split('.').next().unwrap_or(plural));
    ensure!(VERBS.iter().all(|verb| has.iter().any(|h| h == verb)), "{plural} has only the verbs {has:?}");
    for subresource in subresources {
        let has = verbs(&format!("{}/{subresource}", resource.plural));
        let all = ["get", "patch", "update"].iter().all(|verb| has.iter().any(|h| h == verb));
        ensure!(all, "{plural}/{subresource} has only the verbs {has:?}");
    }
    Ok(())
}

/// All that a resource must support: discovery, create, get, list, watch, patch, update, delete, deletecollection, and
/// patch and update of its status, which becomes `status` if that is not null. `make` gives three valid objects; those
/// without a name get one.
pub async fn operations(bed: &Bed, plural: &str, make: impl Fn(usize) -> Value, status: Value) -> Result<()> {
    let resource = of(plural);
    discovered(bed, plural, if status.is_null() { &[] } else { &["status"] }).await?;
    let selector = format!("case={}", bed.namespace);
    let mut names = Vec::new();
    for number in 0..3 {
        let mut object = make(number);
        if name(&object).is_empty() {
            object["metadata"]["name"] = format!("{}-{number}", bed.namespace).into();
        }
        object["metadata"]["labels"]["case"] = bed.namespace.as_str().into();
        let created = bed.create(plural, object.clone()).await?;
        ensure!(holds(&created["spec"], &object["spec"]), "{created:#}");
        names.push(name(&created).to_owned());
    }
    let one = names[0].as_str();
    ensure!(name(&bed.get(plural, one).await?) == one, "another object");

    let everywhere = bed.client.list(resource, "", Query::default().with("labelSelector", &selector)).await?;
    ensure!(items(&everywhere, &["items"]).count() == 3, "of all namespaces: {everywhere:#}");
    ensure!(bed.list(plural, &selector).await?.len() == 3, "not all are listed");
    let mut watch = bed.watch(plural, &selector, text(&everywhere, &["metadata", "resourceVersion"])).await?;

    let patched = json!({"metadata": {"annotations": {"patched": "true"}}});
    let object = bed.patch(plural, one, patched.clone()).await?;
    ensure!(holds(&object, &patched), "the patch did nothing: {object:#}");
    seen(&mut watch, "MODIFIED", |object| name(object) == one && holds(object, &patched)).await?;

    let updated = json!({"metadata": {"annotations": {"patched": "true", "updated": "true"}}});
    let change = |object: &mut Value| object["metadata"]["annotations"]["updated"] = "true".into();
    let object = bed.update(plural, one, change).await?;
    ensure!(holds(&object, &updated), "the update did nothing: {object:#}");
    seen(&mut watch, "MODIFIED", |object| name(object) == one && holds(object, &updated)).await?;

    if !status.is_null() {
        changed_status(bed, plural, (&names[0], &names[1]), &status).await?;
    }
    bed.delete(plural, one).await?;
    seen(&mut watch, "DELETED", |object| name(object) == one).await?;
    bed.gone(plural, one).await?;
    bed.delete_all(plural, &selector).await?;
    bed.until_all(plural, &selector, <[Value]>::is_empty).await?;
    Ok(())
}

/// A status is read, patched on one object and updated on another.
async fn changed_status(bed: &Bed, plural: &str, (one, other): (&str, &str), status: &Value) -> Result<()> {
    let wanted = json!({"status": status});
    let object = bed.patch(plural, &format!("{one}/status"), wanted.clone()).await?;
    ensure!(holds(&object, &wanted), "the patch of the status did nothing: {object:#}");
    let object = bed.update_status(plural, other, |object| object["status"] = status.clone()).await?;
    ensure!(holds(&object, &wanted), "the update of the status did nothing: {object:#}");
    for name in [one, other] {
        let path = of(plural).path(&bed.namespace, name) + "/status";
        let object = bed.client.call(Method::GET, &path, None).await?;
        if !holds(&object, &wanted) {
            bail!("the status is not kept: {object:#}");
        }
    }
    Ok(())
}

impl Bed {
    /// A watch of the objects that a label selector chooses, from a `resourceVersion` on.
    pub async fn watch(&self, plural: &str, selector: &str, since: &str) -> Result<Watch> {
        let query = Query::default().with("labelSelector", selector).with("resourceVersion", since);
        let watch = self.client.watch(of(plural), &self.namespace, query).await;
        watch.with_context(|| format!("watching {plural}"))
    }

    /// Deletes the objects that a label selector chooses, in one request.
    pub async fn delete_all(&self, plural: &str, selector: &str) -> Result<()> {
        let resource = of(plural);
        let query = Query::default().with("labelSelector", selector);
        let path = format!("{}{query}", resource.path(&self.namespace, ""));
        let done = self.client.call(Method::DELETE, &path, None).await;
        done.map(drop).with_context(|| format!("deleting the {plural} of {selector:?}"))
    }

    /// Replaces an object's status by what `change` makes of it, again where somebody else was faster.
    pub async fn update_status(
        &self,
        plural: &str,
        name: &str,
        change: impl Fn(&mut Value),
    ) -> Result<Value> {
        loop {
            let mut object = self.get(plural, name).await?;
            change(&mut object);
            match self.client.update(of(plural), Some("status"), &object, Query::default()).await {
                Err(error) if error.code() == Some(409) => {}
                result => return result.with_context(|| format!("updating the status of {plural} {name}")),
            }
        }
    }
}
