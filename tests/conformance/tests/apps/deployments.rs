//! Deployments.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use client::{Query, WatchEvent};
use conformance::{Bed, PATIENCE, holds, of, seen, with_spec};
use proto_kube::object::{items, name, number, text, uid};
use serde_json::{Value, json};

use crate::replicas::WEB;
use crate::workload::{has_ready, is_observed, owner, ready_pods, running, status_of, template, workload};

const DEPLOYMENTS: &str = "deployments";

/// Whether all replicas are of the newest template, and available.
fn is_complete(deployment: &Value) -> bool {
    let replicas = number(deployment, &["spec", "replicas"]).unwrap_or(1);
    let status = |field: &str| number(deployment, &["status", field]).unwrap_or(0);
    has_ready(deployment, replicas)
        && status("updatedReplicas") == replicas
        && status("availableReplicas") == replicas
}

/// A deployment whose pods do something other than those of [`workload`].
fn other(app: &str, replicas: usize) -> Value {
    with_spec(workload(DEPLOYMENTS, app, replicas), json!({"template": template(app, WEB)}))
}

/// New pods come when the old ones are over.
pub(crate) async fn recreate(bed: Bed) -> Result<()> {
    let deployment = workload(DEPLOYMENTS, "anew", 2);
    running(&bed, DEPLOYMENTS, with_spec(deployment, json!({"strategy": {"type": "Recreate"}}))).await?;
    let mut old: BTreeSet<String> =
        ready_pods(&bed, "anew", 2).await?.iter().map(|pod| uid(pod).to_owned()).collect();
    let mut watch = bed.watch("pods", "app=anew", "").await?;
    let all = old.clone();
    bed.patch(DEPLOYMENTS, "anew", json!({"spec": {"template": template("anew", WEB)}})).await?;
    let first_new = async {
        loop {
            match watch.next().await?.context("the watch has ended")? {
                WatchEvent::Added(pod) if !all.contains(uid(&pod)) => return anyhow::Ok(pod),
                WatchEvent::Deleted(pod) => drop(old.remove(uid(&pod))),
                WatchEvent::Modified(pod)
                    if matches!(text(&pod, &["status", "phase"]), "Succeeded" | "Failed") =>
                {
                    old.remove(uid(&pod));
                }
                _ => {}
            }
        }
    };
    let new = tokio::time::timeout(PATIENCE, first_new).await.context("no new pod")??;
    ensure!(old.is_empty(), "{} was there before {old:?} were over", name(&new));
    bed.until(DEPLOYMENTS, "anew", is_complete).await?;
    Ok(())
}

/// A set that the deployment has adopted gives way to the one of its template.
pub(crate) async fn rolling_update(bed: Bed) -> Result<()> {
    let old = running(&bed, "replicasets", workload("replicasets", "roll", 1)).await?;
    let deployment = bed.create(DEPLOYMENTS, other("roll", 1)).await?;
    bed.until(DEPLOYMENTS, "roll", is_complete).await?;
    let sets = bed.list("replicasets", "app=roll").await?;
    ensure!(sets.len() == 2 && sets.iter().all(|set| owner(set) == uid(&deployment)), "{sets:#?}");
    for set in sets {
        let wanted = i64::from(uid(&set) != uid(&old));
        bed.until("replicasets", name(&set), |set| has_ready(set, wanted)).await?;
    }
    ready_pods(&bed, "roll", 1).await.map(drop)
}

pub(crate) async fn history(bed: Bed) -> Result<()> {
    let old = running(&bed, "replicasets", workload("replicasets", "old", 1)).await?;
    bed.create(DEPLOYMENTS, with_spec(other("old", 1), json!({"revisionHistoryLimit": 0}))).await?;
    let left = |sets: &[Value]| sets.len() == 1 && uid(&sets[0]) != uid(&old);
    bed.until_all("replicasets", "app=old", left).await?;
    bed.until(DEPLOYMENTS, "old", is_complete).await?;
    Ok(())
}

