//! What goes with its owner, and what stays.

use anyhow::{Result, ensure};
use conformance::{Bed, FOREVER, pod};
use proto_kube::object::{is_terminating, items, name, uid};
use serde_json::{Value, json};

/// A template of pods that no node fits: they are there, but nothing runs.
fn template() -> Value {
    let mut template = pod("", FOREVER);
    template["metadata"] = json!({"labels": {"app": "a"}});
    template["spec"]["nodeSelector"] = json!({"no": "node"});
    template["spec"]["restartPolicy"] = "Always".into();
    template
}

async fn deployment(bed: &Bed) -> Result<()> {
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": template()});
    bed.create("deployments", json!({"metadata": {"name": "d"}, "spec": spec})).await?;
    bed.until_all("replicasets", "app=a", |sets| sets.len() == 1).await?;
    bed.until_all("pods", "app=a", |pods| pods.len() == 2).await?;
    Ok(())
}

async fn controller(bed: &Bed, name: &str, replicas: usize) -> Result<Value> {
    let spec = json!({"replicas": replicas, "selector": {"app": "a"}, "template": template()});
    let made =
        bed.create("replicationcontrollers", json!({"metadata": {"name": name}, "spec": spec})).await?;
    bed.until_all("pods", "app=a", |pods| pods.len() >= replicas).await?;
    Ok(made)
}

fn owner(kind: &str, object: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "name": name(object), "uid": uid(object)})
}

async fn delete(bed: &Bed, plural: &str, name: &str, policy: &str) -> Result<()> {
    bed.delete_with(plural, name, json!({"propagationPolicy": policy})).await
}

/// Waits until the collector has taken something that began after all that is there.
async fn collected(bed: &Bed) -> Result<()> {
    let above = bed.create("configmaps", json!({"metadata": {"name": "above"}})).await?;
    let metadata = json!({"name": "below", "ownerReferences": [owner("ConfigMap", &above)]});
    bed.create("configmaps", json!({"metadata": metadata})).await?;
    bed.delete("configmaps", "above").await?;
    bed.gone("configmaps", "below").await
}

fn owners(object: &Value) -> usize {
    items(object, &["metadata", "ownerReferences"]).count()
}

pub(crate) async fn deployment_in_background(bed: Bed) -> Result<()> {
    deployment(&bed).await?;
    delete(&bed, "deployments", "d", "Background").await?;
    bed.until_all("replicasets", "app=a", <[Value]>::is_empty).await?;
    bed.until_all("pods", "app=a", <[Value]>::is_empty).await?;
    bed.gone("deployments", "d").await
}

pub(crate) async fn deployment_orphans(bed: Bed) -> Result<()> {
    deployment(&bed).await?;
    delete(&bed, "deployments", "d", "Orphan").await?;
    bed.gone("deployments", "d").await?;
    bed.until_all("replicasets", "app=a", |sets| sets.len() == 1 && owners(&sets[0]) == 0).await?;
    collected(&bed).await?;
    let (sets, pods) = (bed.list("replicasets", "app=a").await?, bed.list("pods", "app=a").await?);
    ensure!(sets.len() == 1 && !is_terminating(&sets[0]), "{sets:#?}");
    ensure!(pods.len() == 2 && !pods.iter().any(is_terminating), "{pods:#?}");
    Ok(())
}

pub(crate) async fn controller_in_background(bed: Bed) -> Result<()> {
    controller(&bed, "rc", 2).await?;
    delete(&bed, "replicationcontrollers", "rc", "Background").await?;
    bed.until_all("pods", "app=a", <[Value]>::is_empty).await?;
    bed.gone("replicationcontrollers", "rc").await
}

/// So many pods of a controller.
const PODS: usize = 10;

pub(crate) async fn controller_orphans(bed: Bed) -> Result<()> {
    controller(&bed, "rc", PODS).await?;
    delete(&bed, "replicationcontrollers", "rc", "Orphan").await?;
    bed.gone("replicationcontrollers", "rc").await?;
    bed.until_all("pods", "app=a", |pods| pods.iter().all(|pod| owners(pod) == 0)).await?;
    collected(&bed).await?;
    let pods = bed.list("pods", "app=a").await?;
    ensure!(pods.len() == PODS && !pods.iter().any(is_terminating), "{pods:#?}");
    Ok(())
}

pub(crate) async fn controller_in_foreground(bed: Bed) -> Result<()> {
    controller(&bed, "rc", PODS).await?;
    let pods = bed.list("pods", "app=a").await?;
    let held = name(&pods[0]);
    bed.patch("pods", held, json!({"metadata": {"finalizers": ["example.com/held"]}})).await?;
    delete(&bed, "replicationcontrollers", "rc", "Foreground").await?;
    bed.until_all("pods", "app=a", |pods| pods.len() == 1 && is_terminating(&pods[0])).await?;
    collected(&bed).await?;
    let waiting = bed.get("replicationcontrollers", "rc").await?;
    ensure!(is_terminating(&waiting), "{waiting:#}");
    bed.patch("pods", held, json!({"metadata": {"finalizers": null}})).await?;
    bed.gone("replicationcontrollers", "rc").await?;
    ensure!(bed.list("pods", "app=a").await?.is_empty(), "a pod is left");
    Ok(())
}

pub(crate) async fn two_owners(bed: Bed) -> Result<()> {
    controller(&bed, "goes", PODS).await?;
    let spec = json!({"replicas": 0, "selector": {"app": "other"}, "template":
        {"metadata": {"labels": {"app": "other"}}, "spec": template()["spec"]}});
    let stays = json!({"metadata": {"name": "stays"}, "spec": spec});
    let stays = bed.create("replicationcontrollers", stays).await?;
    let pods = bed.list("pods", "app=a").await?;
    for pod in &pods[..PODS / 2] {
        let owner = owner("ReplicationController", &stays);
        bed.update("pods", name(pod), |pod| {
            if let Some(owners) = pod["metadata"]["ownerReferences"].as_array_mut() {
                owners.push(owner.clone());
            }
        })
        .await?;
    }
    delete(&bed, "replicationcontrollers", "goes", "Foreground").await?;
    bed.gone("replicationcontrollers", "goes").await?;
    collected(&bed).await?;
    let left = bed.until_all("pods", "app=a", |pods| pods.len() == PODS / 2).await?;
    let kept = |pod: &Value| {
        !is_terminating(pod) && owners(pod) == 1 && pod["metadata"]["ownerReferences"][0]["name"] == "stays"
    };
    ensure!(left.iter().all(kept), "{left:#?}");
    Ok(())
}

pub(crate) async fn circle(bed: Bed) -> Result<()> {
    let mut pods = Vec::new();
    for name in ["pod1", "pod2", "pod3"] {
        let mut pod = pod(name, FOREVER);
        pod["spec"]["nodeSelector"] = json!({"no": "node"});
        pods.push(bed.create("pods", pod).await?);
    }
    for (number, above) in [2, 0, 1].into_iter().enumerate() {
        let mut owner = owner("Pod", &pods[above]);
        owner["controller"] = true.into();
        owner["blockOwnerDeletion"] = true.into();
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        bed.patch("pods", name(&pods[number]), patch).await?;
    }
    delete(&bed, "pods", "pod1", "Foreground").await?;
    bed.until_all("pods", "", <[Value]>::is_empty).await?;
    Ok(())
}
