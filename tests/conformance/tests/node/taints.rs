//! Taints that make pods leave.

use std::time::Duration;

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, pod, with_spec};
use proto_kube::object::is_terminating;
use serde_json::{Value, json};

/// What a node is tainted with.
fn taints() -> Value {
    json!([{"key": "case", "value": "evict", "effect": "NoExecute"}])
}

/// A pod on a node that tolerates the case's taint for so long.
fn tolerant(name: &str, node: &str, seconds: i64) -> Value {
    let toleration =
        json!({"key": "case", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    with_spec(pod(name, FOREVER), json!({"nodeName": node, "tolerations": [toleration]}))
}

/// Pods go when their time on a tainted node is over, not earlier, and each at its own.
pub(crate) async fn evicted_in_time(bed: Bed) -> Result<()> {
    let node = bed.cluster.name(1)?;
    bed.ready(tolerant("soon", &node, 2)).await?;
    bed.ready(tolerant("later", &node, 6)).await?;
    let begun = std::time::Instant::now();
    bed.patch("nodes", &node, json!({"spec": {"taints": taints()}})).await?;
    let watched = async {
        bed.gone("pods", "soon").await?;
        let (soon, later) = (begun.elapsed(), bed.try_get("pods", "later").await);
        bed.gone("pods", "later").await?;
        ensure!(soon >= Duration::from_secs(2), "evicted after {soon:?}");
        ensure!(begun.elapsed() >= Duration::from_secs(6), "evicted after {:?}", begun.elapsed());
        ensure!(later.is_ok() || soon >= Duration::from_secs(6), "both went at once");
        Ok(())
    };
    let result = watched.await;
    bed.patch("nodes", &node, json!({"spec": {"taints": null}})).await?;
    result
}

/// A pod stays when the taint has gone before its time is over; that of another pod is longer.
pub(crate) async fn eviction_cancelled(bed: Bed) -> Result<()> {
    let node = bed.cluster.name(1)?;
    bed.ready(tolerant("stays", &node, 10)).await?;
    for taints in [taints(), Value::Null] {
        bed.patch("nodes", &node, json!({"spec": {"taints": taints}})).await?;
    }
    bed.ends(pod("clock", "sleep 12")).await?;
    let pod = bed.get("pods", "stays").await?;
    ensure!(!is_terminating(&pod), "{:#}", pod["metadata"]);
    Ok(())
}
