//! DaemonSets and their revisions.

use anyhow::{Context, Result, ensure};
use conformance::{Bed, with_spec};
use proto_kube::object::{items, label, name, number, text, uid};
use serde_json::{Value, json};

use crate::replicas::WEB;
use crate::workload::{image, is_observed, is_ready, owner, ready_pods, status_of, template, workload};

const SETS: &str = "daemonsets";
const REVISIONS: &str = "controllerrevisions";

/// Whether so many nodes are to run its pod, and all do: of the newest template, and available.
fn is_everywhere(set: &Value, nodes: i64) -> bool {
    let status = |field: &str| number(set, &["status", field]).unwrap_or(0);
    let all =
        ["desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable"];
    is_observed(set) && all.iter().all(|field| status(field) == nodes)
}

/// Creates a daemon set and waits for its pods on both nodes; gives it, and them.
async fn running(bed: &Bed, app: &str) -> Result<(Value, Vec<Value>)> {
    bed.create(SETS, workload(SETS, app, 0)).await?;
    let set = bed.until(SETS, app, |set| is_everywhere(set, 2)).await?;
    let pods = ready_pods(bed, app, 2).await?;
    let nodes = [node(&pods[0]), node(&pods[1])];
    ensure!(nodes[0] != nodes[1] && pods.iter().all(|pod| owner(pod) == uid(&set)), "{pods:#?}");
    Ok((set, pods))
}

fn node(pod: &Value) -> &str {
    text(pod, &["spec", "nodeName"])
}

/// Waits for another pod on the node of this one.
async fn replaced(bed: &Bed, app: &str, pod: &Value) -> Result<()> {
    let other = |pods: &[Value]| {
        pods.iter().all(|p| uid(p) != uid(pod)) && pods.iter().any(|p| node(p) == node(pod) && is_ready(p))
    };
    bed.until_all("pods", &format!("app={app}"), other).await.map(drop)
}

pub(crate) async fn simple(bed: Bed) -> Result<()> {
    let (_, pods) = running(&bed, "simple").await?;
    bed.delete("pods", name(&pods[0])).await?;
    replaced(&bed, "simple", &pods[0]).await
}

pub(crate) async fn retried(bed: Bed) -> Result<()> {
    let (_, pods) = running(&bed, "retried").await?;
    bed.patch("pods", &format!("{}/status", name(&pods[0])), json!({"status": {"phase": "Failed"}})).await?;
    bed.gone("pods", name(&pods[0])).await?;
    replaced(&bed, "retried", &pods[0]).await
}

/// The pods follow the labels of the nodes.
pub(crate) async fn complex(bed: Bed) -> Result<()> {
    let key = format!("example.com/{}", bed.namespace);
    let chooses = |color: &str| json!({"template": {"spec": {"nodeSelector": {&key: color}}}});
    let paint = |color: Value| json!({"metadata": {"labels": {&key: color}}});
    bed.create(SETS, with_spec(workload(SETS, "complex", 0), chooses("blue"))).await?;
    bed.until(SETS, "complex", |set| is_everywhere(set, 0)).await?;
    let nodes = bed.list("nodes", "").await?;
    let chosen = name(&nodes[0]);
    bed.patch("nodes", chosen, paint("blue".into())).await?;
    bed.until(SETS, "complex", |set| is_everywhere(set, 1)).await?;
    ensure!(node(&ready_pods(&bed, "complex", 1).await?[0]) == chosen, "not on {chosen}");
    bed.patch("nodes", chosen, paint("green".into())).await?;
    bed.until(SETS, "complex", |set| is_everywhere(set, 0)).await?;
    bed.until_all("pods", "app=complex", <[Value]>::is_empty).await?;
    bed.patch(SETS, "complex", json!({"spec": chooses("green")})).await?;
    bed.until(SETS, "complex", |set| is_everywhere(set, 1)).await?;
    ensure!(node(&ready_pods(&bed, "complex", 1).await?[0]) == chosen, "not on {chosen}");
    bed.patch("nodes", chosen, paint(Value::Null)).await.map(drop)
}

