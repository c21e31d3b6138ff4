//! StatefulSets.

use anyhow::{Context, Result, ensure};
use client::{Patch, Watch, WatchEvent};
use conformance::{Bed, FOREVER, PATIENCE, pod, seen, with, with_container, with_spec};
use proto_kube::object::{is_terminating, label, name, number, text, uid};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::workload::{is_observed, is_ready, owner, ready_pods, workload};

const SETS: &str = "statefulsets";
const HASH: &str = "controller-revision-hash";

/// The condition without which a pod of [`gated`] is not Ready.
const GATE: &str = "example.com/fit";

fn set(name: &str, replicas: usize) -> Value {
    with_spec(workload(SETS, name, replicas), json!({"serviceName": name}))
}

/// A set whose pods are Ready when [`fit`] says so.
fn gated(name: &str, replicas: usize) -> Value {
    with(set(name, replicas), "/spec/template/spec", json!({"readinessGates": [{"conditionType": GATE}]}))
}

/// Creates a set, and waits until its pods are ready.
async fn running(bed: &Bed, set: Value) -> Result<Vec<Value>> {
    let replicas = set["spec"]["replicas"].as_u64().unwrap_or(1);
    let set = bed.create(SETS, set).await?;
    ready_pods(bed, name(&set), usize::try_from(replicas)?).await
}

async fn scale(bed: &Bed, set: &str, replicas: usize) -> Result<()> {
    bed.patch(SETS, &format!("{set}/scale"), json!({"spec": {"replicas": replicas}})).await?;
    bed.until(SETS, set, |set| set["spec"]["replicas"] == replicas && is_observed(set)).await?;
    Ok(())
}

/// Waits for a pod of a [`gated`] set, and lets it be Ready, or cease to be.
async fn fit(bed: &Bed, pod: &str, fit: bool) -> Result<()> {
    bed.until("pods", pod, |pod| text(pod, &["status", "phase"]) == "Running").await?;
    let condition = json!({"type": GATE, "status": if fit { "True" } else { "False" }});
    let patch = (Patch::Strategic, json!({"status": {"conditions": [condition]}}));
    bed.patch_as("pods", &format!("{pod}/status"), patch).await?;
    bed.until("pods", pod, |pod| is_ready(pod) == fit).await.map(drop)
}

/// The names of the pods of the next so many events of a kind, `ADDED` or `DELETED`.
async fn order(watch: &mut Watch, kind: &str, count: usize) -> Result<Vec<String>> {
    let mut names = Vec::new();
    while names.len() < count {
        names.push(name(&seen(watch, kind, |_| true).await?).to_owned());
    }
    Ok(names)
}

pub(crate) async fn in_order(bed: Bed) -> Result<()> {
    let alone = async |count: usize| {
        let pods = bed.list("pods", "app=order").await?;
        let stay = pods.len() == count && !pods.iter().any(is_terminating);
        ensure!(stay, "it was scaled though pods are not ready: {pods:#?}");
        Ok(())
    };
    let mut watch = bed.watch("pods", "app=order", "").await?;
    bed.create(SETS, gated("order", 1)).await?;
    fit(&bed, "order-0", true).await?;
    fit(&bed, "order-0", false).await?;
    scale(&bed, "order", 3).await?;
    alone(1).await?;
    fit(&bed, "order-0", true).await?;
    bed.until("pods", "order-1", |pod| text(pod, &["status", "phase"]) == "Running").await?;
    alone(2).await?;
    fit(&bed, "order-1", true).await?;
    fit(&bed, "order-2", true).await?;
    let added = order(&mut watch, "ADDED", 3).await?;
    ensure!(added == ["order-0", "order-1", "order-2"], "{added:?}");

    for pod in &added {
        fit(&bed, pod, false).await?;
    }
    bed.until(SETS, "order", |set| number(set, &["status", "readyReplicas"]).unwrap_or(0) == 0).await?;
    scale(&bed, "order", 0).await?;
    alone(3).await?;
    // The last may go as it is once the others are well.
    fit(&bed, "order-0", true).await?;
    fit(&bed, "order-1", true).await?;
    let deleted = order(&mut watch, "DELETED", 3).await?;
    ensure!(deleted == ["order-2", "order-1", "order-0"], "{deleted:?}");
    Ok(())
}

/// All at once, though none is ready.
pub(crate) async fn burst(bed: Bed) -> Result<()> {
    bed.create(SETS, with_spec(gated("burst", 1), json!({"podManagementPolicy": "Parallel"}))).await?;
    fit(&bed, "burst-0", false).await?;
    scale(&bed, "burst", 3).await?;
    for pod in ["burst-2", "burst-1"] {
        fit(&bed, pod, false).await?;
    }
    bed.until(SETS, "burst", |set| set["status"]["replicas"] == 3).await?;
    scale(&bed, "burst", 0).await?;
    bed.until_all("pods", "app=burst", <[Value]>::is_empty).await?;
    bed.until(SETS, "burst", |set| set["status"]["replicas"] == 0).await?;
    Ok(())
}

