//! `cleat ctl get`.

use std::collections::HashMap;

use anyhow::bail;
use proto_cri::{Container, ContainerState, ListContainersRequest, ListImagesRequest, ListPodSandboxRequest};
use serde_json::{Value, json};

use super::{identity, items, text};
use crate::args::{Format, Kind};
use crate::node::Node;
use crate::output::{age, age_since, size, table};

pub(super) async fn run(
    node: &Node,
    kind: Kind,
    namespace: Option<&str>,
    name: Option<&str>,
    format: Format,
) -> anyhow::Result<()> {
    let list = match kind {
        Kind::Pods => match name {
            Some(name) => vec![node.pod(namespace.unwrap_or("default"), name).await?],
            None => node.pods(namespace).await?,
        },
        Kind::Containers => containers(node, namespace, name).await?,
        Kind::Images => images(node, name).await?,
    };
    if matches!(format, Format::Json | Format::Yaml) {
        let document = match (name, list.as_slice()) {
            (Some(_), [one]) => one.clone(),
            _ => json!({ "apiVersion": "v1", "kind": list_kind(kind), "items": list }),
        };
        format.print(&document)?;
        return Ok(());
    }
    if format == Format::Name {
        for object in &list {
            println!("{}", identity(object).0);
        }
        return Ok(());
    }
    if list.is_empty() {
        eprintln!(
            "No {} found{}.",
            plural(kind),
            namespace.map(|n| format!(" in {n} namespace")).unwrap_or_default()
        );
        return Ok(());
    }
    let (header, rows) = match kind {
        Kind::Pods => pod_table(&list, namespace.is_none(), format == Format::Wide),
        Kind::Containers => container_table(&list, namespace.is_none()),
        Kind::Images => image_table(&list),
    };
    print!("{}", table(&header, &rows));
    Ok(())
}

fn list_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Pods => "PodList",
        Kind::Containers => "ContainerList",
        Kind::Images => "ImageList",
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Pods => "pods",
        Kind::Containers => "containers",
        Kind::Images => "images",
    }
}

type Table = (Vec<&'static str>, Vec<Vec<String>>);

fn pod_table(pods: &[Value], namespaces: bool, wide: bool) -> Table {
    let mut header = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if namespaces {
        header.insert(0, "NAMESPACE");
    }
    if wide {
        header.extend(["IP", "NODE"]);
    }
    let row = |pod: &Value| {
        let (name, namespace) = identity(pod);
        let status = &pod["status"];
        let created = [&pod["metadata"]["creationTimestamp"], &status["startTime"]];
        let created = created.into_iter().find_map(Value::as_str).unwrap_or_default();
        let mut row = vec![name.to_owned(), ready(pod), summary(pod), restarts(pod), age_since(created)];
        if namespaces {
            row.insert(0, namespace.to_owned());
        }
        if wide {
            let or_none = |v: &Value| v.as_str().unwrap_or("<none>").to_owned();
            row.extend([or_none(&status["podIP"]), or_none(&pod["spec"]["nodeName"])]);
        }
        row
    };
    (header, pods.iter().map(row).collect())
}

/// Sidecars: init containers that run for the pod's whole life.
fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

pub(super) fn ready(pod: &Value) -> String {
    let sidecars: Vec<&str> = items(&pod["spec"]["initContainers"])
        .iter()
        .filter(|c| is_sidecar(c))
        .map(|c| text(&c["name"]))
        .collect();
    let status = &pod["status"];
    let counted = items(&status["initContainerStatuses"])
        .iter()
        .filter(|s| sidecars.contains(&text(&s["name"])))
        .chain(items(&status["containerStatuses"]));
    let ready = counted.filter(|s| s["ready"] == true).count();
    format!("{ready}/{}", items(&pod["spec"]["containers"]).len() + sidecars.len())
}

fn restarts(pod: &Value) -> String {
    let statuses = &pod["status"];
    let all = items(&statuses["initContainerStatuses"]).iter().chain(items(&statuses["containerStatuses"]));
    all.filter_map(|s| s["restartCount"].as_u64()).sum::<u64>().to_string()
}

/// kubectl's STATUS column: why the pod is not simply running, if it is not.
pub(super) fn summary(pod: &Value) -> String {
    let status = &pod["status"];
    let init = items(&status["initContainerStatuses"]);
    let specs = items(&pod["spec"]["initContainers"]);
    let mut reason = [&status["reason"], &status["phase"]]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or("Unknown")
        .to_owned();
    for (index, one) in init.iter().enumerate() {
        let state = &one["state"];
        let sidecar = specs.iter().any(|s| s["name"] == one["name"] && is_sidecar(s));
        if state["terminated"]["exitCode"] == 0 || (sidecar && one["started"] == true) {
            continue;
        }
        let cause = cause(state).filter(|cause| cause != "PodInitializing");
        reason =
            cause.map_or_else(|| format!("Init:{index}/{}", specs.len()), |cause| format!("Init:{cause}"));
        return terminating(pod, reason);
    }
    for one in items(&status["containerStatuses"]).iter().rev() {
        if let Some(cause) = cause(&one["state"]) {
            reason = cause;
        }
    }
    if reason == "Completed"
        && items(&status["containerStatuses"]).iter().any(|s| !s["state"]["running"].is_null())
    {
        reason = "Running".into();
    }
    terminating(pod, reason)
}

fn terminating(pod: &Value, reason: String) -> String {
    if pod["metadata"]["deletionTimestamp"].is_null() { reason } else { "Terminating".into() }
}

/// Why a container does not run.
fn cause(state: &Value) -> Option<String> {
    let (waiting, ended) = (&state["waiting"], &state["terminated"]);
    if let Some(reason) = waiting["reason"].as_str().or(ended["reason"].as_str()).filter(|r| !r.is_empty()) {
        return Some(reason.to_owned());
    }
    let signal = ended["signal"].as_i64().filter(|s| *s != 0).map(|s| format!("Signal:{s}"));
    signal.or_else(|| ended["exitCode"].as_i64().map(|code| format!("ExitCode:{code}")))
}

/// All containers, running or ended, as objects of our own.
async fn containers(node: &Node, namespace: Option<&str>, name: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let mut client = node.runtime().await?;
    let sandboxes = client.list_pod_sandbox(ListPodSandboxRequest::default()).await?.into_inner().items;
    let pods: HashMap<_, _> = sandboxes.into_iter().map(|s| (s.id, s.metadata.unwrap_or_default())).collect();
    let mut list = client.list_containers(ListContainersRequest::default()).await?.into_inner().containers;
    list.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    let wanted = |container: &Value| {
        namespace.is_none_or(|n| container["namespace"] == n)
            && name.is_none_or(|n| container["name"] == n || text(&container["id"]).starts_with(n))
    };
    let object = |container: Container| {
        let pod = pods.get(&container.pod_sandbox_id).cloned().unwrap_or_default();
        let state = match ContainerState::try_from(container.state) {
            Ok(ContainerState::ContainerCreated) => "Created",
            Ok(ContainerState::ContainerRunning) => "Running",
            Ok(ContainerState::ContainerExited) => "Exited",
            _ => "Unknown",
        };
        let metadata = container.metadata.unwrap_or_default();
        json!({
            "id": container.id, "name": metadata.name, "attempt": metadata.attempt, "state": state,
            "pod": pod.name, "namespace": pod.namespace, "podUid": pod.uid, "sandbox": container.pod_sandbox_id,
            "image": container.image.map(image_name), "imageId": container.image_id,
            "createdAt": jiff::Timestamp::from_nanosecond(container.created_at.into()).unwrap_or_default().to_string(),
        })
    };
    let list: Vec<Value> = list.into_iter().map(object).filter(wanted).collect();
    match name {
        Some(name) if list.is_empty() => bail!("containers {name:?} not found"),
        _ => Ok(list),
    }
}

/// The image as it was asked for.
fn image_name(image: proto_cri::ImageSpec) -> String {
    if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image }
}

