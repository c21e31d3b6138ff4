//! Volumes of what a pod is, alone and projected.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, allocatable, with, with_container};
use proto_kube::object::text;
use serde_json::{Value, json};

use crate::volumes::{mounting, prints};

/// `downwardAPI`, or `projected` with one source.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Own,
    Projected,
}

fn volume(kind: Kind, items: Value, mode: Value) -> Value {
    match kind {
        Kind::Own => json!({"name": "v", "downwardAPI": {"items": items, "defaultMode": mode}}),
        Kind::Projected => {
            json!({"name": "v", "projected": {"sources": [{"downwardAPI": {"items": items}}], "defaultMode": mode}})
        }
    }
}

/// What a resource of the container is in a file; the pod has requests and limits as far as `amounts` says.
async fn amount(bed: &Bed, kind: Kind, resource: &str, amounts: Value) -> Result<String> {
    let item = json!([{"path": "amount", "resourceFieldRef": {"containerName": "c", "resource": resource}}]);
    let pod = mounting("cat /v/amount", &[volume(kind, item, Value::Null)]);
    let (phase, output) = bed.ends(with_container(pod, json!({"resources": amounts}))).await?;
    ensure!(phase == "Succeeded", "{phase}: {output}");
    Ok(output)
}

pub(crate) async fn resource(bed: Bed, kind: Kind, resource: &str, wanted: &str) -> Result<()> {
    let amounts = json!({
        "requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"},
    });
    let seen = amount(&bed, kind, resource, amounts).await?;
    ensure!(seen == wanted, "{seen} is not {wanted}");
    Ok(())
}

/// Limits that are not set are what the node has to give.
pub(crate) async fn default(bed: Bed, kind: Kind, resource: &str) -> Result<()> {
    let seen = amount(&bed, kind, resource, json!({})).await?;
    let pod = bed.get("pods", "p").await?;
    let (cpu, memory) = allocatable(&bed.get("nodes", text(&pod, &["spec", "nodeName"])).await?);
    let wanted = if resource == "limits.cpu" { cpu } else { memory };
    ensure!(seen == wanted.to_string(), "{seen} is not {wanted}");
    Ok(())
}

/// The file of the pod's name has the wanted mode. Modes are those of the volume and of the file.
pub(crate) async fn name(bed: Bed, kind: Kind, modes: [Option<u32>; 2], wanted: &str) -> Result<()> {
    let [default, item] = modes.map(Value::from);
    let items = json!([{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": item}]);
    let pod = mounting("cat /v/name; stat -L -c ' %a' /v/name", &[volume(kind, items, default)]);
    let (phase, output) = bed.ends(pod).await?;
    ensure!(phase == "Succeeded" && output == format!("p {wanted}\n"), "{phase}: {output}");
    Ok(())
}

/// `labels` or `annotations` change with those of the pod.
pub(crate) async fn updated(bed: Bed, kind: Kind, field: &str) -> Result<()> {
    let items = json!([{"path": "field", "fieldRef": {"fieldPath": format!("metadata.{field}")}}]);
    let pod = mounting(FOREVER, &[volume(kind, items, Value::Null)]);
    bed.ready(with(pod, "/metadata", json!({field: {"key1": "value1", "key2": "value2"}}))).await?;
    let lines = "grep -o 'key.=\"[a-z0-9]*\"' /v/field | sort";
    prints(&bed, lines, "key1=\"value1\"\nkey2=\"value2\"").await?;
    bed.patch("pods", "p", json!({"metadata": {field: {"key3": "value3"}}})).await?;
    prints(&bed, lines, "key1=\"value1\"\nkey2=\"value2\"\nkey3=\"value3\"").await
}