/// Its pod is refused by the node as long as another has its port.
pub(crate) async fn evicted(bed: Bed) -> Result<()> {
    let ports = json!({"ports": [{"containerPort": 80, "hostPort": 21017}]});
    let holder = bed.ready(with_container(pod("holder", FOREVER), ports.clone())).await?;
    let node = text(&holder, &["spec", "nodeName"]);
    let mut watch = bed.watch("pods", "app=evicted", "").await?;
    let template = json!({"template": {"spec": {"nodeName": node}}});
    let set = with(set("evicted", 1), "/spec/template/spec/containers/0", ports);
    bed.create(SETS, with_spec(set, template)).await?;
    let failed = seen(&mut watch, "MODIFIED", |pod| text(pod, &["status", "phase"]) == "Failed").await?;
    let deleted = seen(&mut watch, "DELETED", |pod| uid(pod) == uid(&failed)).await?;
    bed.delete("pods", "holder").await?;
    bed.gone("pods", "holder").await?;
    let pod = bed.until("pods", "evicted-0", is_ready).await?;
    ensure!(uid(&pod) != uid(&deleted) && owner(&pod) == owner(&deleted), "{pod:#}");
    Ok(())
}

/// Another template: one that tells its number.
fn change(number: u32) -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {"number": number.to_string()}}}}})
}

/// Waits until each pod is Ready and of the revision that stands at its ordinal; gives the pods in their order.
async fn revisions(bed: &Bed, set: &str, wanted: &[&str]) -> Result<Vec<Value>> {
    let fit = |pods: &[Value]| {
        pods.len() == wanted.len()
            && pods.iter().zip(wanted).all(|(pod, wanted)| is_ready(pod) && label(pod, HASH) == Some(wanted))
    };
    bed.until_all("pods", &format!("app={set}"), fit).await
}

/// Waits for a new template's revision; gives the current one too.
async fn update_revision(bed: &Bed, set: &str) -> Result<[String; 2]> {
    let set = bed.until(SETS, set, is_observed).await?;
    Ok(["currentRevision", "updateRevision"].map(|field| text(&set, &["status", field]).to_owned()))
}

/// Waits until no pod is of another revision, according to the status.
async fn complete(bed: &Bed, set: &str, revision: &str) -> Result<()> {
    let done = |set: &Value| {
        let status = &set["status"];
        status["currentRevision"] == revision && status["updateRevision"] == revision && is_observed(set)
    };
    bed.until(SETS, set, done).await.map(drop)
}

pub(crate) async fn canary(bed: Bed) -> Result<()> {
    let partition = |from: u32| json!({"updateStrategy": {"rollingUpdate": {"partition": from}}});
    running(&bed, with_spec(set("canary", 3), partition(3))).await?;
    bed.patch(SETS, "canary", change(1)).await?;
    let [old, new] = update_revision(&bed, "canary").await?;
    ensure!(old != new, "there is no new revision");
    let [old, new] = [old.as_str(), new.as_str()];
    revisions(&bed, "canary", &[old, old, old]).await?;
    bed.patch(SETS, "canary", json!({"spec": partition(2)})).await?;
    revisions(&bed, "canary", &[old, old, new]).await?;
    for pod in ["canary-0", "canary-2"] {
        bed.delete("pods", pod).await?;
        bed.until("pods", pod, |pod| !is_terminating(pod)).await?;
        revisions(&bed, "canary", &[old, old, new]).await?;
    }
    bed.patch(SETS, "canary", json!({"spec": partition(1)})).await?;
    revisions(&bed, "canary", &[old, new, new]).await?;
    bed.patch(SETS, "canary", json!({"spec": partition(0)})).await?;
    revisions(&bed, "canary", &[new, new, new]).await?;
    complete(&bed, "canary", new).await
}

/// Pods are replaced from the last to the first, each when the one before it is Ready.
async fn one_at_a_time(watch: &mut Watch) -> Result<()> {
    let mut away: Option<String> = None;
    let mut replaced = Vec::new();
    while replaced.len() < 3 {
        let event = timeout(PATIENCE, watch.next()).await.context("no pod changes")??;
        match event.context("the watch has ended")? {
            WatchEvent::Deleted(pod) => {
                ensure!(away.is_none(), "{} went while {away:?} was away", name(&pod));
                away = Some(name(&pod).to_owned());
            }
            WatchEvent::Modified(pod) if is_ready(&pod) && away.as_deref() == Some(name(&pod)) => {
                replaced.extend(away.take());
            }
            _ => {}
        }
    }
    ensure!(
        replaced.iter().rev().enumerate().all(|(at, pod)| pod.ends_with(&format!("-{at}"))),
        "{replaced:?}"
    );
    Ok(())
}

pub(crate) async fn rolled_back(bed: Bed) -> Result<()> {
    running(&bed, with(set("roll", 3), "/spec/template/metadata", json!({"annotations": {"number": "0"}})))
        .await?;
    let [first, same] = update_revision(&bed, "roll").await?;
    ensure!(first == same, "{first} is not {same}");
    let mut watch = bed.watch("pods", "app=roll", "").await?;
    bed.patch(SETS, "roll", change(1)).await?;
    let [_, second] = update_revision(&bed, "roll").await?;
    ensure!(first != second, "there is no new revision");
    one_at_a_time(&mut watch).await?;
    revisions(&bed, "roll", &[second.as_str(); 3]).await?;
    complete(&bed, "roll", &second).await?;

    bed.patch(SETS, "roll", change(0)).await?;
    let [current, back] = update_revision(&bed, "roll").await?;
    ensure!(current == second && back == first, "{current} goes to {back} instead of {first}");
    one_at_a_time(&mut watch).await?;
    revisions(&bed, "roll", &[first.as_str(); 3]).await?;
    complete(&bed, "roll", &first).await?;
    let all = bed.list("controllerrevisions", "app=roll").await?;
    ensure!(all.len() == 2, "{all:#?}");
    Ok(())
}
