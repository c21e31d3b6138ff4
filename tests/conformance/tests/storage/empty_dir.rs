//! Volumes that are empty at first.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, condition, container, pod, with, with_spec};
use serde_json::{Value, json};

use crate::volumes::{Source, mounting};

/// On the node's disk, or in its memory.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Medium {
    Default,
    Memory,
}

fn volume(medium: Medium) -> Value {
    json!({"name": "v", "emptyDir": if medium == Medium::Memory { json!({"medium": "Memory"}) } else { json!({}) }})
}

/// The script's output is as wanted, and the volume on a tmpfs when it shall be in memory.
async fn shows(bed: Bed, user: u32, medium: Medium, (script, wanted): (&str, &str)) -> Result<()> {
    let script = format!("{script}; grep ' /v ' /proc/mounts | cut -d' ' -f3");
    let pod =
        with_spec(mounting(&script, &[volume(medium)]), json!({"securityContext": {"runAsUser": user}}));
    let (phase, output) = bed.ends(pod).await?;
    let (seen, kind) = output.trim_end().rsplit_once('\n').unwrap_or_default();
    ensure!(phase == "Succeeded" && seen == wanted, "{phase}: {output}");
    ensure!(medium == Medium::Default || kind == "tmpfs", "it is on {kind}");
    Ok(())
}

/// A file of a mode, made by a user.
pub(crate) async fn file(bed: Bed, user: u32, mode: &str, medium: Medium) -> Result<()> {
    let script = format!("echo content > /v/f; chmod {mode} /v/f; cat /v/f; stat -c '%a %u' /v/f");
    let wanted = format!("content\n{} {user}", mode.trim_start_matches('0'));
    shows(bed, user, medium, (&script, &wanted)).await
}

/// The volume itself is everybody's.
pub(crate) async fn mode(bed: Bed, medium: Medium) -> Result<()> {
    shows(bed, 0, medium, ("stat -c %A /v", "drwxrwxrwx")).await
}

/// One container waits for what another puts into the volume.
pub(crate) async fn shared(bed: Bed) -> Result<()> {
    let writes = format!("echo 'from the other' > /v/.new; mv /v/.new /v/file; {FOREVER}");
    let containers: Vec<Value> = [("reads", FOREVER), ("writes", writes.as_str())]
        .map(|(name, script)| {
            with(container(name, script), "", json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}))
        })
        .into();
    let pod =
        with_spec(pod("p", ""), json!({"containers": containers, "volumes": [volume(Medium::Default)]}));
    bed.ready(pod).await?;
    crate::volumes::prints(&bed, "cat /v/file", "from the other").await
}

/// A Secret and a ConfigMap, each of which stands on an empty directory, beside each other.
pub(crate) async fn beside(bed: Bed) -> Result<()> {
    let sources = [("s", Source::Secret), ("m", Source::ConfigMap)];
    for (name, source) in sources {
        source.create(&bed, name).await?;
    }
    let volumes = sources.map(|(name, source)| source.volume(name, name, json!({}), None));
    let (phase, output) = bed.ends(mounting("cat /s/data-1 /m/data-2", &volumes)).await?;
    ensure!(phase == "Succeeded" && output == "value-1\nvalue-2\n", "{phase}: {output}");
    Ok(())
}

/// Five pods with fifty ConfigMaps each.
pub(crate) async fn many(bed: Bed) -> Result<()> {
    let names: Vec<String> = (0..50).map(|number| format!("map-{number}")).collect();
    for name in &names {
        Source::ConfigMap.create(&bed, name).await?;
    }
    let volumes: Vec<Value> =
        names.iter().map(|name| Source::ConfigMap.volume(name, name, json!({}), None)).collect();
    let mut spec = mounting(FOREVER, &volumes)["spec"].take();
    spec["restartPolicy"] = "Always".into();
    let template = json!({"metadata": {"labels": {"of": "many"}}, "spec": spec});
    let spec = json!({"replicas": 5, "selector": {"of": "many"}, "template": template});
    bed.create("replicationcontrollers", json!({"metadata": {"name": "many"}, "spec": spec})).await?;
    let ready = |pods: &[Value]| pods.len() == 5 && pods.iter().all(|pod| condition(pod, "Ready") == "True");
    bed.until_all("pods", "of=many", ready).await.map(drop)
}