fn container_table(containers: &[Value], namespaces: bool) -> Table {
    let mut header = vec!["CONTAINER", "NAME", "POD", "STATE", "ATTEMPT", "IMAGE", "AGE"];
    if namespaces {
        header.insert(2, "NAMESPACE");
    }
    let row = |c: &Value| {
        let id = text(&c["id"]);
        let mut row = vec![
            id.get(..13).unwrap_or(id).to_owned(),
            text(&c["name"]).to_owned(),
            text(&c["pod"]).to_owned(),
            text(&c["state"]).to_owned(),
            c["attempt"].to_string(),
            text(&c["image"]).to_owned(),
            age_since(text(&c["createdAt"])),
        ];
        if namespaces {
            row.insert(2, text(&c["namespace"]).to_owned());
        }
        row
    };
    (header, containers.iter().map(row).collect())
}

async fn images(node: &Node, name: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let list = node.images().await?.list_images(ListImagesRequest::default()).await?.into_inner().images;
    let wanted = |image: &proto_cri::Image| {
        name.is_none_or(|n| {
            image.id.starts_with(n)
                || image.id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(n))
                || image.repo_tags.iter().any(|t| t == n)
        })
    };
    let list: Vec<Value> = list
        .into_iter()
        .filter(wanted)
        .map(|i| json!({ "id": i.id, "tags": i.repo_tags, "digests": i.repo_digests, "size": i.size, "pinned": i.pinned }))
        .collect();
    match name {
        Some(name) if list.is_empty() => bail!("images {name:?} not found"),
        _ => Ok(list),
    }
}

/// A line per tag; images without one show their digest.
pub(crate) fn image_table(images: &[Value]) -> Table {
    let mut rows = Vec::new();
    for image in images {
        let id = text(&image["id"]);
        let short: String = id.strip_prefix("sha256:").unwrap_or(id).chars().take(13).collect();
        let names =
            [&image["tags"], &image["digests"]].into_iter().map(items).find(|names| !names.is_empty());
        let bytes = size(image["size"].as_u64().unwrap_or_default());
        for name in names.unwrap_or(&[Value::Null]) {
            rows.push(vec![name.as_str().unwrap_or("<none>").to_owned(), short.clone(), bytes.clone()]);
        }
    }
    (vec!["IMAGE", "ID", "SIZE"], rows)
}

/// The age of a time in an object, for [`super::describe`].
pub(super) fn ago(time: &Value) -> String {
    time.as_str().map_or_else(|| age(-1), age_since)
}

#[cfg(test)]
#[path = "get_tests.rs"]
mod tests;
