//! Binds a pod to its node, and finds out whether it is bound.

use std::time::Duration;

use client::{Client, ClientError};
use http::Method;
use proto_kube::object;
use scheduler::Pod;
use scheduler::placing::Bound;
use serde_json::json;

use crate::apply::of;
use crate::queue;

/// Binds a pod to the node it has been given.
pub(super) async fn bind(client: &Client, pod: &Pod) -> Bound {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
        "target": {"kind": "Node", "name": pod.node},
    });
    let path = format!("{}/binding", of("", "pods").path(&pod.namespace, &pod.name));
    let Err(error) =
        client.call(Method::POST, &path, Some(("application/json", binding.to_string().into()))).await
    else {
        return Bound::Here { is_new: true };
    };
    let why = format!("running Bind plugin \"DefaultBinder\": {error}");
    match error.code() {
        Some(404) => find(client, pod, &why, false).await,
        Some(409 | 500..) | None => find(client, pod, &why, true).await,
        Some(_) => Bound::Free(why),
    }
}

/// Finds out where a pod is; asks until there is an answer. `why` is told of one that is nowhere.
pub(super) async fn find(client: &Client, pod: &Pod, why: &str, is_new: bool) -> Bound {
    let mut failures = 0;
    loop {
        match client.get(of("", "pods"), &pod.namespace, &pod.name).await {
            Ok(found) if object::uid(&found) != pod.uid => return Bound::Gone,
            Ok(found) => {
                return match object::text(&found, &["spec", "nodeName"]) {
                    "" => Bound::Free(why.to_owned()),
                    node if node == pod.node => Bound::Here { is_new },
                    _ => Bound::Elsewhere,
                };
            }
            Err(error) if error.code() == Some(404) => return Bound::Gone,
            Err(error) => tokio::time::sleep(wait(&error, &mut failures)).await,
        }
    }
}

fn wait(error: &ClientError, failures: &mut u32) -> Duration {
    *failures = failures.saturating_add(1);
    let least = if error.code() == Some(429) { Duration::from_secs(1) } else { Duration::from_millis(50) };
    queue::backoff(*failures).max(least).min(Duration::from_secs(10))
}
