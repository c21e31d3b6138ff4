//! One file of a volume that changes in one piece.

use anyhow::{Result, ensure};
use conformance::Bed;
use serde_json::{Value, json};

use crate::volumes::{Source, mounting};

/// The volumes that cases mount a file `data-1` of; all but that of the downward API have an object `o`.
pub(crate) fn downward() -> Value {
    let name = json!({"path": "data-1", "fieldRef": {"fieldPath": "metadata.annotations['data']"}});
    json!({"name": "v", "downwardAPI": {"items": [name]}})
}

pub(crate) fn of(source: Source) -> Value {
    source.volume("v", "o", json!({}), None)
}

/// The file is mounted by its `subPath`, at a path that may be a file of the image.
pub(crate) async fn read(bed: Bed, volume: Value, path: &str) -> Result<()> {
    Source::ConfigMap.create(&bed, "o").await?;
    Source::Secret.create(&bed, "o").await?;
    let mut pod = mounting(&format!("cat {path}"), &[volume]);
    pod["metadata"]["annotations"] = json!({"data": "value-1\n"});
    pod["spec"]["containers"][0]["volumeMounts"][0] =
        json!({"name": "v", "mountPath": path, "subPath": "data-1"});
    let (phase, output) = bed.ends(pod).await?;
    ensure!(phase == "Succeeded" && output == "value-1\n", "{phase}: {output}");
    Ok(())
}
