//! What a node does for a pod without being asked.

use anyhow::{Context, Result, ensure};
use conformance::{Bed, FOREVER, container, pod, with_container, with_spec};
use proto_kube::object::text;
use serde_json::{Value, json};

pub(crate) async fn logs(bed: Bed) -> Result<()> {
    let (phase, output) = bed.ends(pod("p", "echo 'Hello World'; echo wrong >&2")).await?;
    let both = output.contains("Hello World\n") && output.contains("wrong\n");
    ensure!(phase == "Succeeded" && both, "{phase}: {output}");
    Ok(())
}

/// A pod that fails, and is started again and again.
fn failing() -> Value {
    with_spec(pod("p", "exit 1"), json!({"restartPolicy": "Always"}))
}

pub(crate) async fn failing_reason(bed: Bed) -> Result<()> {
    bed.create("pods", failing()).await?;
    let ended = |pod: &Value| {
        let container = &pod["status"]["containerStatuses"][0];
        ["state", "lastState"]
            .iter()
            .any(|state| !text(container, &[state, "terminated", "reason"]).is_empty())
    };
    let pod = bed.until("pods", "p", ended).await?;
    let count = pod["status"]["containerStatuses"].as_array().map_or(0, Vec::len);
    ensure!(count == 1, "{count} containers");
    Ok(())
}

pub(crate) async fn failing_deleted(bed: Bed) -> Result<()> {
    bed.create("pods", failing()).await?;
    bed.until("pods", "p", |pod| pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1))
        .await?;
    bed.delete("pods", "p").await?;
    bed.gone("pods", "p").await
}

pub(crate) async fn read_only_root(bed: Bed) -> Result<()> {
    let secured = json!({"securityContext": {"readOnlyRootFilesystem": true}});
    let (_, output) = bed.ends(with_container(pod("p", "echo test > /file; cat /file"), secured)).await?;
    ensure!(output.contains("Read-only file system") && !output.contains("test\n"), "{output}");
    Ok(())
}

pub(crate) async fn host_aliases(bed: Bed) -> Result<()> {
    let aliases = json!([{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]);
    let (_, output) =
        bed.ends(with_spec(pod("p", "cat /etc/hosts"), json!({"hostAliases": aliases}))).await?;
    ensure!(output.lines().any(|line| line == "123.45.67.89\tfoo\tbar"), "{output}");
    Ok(())
}

/// `/etc/hosts` is the kubelet's, unless a pod mounts one of its own or has the network of its node.
pub(crate) async fn hosts_file(bed: Bed) -> Result<()> {
    let file = json!({"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "File"}});
    let mount = json!({"volumeMounts": [{"name": "hosts", "mountPath": "/etc/hosts"}]});
    let mut own = container("own", FOREVER);
    own["volumeMounts"] = mount["volumeMounts"].clone();
    let containers = json!([container("c", FOREVER), own]);
    let inside = with_spec(pod("inside", ""), json!({"containers": containers, "volumes": [file]}));
    let outside = with_spec(pod("outside", FOREVER), json!({"hostNetwork": true}));
    let (inside, outside) = tokio::join!(bed.ready(inside), bed.ready(outside));
    inside.and(outside)?;
    for (pod, container, managed) in
        [("inside", "c", true), ("inside", "own", false), ("outside", "c", false)]
    {
        let words = ["exec", pod, "-c", container, "--", "cat", "/etc/hosts"];
        let hosts = bed.kubectl(&words, "").await.context(pod)?;
        ensure!(hosts.contains("# Kubernetes-managed hosts file.") == managed, "{pod} {container}: {hosts}");
    }
    Ok(())
}
