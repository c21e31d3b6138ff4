//! Pods that grow and shrink while they run.

use anyhow::{Result, ensure};
use client::Patch;
use conformance::{Bed, FOREVER, container, holds, of, pod, with_spec};
use http::Method;
use proto_kube::object::{items, text};
use proto_kube::quantity::Amount;
use serde_json::{Value, json};

/// Requests and limits of CPU and memory, `"10m 16Mi"`; `-` and nothing at all are not set.
pub(crate) type Sizes = (&'static str, &'static str);

fn resources((requests, limits): Sizes) -> Value {
    let list = |text: &str| -> Value {
        let amounts = ["cpu", "memory"].into_iter().zip(text.split(' '));
        amounts.filter(|(_, amount)| !matches!(*amount, "-" | "")).collect()
    };
    let both = [("requests", list(requests)), ("limits", list(limits))];
    both.into_iter().filter(|(_, list)| list.as_object().is_some_and(|l| !l.is_empty())).collect()
}

/// The containers of a pod, each with its resources.
fn containers(all: impl Iterator<Item = Sizes>) -> Vec<Value> {
    let sized = |(number, sizes): (usize, Sizes)| {
        let mut container = container(&format!("c{number}"), FOREVER);
        container["resources"] = resources(sizes);
        container
    };
    all.enumerate().map(sized).collect()
}

/// What the kernel limits a container to agrees with its spec.
async fn limited(bed: &Bed, container: &Value) -> Result<()> {
    const SCRIPT: &str = "cd /sys/fs/cgroup; \
        cut -d' ' -f1 cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us; \
        cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes";
    let name = text(container, &["name"]);
    let read = bed.kubectl(&["exec", "p", "-c", name, "--", "sh", "-c", SCRIPT], "").await?;
    let read: Vec<&str> = read.split_whitespace().collect();
    let amount = |what| Amount::parse(text(container, &["resources", "limits", what])).ok();
    // A period has 100 ms, and no quota is below 1 ms.
    let quota = amount("cpu").map(|cpu| (cpu.millis() * 100).max(1000).to_string());
    let bytes = amount("memory").map(|memory| memory.units().to_string());
    for (wanted, read) in [quota, bytes].iter().zip(&read) {
        ensure!(wanted.as_deref().is_none_or(|wanted| wanted == *read), "{name}: {read} is not {wanted:?}");
    }
    Ok(())
}

/// Each container has the resources of the list, in the spec, in the status and in the kernel, and was not restarted.
async fn has(bed: &Bed, wanted: &[Value]) -> Result<()> {
    let done = |pod: &Value| {
        let under_way = |c: &Value| text(c, &["type"]).starts_with("PodResize");
        let statuses = || items(pod, &["status", "containerStatuses"]);
        let applied = wanted.iter().all(|container| {
            statuses().any(|status| {
                status["name"] == container["name"]
                    && holds(&status["resources"], &container["resources"])
                    && holds(&status["allocatedResources"], &container["resources"]["requests"].clone())
                    && status["restartCount"] == 0
            })
        });
        applied && !items(pod, &["status", "conditions"]).any(under_way)
    };
    let pod = bed.until("pods", "p", done).await?;
    for container in wanted {
        let spec = items(&pod, &["spec", "containers"]).find(|c| c["name"] == container["name"]);
        ensure!(spec.is_some_and(|spec| spec["resources"] == container["resources"]), "{:#}", pod["spec"]);
        limited(bed, container).await?;
    }
    Ok(())
}

/// Resizes a pod whose containers have resources before and after, by a patch.
pub(crate) async fn patched(bed: Bed, sizes: &[(Sizes, Sizes)]) -> Result<()> {
    let before = containers(sizes.iter().map(|(before, _)| *before));
    let after = containers(sizes.iter().map(|(_, after)| *after));
    let created = bed.ready(with_spec(pod("p", ""), json!({"containers": before}))).await?;
    has(&bed, &before).await?;
    let parts: Vec<Value> =
        after.iter().map(|c| json!({"name": c["name"], "resources": c["resources"]})).collect();
    bed.patch_as("pods", "p/resize", (Patch::Strategic, json!({"spec": {"containers": parts}}))).await?;
    has(&bed, &after).await?;
    let pod = bed.get("pods", "p").await?;
    ensure!(pod["status"]["qosClass"] == created["status"]["qosClass"], "another QoS class");
    Ok(())
}

/// The same by a replacement of what the subresource gives, which is the pod.
pub(crate) async fn replaced(bed: Bed) -> Result<()> {
    let sizes: [Sizes; 2] = [("10m 16Mi", "20m 32Mi"), ("15m 24Mi", "30m 48Mi")];
    let [before, after] = sizes.map(|sizes| containers([sizes].into_iter()));
    bed.ready(with_spec(pod("p", ""), json!({"containers": before}))).await?;
    let path = of("pods").path(&bed.namespace, "p") + "/resize";
    let read = async || bed.client.call(Method::GET, &path, None).await;
    let mut pod = read().await?;
    pod["spec"]["containers"][0]["resources"] = after[0]["resources"].clone();
    bed.client.update(of("pods"), Some("resize"), &pod, client::Query::default()).await?;
    has(&bed, &after).await?;
    bed.eventually("one pod by both paths", || async {
        let (resize, pod) = (read().await?, bed.get("pods", "p").await?);
        ensure!(resize == pod, "{resize:#}\nis not\n{pod:#}");
        Ok(())
    })
    .await
}