pub(crate) async fn rolling_update(bed: Bed) -> Result<()> {
    let (_, old) = running(&bed, "rolls").await?;
    bed.patch(SETS, "rolls", json!({"spec": {"template": template("rolls", WEB)}})).await?;
    bed.until(SETS, "rolls", |set| is_everywhere(set, 2)).await?;
    let revisions = bed.list(REVISIONS, "app=rolls").await?;
    let newest = revisions.iter().max_by_key(|r| number(r, &["revision"])).context("no revision")?;
    ensure!(revisions.len() == 2 && newest["revision"] == 2, "{revisions:#?}");
    let hash = |object: &Value| label(object, "controller-revision-hash").map(str::to_owned);
    for pod in ready_pods(&bed, "rolls", 2).await? {
        ensure!(hash(&pod) == hash(newest), "{pod:#}");
        ensure!(old.iter().all(|old| uid(old) != uid(&pod)), "{pod:#}");
    }
    Ok(())
}

/// A rollout that cannot go on is taken back; the pods that it had not reached run on.
pub(crate) async fn rollback(bed: Bed) -> Result<()> {
    let (_, old) = running(&bed, "back").await?;
    let with_image = |image: &str| {
        json!({"spec": {"template": {"spec": {"containers": [
        {"name": "c", "image": image, "command": old[0]["spec"]["containers"][0]["command"]}]}}}})
    };
    bed.patch(SETS, "back", with_image("busybox:none")).await?;
    let stuck = |pods: &[Value]| pods.iter().any(|pod| image(pod) == "busybox:none");
    let pods = bed.until_all("pods", "app=back", stuck).await?;
    let untouched: Vec<&Value> = pods.iter().filter(|pod| is_ready(pod)).collect();
    ensure!(untouched.len() == 1, "{pods:#?}");
    bed.patch(SETS, "back", with_image(image(&old[0]))).await?;
    bed.until(SETS, "back", |set| is_everywhere(set, 2)).await?;
    let pods = ready_pods(&bed, "back", 2).await?;
    let same = pods.iter().find(|pod| uid(pod) == uid(untouched[0])).context("the good pod was replaced")?;
    ensure!(items(same, &["status", "containerStatuses"]).all(|c| c["restartCount"] == 0), "{same:#}");
    Ok(())
}

pub(crate) async fn status(bed: Bed) -> Result<()> {
    let (set, _) = running(&bed, "told").await?;
    status_of(&bed, SETS, &set).await
}

pub(crate) async fn revisions(bed: Bed) -> Result<()> {
    running(&bed, "revised").await?;
    let count = |wanted: usize| bed.until_all(REVISIONS, "app=revised", move |all| all.len() == wanted);
    let first = count(1).await?.remove(0);
    let labelled =
        bed.patch(REVISIONS, name(&first), json!({"metadata": {"labels": {"patched": "yes"}}})).await?;
    ensure!(label(&labelled, "patched") == Some("yes"), "{labelled:#}");
    // The same as the first, so that the set takes it as the current one when the first is gone.
    let second = json!({"metadata": {"name": "second", "labels": first["metadata"]["labels"],
        "ownerReferences": first["metadata"]["ownerReferences"]}, "data": first["data"], "revision": 2});
    bed.create(REVISIONS, second).await?;
    count(2).await?;
    bed.delete(REVISIONS, name(&first)).await?;
    bed.gone(REVISIONS, name(&first)).await?;
    let second = count(1).await?.remove(0);
    let change = |revision: &mut Value| revision["metadata"]["labels"]["updated"] = "yes".into();
    bed.update(REVISIONS, name(&second), change).await?;
    ensure!(bed.list(REVISIONS, "updated=yes").await?.len() == 1, "the label is not there");
    bed.patch(SETS, "revised", json!({"spec": {"template": template("revised", WEB)}})).await?;
    count(2).await?;
    // Not before its pods are gone: the set needs their revision.
    bed.until(SETS, "revised", |set| is_everywhere(set, 2)).await?;
    bed.delete_all(REVISIONS, "updated=yes").await?;
    let current = count(1).await?.remove(0);
    ensure!(current["revision"] == 3, "{current:#}");
    Ok(())
}
