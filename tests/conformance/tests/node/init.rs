//! Init containers, ephemeral containers and image volumes.

use anyhow::{Result, ensure};
use client::Patch;
use conformance::{Bed, FOREVER, condition, container, pod, with_container, with_spec};
use proto_kube::object::items;
use serde_json::{Value, json};

/// A pod with two init containers before its own.
fn with_init(script: &str, policy: &str, init: [&str; 2]) -> Value {
    let init = json!([container("init1", init[0]), container("init2", init[1])]);
    with_spec(pod("p", script), json!({"restartPolicy": policy, "initContainers": init}))
}

/// All init containers have succeeded.
fn initialized(pod: &Value) -> Result<()> {
    let done = |c: &&Value| c.pointer("/state/terminated/exitCode") == Some(&0.into());
    let count = items(pod, &["status", "initContainerStatuses"]).filter(done).count();
    ensure!(condition(pod, "Initialized") == "True" && count == 2, "{:#}", pod["status"]);
    Ok(())
}

pub(crate) async fn always(bed: Bed) -> Result<()> {
    let pod = bed.ready(with_init(FOREVER, "Always", ["true", "true"])).await?;
    ensure!(pod["status"]["phase"] == "Running", "{:#}", pod["status"]);
    initialized(&pod)
}

pub(crate) async fn never(bed: Bed) -> Result<()> {
    let (phase, _) = bed.ends(with_init("true", "Never", ["true", "true"])).await?;
    ensure!(phase == "Succeeded", "{phase}");
    let pod = bed.get("pods", "p").await?;
    let app = &pod["status"]["containerStatuses"][0];
    ensure!(
        app["restartCount"] == 0 && app.pointer("/state/terminated/exitCode") == Some(&0.into()),
        "{app:#}"
    );
    initialized(&pod)
}

/// The first init container fails: nothing after it has ever run.
fn stuck(pod: &Value) -> Result<()> {
    let status = &pod["status"];
    let later = [&status["initContainerStatuses"][1], &status["containerStatuses"][0]];
    let waits = later.iter().all(|c| c.pointer("/state/waiting").is_some() && c["restartCount"] == 0);
    ensure!(waits && condition(pod, "Initialized") == "False", "{status:#}");
    Ok(())
}

pub(crate) async fn fails_always(bed: Bed) -> Result<()> {
    bed.create("pods", with_init(FOREVER, "Always", ["false", "true"])).await?;
    let failed = |pod: &Value| pod["status"]["initContainerStatuses"][0]["restartCount"].as_i64() >= Some(2);
    let pod = bed.until("pods", "p", failed).await?;
    ensure!(pod["status"]["phase"] == "Pending", "{:#}", pod["status"]);
    stuck(&pod)
}

pub(crate) async fn fails_never(bed: Bed) -> Result<()> {
    bed.create("pods", with_init(FOREVER, "Never", ["true", "false"])).await?;
    let pod = bed.until("pods", "p", |pod| pod["status"]["phase"] == "Failed").await?;
    let status = &pod["status"];
    let app = &status["containerStatuses"][0];
    ensure!(app.pointer("/state/waiting").is_some() && app["restartCount"] == 0, "{status:#}");
    ensure!(condition(&pod, "Initialized") == "False", "{status:#}");
    Ok(())
}

/// Puts an ephemeral container into a pod and waits until it runs; gives the pod.
async fn debugger(bed: &Bed, name: &str) -> Result<Value> {
    let patch = json!({"spec": {"ephemeralContainers": [container(name, FOREVER)]}});
    bed.patch_as("pods", "p/ephemeralcontainers", (Patch::Strategic, patch)).await?;
    let runs = |c: &Value| c["name"] == name && c.pointer("/state/running").is_some();
    bed.until("pods", "p", |pod| items(pod, &["status", "ephemeralContainerStatuses"]).any(runs)).await
}

pub(crate) async fn ephemeral(bed: Bed) -> Result<()> {
    bed.ready(pod("p", FOREVER)).await?;
    debugger(&bed, "debugger").await?;
    let words = ["exec", "p", "-c", "debugger", "--", "echo", "inside"];
    ensure!(bed.kubectl(&words, "").await? == "inside\n", "the container does not answer");
    Ok(())
}

pub(crate) async fn two_ephemeral(bed: Bed) -> Result<()> {
    bed.ready(pod("p", FOREVER)).await?;
    for (count, name) in [(1, "debugger1"), (2, "debugger2")] {
        let pod = debugger(&bed, name).await?;
        ensure!(items(&pod, &["spec", "ephemeralContainers"]).count() == count, "{:#}", pod["spec"]);
    }
    Ok(())
}

pub(crate) async fn image_volume(bed: Bed) -> Result<()> {
    let volume = json!({"name": "v", "image": {"reference": "nginx:1.22", "pullPolicy": "Always"}});
    let pod = with_spec(pod("p", "cat /v/usr/share/nginx/html/index.html"), json!({"volumes": [volume]}));
    let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let (phase, output) = bed.ends(with_container(pod, mounts)).await?;
    ensure!(phase == "Succeeded" && output.contains("nginx"), "{phase}: {output}");
    Ok(())
}