/// A change during a rollout begins the next one at once.
pub(crate) async fn rollover(bed: Bed) -> Result<()> {
    running(&bed, "replicasets", workload("replicasets", "over", 1)).await?;
    let stuck = json!({"template": {"spec": {"containers": [{"name": "c", "image": "busybox:none"}]}}});
    let rolling = json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    let deployment = with_spec(workload(DEPLOYMENTS, "over", 1), json!({"strategy": rolling}));
    bed.create(DEPLOYMENTS, with_spec(deployment, stuck)).await?;
    bed.until(DEPLOYMENTS, "over", |d| is_observed(d) && d["status"]["updatedReplicas"] == 1).await?;
    bed.patch(DEPLOYMENTS, "over", json!({"spec": {"template": template("over", WEB)}})).await?;
    bed.until(DEPLOYMENTS, "over", is_complete).await?;
    let settled = |sets: &[Value]| {
        sets.len() == 3
            && sets.iter().filter(|set| has_ready(set, 1)).count() == 1
            && sets.iter().filter(|set| has_ready(set, 0)).count() == 2
    };
    bed.until_all("replicasets", "app=over", settled).await?;
    Ok(())
}

/// In the middle of a rollout, new replicas are shared among the sets by their sizes.
pub(crate) async fn proportional(bed: Bed) -> Result<()> {
    let rolling = json!({"strategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 2}}});
    running(&bed, DEPLOYMENTS, with_spec(workload(DEPLOYMENTS, "share", 5), rolling)).await?;
    let image = json!([{"name": "c", "image": "busybox:none"}]);
    bed.patch(DEPLOYMENTS, "share", json!({"spec": {"template": {"spec": {"containers": image}}}})).await?;
    let sizes = |sets: &[Value], field: &str| -> Vec<i64> {
        let mut sizes: Vec<i64> = sets.iter().filter_map(|set| number(set, &[field, "replicas"])).collect();
        sizes.sort_unstable();
        sizes
    };
    let both =
        |sets: &[Value], wanted: [i64; 2]| sizes(sets, "spec") == wanted && sizes(sets, "status") == wanted;
    bed.until_all("replicasets", "app=share", |sets| both(sets, [3, 4])).await?;
    bed.until(DEPLOYMENTS, "share", |d| is_observed(d) && d["status"]["availableReplicas"] == 4).await?;
    bed.patch(DEPLOYMENTS, "share", json!({"spec": {"replicas": 10}})).await?;
    // Twelve may be there: 4/7 and 3/7 of them.
    bed.until_all("replicasets", "app=share", |sets| both(sets, [5, 7])).await?;
    Ok(())
}

pub(crate) async fn lifecycle(bed: Bed) -> Result<()> {
    let mut watch = bed.watch(DEPLOYMENTS, "app=life", "").await?;
    bed.create(DEPLOYMENTS, workload(DEPLOYMENTS, "life", 2)).await?;
    seen(&mut watch, "ADDED", |d| name(d) == "life").await?;
    seen(&mut watch, "MODIFIED", is_complete).await?;
    let patch = json!({"metadata": {"labels": {"patched": "yes"}},
        "spec": {"replicas": 1, "template": {"spec": {"terminationGracePeriodSeconds": 2}}}});
    bed.patch(DEPLOYMENTS, "life", patch.clone()).await?;
    seen(&mut watch, "MODIFIED", |d| holds(d, &patch)).await?;
    seen(&mut watch, "MODIFIED", |d| is_complete(d) && d["spec"]["replicas"] == 1).await?;
    let all =
        bed.client.list(of(DEPLOYMENTS), "", Query::default().with("labelSelector", "app=life,patched=yes"));
    ensure!(items(&all.await?, &["items"]).any(|d| name(d) == "life"), "it is not listed");
    bed.update(DEPLOYMENTS, "life", |d| d["spec"]["template"] = template("life", WEB)).await?;
    seen(&mut watch, "MODIFIED", is_complete).await?;
    bed.patch(DEPLOYMENTS, "life/scale", json!({"spec": {"replicas": 2}})).await?;
    let deployment = bed.until(DEPLOYMENTS, "life", is_complete).await?;
    ensure!(deployment["spec"]["replicas"] == 2, "{deployment:#}");
    status_of(&bed, DEPLOYMENTS, &deployment).await?;
    bed.delete_all(DEPLOYMENTS, "app=life").await?;
    seen(&mut watch, "DELETED", |d| name(d) == "life").await?;
    bed.until_all("pods", "", <[Value]>::is_empty).await?;
    Ok(())
}
