//! What a container's process is told, and what it tells when it ends.

use anyhow::{Context, Result, ensure};
use conformance::{Bed, container, pod, with_container, with_spec};
use proto_kube::object::text;
use serde_json::{Value, json};

/// The image's `Cmd` when the pod says nothing.
pub(crate) async fn defaults(bed: Bed) -> Result<()> {
    let web = json!({"name": "c", "image": "nginx:1.22"});
    let pod = with_spec(pod("p", ""), json!({"containers": [web]}));
    bed.ready(pod).await?;
    let command = bed.sh("p", "tr '\\0' ' ' < /proc/1/cmdline").await?;
    ensure!(command.contains("nginx") && command.contains("daemon off;"), "{command}");
    Ok(())
}

/// `command` and `args` of the pod instead of the image's; the image's default is a shell.
pub(crate) async fn told(bed: Bed, words: Value) -> Result<()> {
    let mut told = container("c", "");
    told["command"].take();
    told["args"].take();
    let pod = with_container(with_spec(pod("p", ""), json!({"containers": [told]})), words);
    let (phase, output) = bed.ends(pod).await?;
    ensure!(phase == "Succeeded" && output == "other words\n", "{phase}: {output}");
    Ok(())
}

/// The message of a container that has ended is as wanted.
pub(crate) async fn message(bed: Bed, script: &str, more: Value, wanted: &str) -> Result<()> {
    let policy = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    let pod = with_container(with_container(pod("p", script), policy), more);
    bed.ends(pod).await?;
    let pod = bed.get("pods", "p").await?;
    let ended = pod.pointer("/status/containerStatuses/0/state/terminated").context("not terminated")?;
    ensure!(text(ended, &["message"]).trim_end() == wanted, "{ended:#}");
    Ok(())
}

/// How often a container runs, by the restart policy of its pod.
pub(crate) async fn restarts(bed: Bed) -> Result<()> {
    // It fails so often and then stays, or succeeds.
    let pods = [
        ("always", "Always", 2, conformance::FOREVER, "Running"),
        ("on-failure", "OnFailure", 1, "exit 0", "Succeeded"),
        ("never", "Never", 0, "exit 1", "Failed"),
    ];
    for (name, policy, fails, then, _) in pods {
        let script = format!("echo x >> /v/runs; [ $(wc -l < /v/runs) -gt {fails} ] || exit 1; {then}");
        let mounts = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let spec = json!({"restartPolicy": policy, "volumes": [{"name": "v", "emptyDir": {}}]});
        bed.create("pods", with_spec(with_container(pod(name, &script), mounts), spec)).await?;
    }
    for (name, _, restarts, _, phase) in pods {
        let wanted = |pod: &Value| {
            let container = &pod["status"]["containerStatuses"][0];
            let stays = phase != "Running" || container["ready"] == true;
            pod["status"]["phase"] == phase && container["restartCount"] == restarts && stays
        };
        bed.until("pods", name, wanted).await?;
    }
    Ok(())
}
