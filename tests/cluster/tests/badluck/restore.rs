//! The control plane comes back from a backup while the nodes run on.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use lab::{Cluster, wait};
use serde_json::Value;

use super::{PATIENCE, answered_by, expect_untouched, pods, wait_pods, web};

#[test]
fn a_cluster_goes_back_to_a_backup_and_its_pods_go_on() -> Result<()> {
    let mut cluster = Cluster::apart(2, &[])?;
    cluster.start()?;
    cluster.apply(&web("kept", 2))?;
    cluster.kubectl(&["create", "configmap", "lost", "--from-literal=a=b"])?;
    let kept = wait_pods(&cluster, "kept", 2)?;
    // The whole store is lost, and the server with it.
    let first = backup(&mut cluster, "first")?;
    after_the_backup(&cluster)?;
    cluster.plane().kill()?;
    std::fs::remove_dir_all(cluster.plane().data().join("control/store"))?;
    cluster.control(&["control", "restore", &first])?;
    cluster.start_plane()?;
    as_in_the_backup(&cluster, &kept)?;
    // And so does a server that runs.
    let second = backup(&mut cluster, "second")?;
    after_the_backup(&cluster)?;
    cluster.control(&["control", "restore", &second])?;
    as_in_the_backup(&cluster, &kept)?;
    // Everybody sees what happens from here on.
    cluster.kubectl(&["scale", "deployment/kept", "--replicas=4"])?;
    let more = wait_pods(&cluster, "kept", 4)?;
    for from in [0, 1] {
        answered_by(&cluster, from, "kept", &more)?;
    }
    expect_untouched(&cluster, "kept", &more)
}

fn backup(cluster: &mut Cluster, name: &str) -> Result<String> {
    let file = cluster.plane().data().with_file_name(name).display().to_string();
    cluster.control(&["control", "backup", &file])?;
    Ok(file)
}

/// What will not have been.
fn after_the_backup(cluster: &Cluster) -> Result<()> {
    cluster.apply(&web("late", 2))?;
    cluster.kubectl(&["scale", "deployment/kept", "--replicas=3"])?;
    cluster.kubectl(&["delete", "configmap", "lost"])?;
    wait_pods(cluster, "late", 2)?;
    wait_pods(cluster, "kept", 3).map(drop)
}

fn as_in_the_backup(cluster: &Cluster, kept: &BTreeMap<String, Value>) -> Result<()> {
    cluster.wait_ready()?;
    let now = wait_pods(cluster, "kept", 2)?;
    ensure!(now.keys().eq(kept.keys()), "other pods are kept: {now:#?}");
    expect_untouched(cluster, "kept", kept)?;
    ensure!(cluster.get(&["configmap", "lost"])?["data"]["a"] == "b", "the config map is not back");
    wait::until("nothing of what came after the backup", PATIENCE, || {
        let left = pods(cluster, "late")?.len();
        let mut run = Vec::new();
        for node in cluster.nodes() {
            let apps = node.pods()?.into_iter().map(|pod| pod["metadata"]["labels"]["app"].clone());
            run.extend(apps.filter(|app| *app == "late" || *app == "kept"));
        }
        let done = left == 0 && run.len() == kept.len() && run.iter().all(|app| app == "kept");
        Ok(if done { Ok(()) } else { Err(format!("{left} pods; on the nodes {run:?}")) })
    })?;
    ensure!(cluster.get(&["deployment", "late"]).is_err(), "the late deployment is there");
    for from in [0, 1] {
        answered_by(cluster, from, "kept", kept)?;
    }
    Ok(())
}
