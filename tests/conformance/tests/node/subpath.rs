//! Folders of a volume that are named by variables.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, pod, with, with_container, with_spec};
use proto_kube::object::text;
use serde_json::{Value, json};

/// A pod that mounts the folder at `/sub`, and the whole volume at `/v`. `$(NAME)` is its name, `$(NOTE)` an annotation.
fn mounted(script: &str, folder: &str, note: &str) -> Value {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let container = json!({
        "env": [field("NAME", "metadata.name"), field("NOTE", "metadata.annotations['note']")],
        "volumeMounts": [
            {"name": "v", "mountPath": "/sub", "subPathExpr": folder}, {"name": "v", "mountPath": "/v"},
        ],
    });
    let pod = with(pod("p", script), "/metadata", json!({"annotations": {"note": note}}));
    with_spec(with_container(pod, container), json!({"volumes": [{"name": "v", "emptyDir": {}}]}))
}

/// The container is not started, and its pod says why.
fn waits(pod: &Value) -> bool {
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    text(waiting, &["reason"]) == "CreateContainerConfigError" && pod["status"]["phase"] == "Pending"
}

pub(crate) async fn substituted(bed: Bed) -> Result<()> {
    let (phase, output) =
        bed.ends(mounted("echo x > /sub/file; cat /v/p/note/file", "$(NAME)/$(NOTE)", "note")).await?;
    ensure!(phase == "Succeeded" && output == "x\n", "{phase}: {output}");
    Ok(())
}

pub(crate) async fn refused(bed: Bed, folder: &str, note: &str) -> Result<()> {
    bed.create("pods", mounted("true", folder, note)).await?;
    bed.until("pods", "p", waits).await.map(drop)
}

/// What is written below the folder is in the volume, and that the folder has no name any more does not keep the pod.
pub(crate) async fn written(bed: Bed) -> Result<()> {
    bed.ready(mounted(FOREVER, "$(NOTE)/$(NAME)", "mine")).await?;
    bed.sh("p", "echo x > /sub/file").await?;
    ensure!(bed.sh("p", "cat /v/mine/p/file").await? == "x", "not what was written");
    bed.patch("pods", "p", json!({"metadata": {"annotations": {"note": "../bad`"}}})).await?;
    bed.delete("pods", "p").await?;
    bed.gone("pods", "p").await
}

pub(crate) async fn mended(bed: Bed) -> Result<()> {
    bed.create("pods", mounted(FOREVER, "$(NOTE)/$(NAME)", "/absolute")).await?;
    bed.until("pods", "p", waits).await?;
    bed.patch("pods", "p", json!({"metadata": {"annotations": {"note": "good"}}})).await?;
    bed.until("pods", "p", |pod| conformance::condition(pod, "Ready") == "True").await?;
    ensure!(bed.sh("p", "echo x > /sub/f; cat /v/good/p/f").await? == "x", "not what was written");
    Ok(())
}
