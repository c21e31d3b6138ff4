//! From the text of a file to pods and problems. Pure.

use std::path::Path;
use std::sync::Arc;

use agent_core::{defaults, pod, validate};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{FILE, Manifest, Problem};
use crate::{decode, labels};

/// Reads all documents of a file.
pub(super) fn read(file: &Path, text: &str, node: &str, now: Timestamp) -> (Vec<Manifest>, Vec<Problem>) {
    let (mut manifests, mut problems) = (Vec::new(), Vec::new());
    for (number, document) in documents(file, text) {
        let problem = |value: Option<&Value>, message: String| problem(file, number, value, message);
        let value = match document {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(message) => {
                problems.push(problem(None, message));
                continue;
            }
        };
        for value in items(value) {
            match manifest(file, value.clone(), node, now) {
                Ok(manifest) => manifests.push(manifest),
                Err(message) => problems.push(problem(Some(&value), message)),
            }
        }
    }
    (manifests, problems)
}

fn problem(file: &Path, document: usize, value: Option<&Value>, message: String) -> Problem {
    let text = |key: &str| value.and_then(|v| v["metadata"][key].as_str()).filter(|t| !t.is_empty());
    let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned());
    Problem {
        file: file.to_path_buf(),
        document,
        namespace: text("namespace").unwrap_or("default").to_owned(),
        name: text("name").map(str::to_owned).or(stem).unwrap_or_default(),
        message,
    }
}

/// The documents of a file with their numbers. Each is parsed by itself, so a broken one harms no other.
fn documents(file: &Path, text: &str) -> Vec<(usize, Result<Value, String>)> {
    if file.extension().is_some_and(|e| e == "json") {
        let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        return stream
            .map(|r| r.map_err(|e| format!("not JSON: {e}")))
            .enumerate()
            .map(|(n, r)| (n + 1, r))
            .collect();
    }
    let mut all = Vec::new();
    let (mut begin, mut line) = (0, 0);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let separates =
        |l: &str| l.strip_prefix("---").is_some_and(|rest| rest.trim_start() != rest || rest.is_empty());
    while line <= lines.len() {
        if line == lines.len() || separates(lines[line]) {
            let document = lines[begin..line].concat();
            if document.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')) {
                all.push((all.len() + 1, yaml(&document, begin)));
            }
            begin = line + 1;
        }
        line += 1;
    }
    all
}

/// Modes are written with a leading zero (`defaultMode: 0644`); `yes` and `y` are words.
fn yaml(document: &str, lines_before: usize) -> Result<Value, String> {
    let options =
        serde_saphyr::options! { legacy_octal_numbers: true, strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options::<Value>(document, options).map_err(|error| {
        let at = error.location().map(|l| format!("line {}: ", l.line() + lines_before as u64));
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        let text = match text.split_once(": ") {
            Some((place, rest)) if place.contains("line ") && at.is_some() => rest,
            _ => text,
        };
        format!("{}not YAML: {text}", at.unwrap_or_default())
    })
}

/// The objects of a `List` or `PodList`, or the object itself.
fn items(value: Value) -> Vec<Value> {
    match (value["kind"].as_str(), value.get("items").and_then(Value::as_array)) {
        (Some(kind @ ("List" | "PodList")), Some(items)) => {
            let mut items = items.clone();
            // The items of a PodList need not say what they are.
            for item in items.iter_mut().filter(|i| kind == "PodList" && i.is_object()) {
                item["kind"] = "Pod".into();
                item["apiVersion"] = "v1".into();
            }
            items
        }
        _ => vec![value],
    }
}

fn manifest(file: &Path, value: Value, node: &str, now: Timestamp) -> Result<Manifest, String> {
    match (value["apiVersion"].as_str(), value["kind"].as_str()) {
        (Some("v1"), Some("Pod")) => {}
        (_, None) if value.is_object() => {
            return Err("kind: Required value: write `apiVersion: v1` and `kind: Pod`".into());
        }
        (version, Some(kind)) => {
            let version = version.unwrap_or("none");
            return Err(format!(
                "kind: Unsupported value: {kind:?} of apiVersion {version:?}: a manifest directory takes `apiVersion: v1`, `kind: Pod`; other kinds need an API server"
            ));
        }
        _ => return Err("not an object: write a Pod, `apiVersion: v1` and `kind: Pod`".into()),
    }
    let uid = uid(file, &value, node);
    let mut pod = decode::pod(value).map_err(|problem| explain(&problem))?;
    let problems = validate::static_pod(&pod);
    if !problems.is_empty() {
        return Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    }
    defaults::apply(&mut pod);
    let name = format!("{}-{node}", pod::name(&pod));
    pod.metadata.name = Some(name);
    pod.metadata.uid = Some(uid.clone());
    pod.metadata.creation_timestamp = Some(agent_core::time::k8s(now));
    pod.status = None;
    let annotations = pod.metadata.annotations.get_or_insert_default();
    for (key, value) in [
        (labels::CONFIG_SOURCE, "file".to_owned()),
        (labels::CONFIG_HASH, uid.clone()),
        (labels::CONFIG_SEEN, now.to_string()),
        (FILE, file.to_string_lossy().into_owned()),
    ] {
        annotations.insert(key.to_owned(), value);
    }
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node.to_owned());
    }
    Ok(Manifest { uid, pod: Arc::new(pod), file: file.to_path_buf() })
}

fn explain(problem: &decode::NotAPod) -> String {
    match problem {
        decode::NotAPod::Unknown(_) => {
            format!("{problem}: correct or remove it (`kubectl explain pod.spec` lists the fields)")
        }
        decode::NotAPod::Type { field, what } => {
            let path = if field.is_empty() { "the document" } else { field };
            format!("{path}: Invalid value: {what}")
        }
    }
}

/// The pod's uid: a hash of all that makes it this pod.
fn uid(file: &Path, value: &Value, node: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(value.to_string());
    hash.update([0]);
    hash.update(file.as_os_str().as_encoded_bytes());
    hash.update([0]);
    hash.update(node);
    let digest = hash.finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
