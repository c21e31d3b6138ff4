//! `cleat ctl apply` and `create`: objects from files.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use client::{Patch, Query};
use proto_kube::{Gvk, object, resource};
use serde_json::{Value, json};

use super::{Cluster, Target, managed};

/// Creates every object of the files; an object that is there already is an error.
pub(super) async fn create(cluster: &Cluster, files: &[PathBuf]) -> anyhow::Result<()> {
    for (target, namespace, object) in read(cluster, files)? {
        let made =
            cluster.client.create(target.resource, &namespace, &object, managed(Query::default())).await?;
        let target = Target { name: object::name(&made).to_owned(), ..target };
        cluster.done(&target, "created", &made)?;
    }
    Ok(())
}

/// What people may have written of an object: controllers write its status and annotations of their own meanwhile.
fn intent(object: &Value, applied: &Value) -> Value {
    let mut intent = object.clone();
    let annotations = object::annotations(object);
    let named = annotations.filter(|(key, _)| applied["metadata"]["annotations"].get(key).is_some());
    let named: serde_json::Map<String, Value> = named.map(|(k, v)| (k.to_owned(), v.into())).collect();
    intent["metadata"] = json!({ "labels": object["metadata"]["labels"], "annotations": named });
    intent["status"] = Value::Null;
    intent
}

/// Makes every object of the files so, by server-side apply.
pub(super) async fn apply(cluster: &Cluster, files: &[PathBuf], force: bool) -> anyhow::Result<()> {
    for (target, namespace, object) in read(cluster, files)? {
        let before = match cluster.client.get(target.resource, &namespace, &target.name).await {
            Ok(before) => Some(before),
            Err(error) if error.code() == Some(404) => None,
            Err(error) => return Err(error.into()),
        };
        let query = managed(Query::default().with("force", if force { "true" } else { "" }));
        let place = (target.resource, namespace.as_str(), target.name.as_str());
        let made = cluster.client.patch(place, None, (Patch::Apply, &object), query).await;
        let made = made.with_context(|| format!("{target} is not applied"))?;
        let word = match before {
            None => "created",
            Some(before) if intent(&before, &object) == intent(&made, &object) => "unchanged",
            Some(_) => "configured",
        };
        cluster.done(&target, word, &made)?;
    }
    Ok(())
}

/// All objects of the files, checked before the first request: each with its target and namespace.
pub(super) fn read(cluster: &Cluster, files: &[PathBuf]) -> anyhow::Result<Vec<(Target, String, Value)>> {
    let mut found = Vec::new();
    for file in files {
        for (file, text) in texts(file)? {
            let documents = documents(&text).with_context(|| file.display().to_string())?;
            for object in documents {
                found.push(place(cluster, object).with_context(|| file.display().to_string())?);
            }
        }
    }
    if found.is_empty() {
        bail!("no objects in {files:?}");
    }
    Ok(found)
}

/// A file, standard input for `-`, or the manifests of a directory in the order of their names.
fn texts(path: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(vec![("standard input".into(), text)]);
    }
    if !path.is_dir() {
        return Ok(vec![(path.to_owned(), read(path)?)]);
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut files = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    files.retain(|f| f.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|x| e == *x)));
    files.sort();
    files.into_iter().map(|file| Ok((file.clone(), read(&file)?))).collect()
}

/// The objects of a text; those of a `List` one by one.
fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    // `defaultMode: 0644` is octal in the YAML that people write for Kubernetes.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    for document in serde_saphyr::from_multiple_with_options::<Value>(text, options)? {
        match document {
            Value::Null => {}
            list if list["kind"] == "List" => objects.extend(object::items(&list, &["items"]).cloned()),
            object => objects.push(object),
        }
    }
    Ok(objects)
}

fn place(cluster: &Cluster, object: Value) -> anyhow::Result<(Target, String, Value)> {
    let field = |name: &str| match object::text(&object, &[name]) {
        "" => bail!("an object has no `{name}`"),
        text => Ok(text.to_owned()),
    };
    let kind = Gvk::new(&field("apiVersion")?, &field("kind")?);
    let Some(resource) = resource::of_kind(&kind) else {
        bail!("the cluster has no kind {} of {}", kind.kind, kind.api_version());
    };
    let namespace = match object::namespace(&object) {
        "" => cluster.namespace_of(resource, &cluster.namespace).to_owned(),
        own => own.to_owned(),
    };
    let name = object::name(&object).to_owned();
    if name.is_empty() && object::text(&object, &["metadata", "generateName"]).is_empty() {
        bail!("a {} has no `metadata.name`", kind.kind);
    }
    Ok((Target { resource, name }, namespace, object))
}
