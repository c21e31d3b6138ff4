//! `kill -9` at every crash point of a pod's life. The points are read from the sources, so a new one is tested by
//! being there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use lab::{Node, Snapshot, wait};

use crate::pod;

const POD: [(&str, &str); 1] = [(
    "c",
    "command: [sh, -c, \"trap 'exit 0' TERM; sleep 600 & wait\"]\n\
     volumeMounts: [{name: v, mountPath: /v}]\n\
     ports: [{containerPort: 80, hostPort: 8081}]\n\
     resources: {limits: {memory: 32Mi}}\n\
     lifecycle: {preStop: {exec: {command: ['true']}}}",
)];
const SPEC: &str = "terminationGracePeriodSeconds: 5\nvolumes: [{name: v, emptyDir: {}}]\n\
     initContainers: [{name: i, image: busybox:1.35, command: ['true']}]";

/// The names in `crash::point("…")` below a folder of the workspace, without tests.
fn points(folder: &str) -> Result<BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)?.flatten() {
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if entry.path().extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(entry.path())?;
                let names = text.split("point(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    Ok(found)
}

/// One pod's life with a crash on its way. True: `cleat` died at the point.
fn life(node: &mut Node, point: &str, before: &Snapshot) -> Result<bool> {
    node.apply("crash.yaml", &pod("crash", SPEC, &POD))?;
    node.start_with(|command| {
        command.env("CLEAT_CRASH_AT", point);
    })?;
    let mut crashed =
        dies_or(node, |node| node.pod("crash").is_ok_and(|p| p.as_ref().is_some_and(lab::node::is_ready)))?;
    if !crashed {
        node.remove("crash.yaml")?;
        crashed = dies_or(node, |node| node.pod("crash").is_ok_and(|pod| pod.is_none()))?;
    }
    if !crashed {
        // A point of another process; what it left is found by the next start all the same.
        node.kill()?;
    }
    node.start()?;
    if node.manifests().join("crash.yaml").exists() {
        node.wait_pod_ready("crash")?;
        let containers = node.ctl_json(&["get", "containers"])?;
        let running = containers["items"].as_array().into_iter().flatten();
        let running = running
            .filter(|c| c.to_string().contains("RUNNING") || c.to_string().contains("Running"))
            .count();
        ensure!(running == 1, "{running} running containers: {containers:#}");
        node.remove("crash.yaml")?;
    }
    node.wait_pod_gone("crash", 30)?;
    before.expect_nothing_new(20, || node.snapshot())?;
    node.kill()?;
    Ok(crashed)
}

/// Waits until `cleat` dies (true) or `done` (false).
fn dies_or(node: &mut Node, done: impl Fn(&Node) -> bool) -> Result<bool> {
    wait::until("a crash, or the pod to come so far", 40, || {
        if !node.is_running() {
            return Ok(Ok(true));
        }
        Ok(if done(node) { Ok(false) } else { Err(node.log().lines().last().unwrap_or_default().to_owned()) })
    })
}

/// A node in use that is not running, and what stands on its machine while it runs without pods.
fn fresh() -> Result<(Node, Snapshot)> {
    let mut node = crate::pods::warm()?;
    let before = node.snapshot()?;
    node.kill()?;
    Ok((node, before))
}

/// Every point of these folders; the node must die at each of those in `reached`.
fn at_every_point(folders: &[&str], reached: bool) -> Result<()> {
    let (mut node, mut before) = fresh()?;
    let mut failures = Vec::new();
    let mut points: BTreeSet<String> = BTreeSet::new();
    for folder in folders {
        points.extend(self::points(folder)?);
    }
    ensure!(!points.is_empty(), "there is no crash point in {folders:?}");
    for point in &points {
        match life(&mut node, point, &before) {
            Ok(true) => println!("{point}: crashed and recovered"),
            Ok(false) if !reached => {
                println!("{point}: not of the node's own process on this way; recovered")
            }
            Ok(false) => failures.push(format!("{point}: never reached in a pod's life")),
            Err(error) => {
                failures.push(format!("{point}: {error:#}"));
                // The rest is tested on a machine that this failure has not touched.
                (node, before) = fresh()?;
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} of {} crash points fail:\n{}", failures.len(), points.len(), failures.join("\n"))
}

#[test]
fn the_cri_server_recovers_from_every_point() -> Result<()> {
    at_every_point(&["runtime/cri/src"], true)
}

#[test]
fn the_agent_recovers_from_every_point() -> Result<()> {
    at_every_point(&["agent/src"], true)
}

#[test]
fn every_other_process_may_die_at_its_points() -> Result<()> {
    at_every_point(&["runtime/monitor/src", "cni"], false)
}
