//! A node that is stopped for good first gives its pods away, so that others take their places; one that is started again
//! takes part again.

use std::time::{Duration, Instant};

use client::{Client, ClientError, Patch, Query};
use proto_kube::{GroupResource, Resource, object, resource};
use serde_json::{Value, json};

/// Marks a Node that was cordoned here, and by nobody else.
const CORDONED: &str = "cleat.dev/cordoned-by-down";
/// How long a disruption budget that forbids an eviction is waited for before it is asked again.
const AGAIN: Duration = Duration::from_millis(500);

fn find(plural: &'static str) -> Option<&'static Resource> {
    resource::preferred(GroupResource { group: "", resource: plural })
}

/// Cordons the node and evicts its pods, within `limit`; disruption budgets are kept as long as there is time. Gives how
/// many pods went, and why it was not all, if so.
pub(crate) async fn drain(client: &Client, node: &str, limit: Duration) -> (usize, Option<ClientError>) {
    let end = Instant::now() + limit;
    let mut gone = 0;
    let result = async {
        cordon(client, node).await?;
        let leaving = pods(client, node).await?;
        for pod in leaving.iter().filter(|pod| !object::is_terminating(pod)) {
            evict(client, pod, end).await?;
            gone += 1;
        }
        // While the agent runs it tells the API server of their end; nobody could do so later.
        for pod in &leaving {
            while Instant::now() < end && is_there(client, pod).await? {
                tokio::time::sleep(AGAIN).await;
            }
        }
        Ok(())
    };
    let failed = result.await.err();
    (gone, failed)
}

async fn is_there(client: &Client, pod: &Value) -> Result<bool, ClientError> {
    let Some(pods) = find("pods") else { return Ok(false) };
    match client.get(pods, object::namespace(pod), object::name(pod)).await {
        Ok(now) => Ok(object::uid(&now) == object::uid(pod)),
        Err(error) if error.code() == Some(404) => Ok(false),
        // The node may not look at pods that are not its own: one of the name is on another.
        Err(error) if error.code() == Some(403) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn cordon(client: &Client, node: &str) -> Result<(), ClientError> {
    let Some(nodes) = find("nodes") else { return Ok(()) };
    let change =
        json!({ "metadata": { "annotations": { CORDONED: "true" } }, "spec": { "unschedulable": true } });
    if client.get(nodes, "", node).await?["spec"]["unschedulable"] == true {
        return Ok(());
    }
    client.patch((nodes, "", node), None, (Patch::Merge, &change), Query::default()).await.map(drop)
}

/// Lets a node that [`drain`] cordoned take pods again. What cannot be asked now is left as it is.
pub(crate) async fn restore(client: &Client, node: &str) {
    let Some(nodes) = find("nodes") else { return };
    let Ok(object) = client.get(nodes, "", node).await else { return };
    if !object::annotations(&object).any(|(key, _)| key == CORDONED) {
        return;
    }
    let change =
        json!({ "metadata": { "annotations": { CORDONED: null } }, "spec": { "unschedulable": null } });
    let changed = client.patch((nodes, "", node), None, (Patch::Merge, &change), Query::default()).await;
    if let Err(error) = changed {
        tracing::warn!(node, %error, "the node stays cordoned: kubectl uncordon it");
    }
}

/// The pods that others can take over, and those that are ending already: neither static ones nor those of DaemonSets.
async fn pods(client: &Client, node: &str) -> Result<Vec<Value>, ClientError> {
    let Some(pods) = find("pods") else { return Ok(Vec::new()) };
    let of_node = Query::default().with("fieldSelector", &format!("spec.nodeName={node}"));
    let mut list = client.list(pods, "", of_node).await?;
    let Value::Array(mut all) = list["items"].take() else { return Ok(Vec::new()) };
    all.retain(|pod| {
        let mirror = object::annotations(pod).any(|(key, _)| key == "kubernetes.io/config.mirror");
        let stays = object::items(pod, &["metadata", "ownerReferences"])
            .any(|owner| owner["controller"] == true && owner["kind"] == "DaemonSet");
        !mirror && !stays
    });
    Ok(all)
}

async fn evict(client: &Client, pod: &Value, end: Instant) -> Result<(), ClientError> {
    let Some(pods) = find("pods") else { return Ok(()) };
    let (namespace, name) = (object::namespace(pod), object::name(pod));
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
                           "metadata": { "name": name, "namespace": namespace } });
    let path = format!("{}/eviction", pods.path(namespace, name));
    loop {
        let body = bytes::Bytes::from(eviction.to_string());
        match client.call(http::Method::POST, &path, Some(("application/json", body))).await {
            Err(error) if error.code() == Some(429) && Instant::now() < end => {
                tokio::time::sleep(AGAIN).await
            }
            Err(error) if error.code() == Some(404) => return Ok(()),
            done => return done.map(drop),
        }
    }
}
