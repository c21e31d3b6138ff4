//! What a container's process is told.

use anyhow::{Result, ensure};
use conformance::Bed;
use serde_json::json;

pub(crate) async fn arguments(bed: Bed) -> Result<()> {
    let container = json!({"name": "c", "image": "busybox:1.35", "args": ["echo", "other"]});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [container]}});
    let (phase, output) = bed.ends(pod).await?;
    ensure!(phase == "Succeeded" && output == "other\n", "{phase}: {output}");
    Ok(())
}
