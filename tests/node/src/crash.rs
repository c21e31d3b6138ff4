//! `kill -9` at every crash point of a pod's life, and the start after it.

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
     lifecycle: {postStart: {exec: {command: ['true']}}, preStop: {exec: {command: ['true']}}}",
)];
const SPEC: &str = "terminationGracePeriodSeconds: 5\nvolumes: [{name: v, emptyDir: {}}]\n\
     initContainers: [{name: i, image: busybox:1.35, command: ['true']}]";

/// Points of the agent that no short life passes: its own tests do.
const ELSEWHERE: [&str; 1] = ["agent.log.renamed"];

/// The names in `crash::point("…")` of processes that `cleat` starts, below a folder of the workspace.
fn points(folder: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)?.flatten() {
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if entry.path().extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(entry.path())?;
                let names = text.split("crash::point(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    Ok(found)
}

/// One pod's life with a crash on its way. True: `cleat` died at the point.
fn life(node: &mut Node, point: &str, own: bool, before: &Snapshot) -> Result<bool> {
    let patience = if own { 12 } else { 5 };
    // The image is pulled in each life anew.
    node.cleat(&["image", "rm", "busybox:1.35"])?;
    node.apply("crash.yaml", &pod("crash", SPEC, &POD))?;
    node.start_with(|command| {
        command.env("CLEAT_CRASH_AT", point);
    })?;
    let is_ready = |node: &Node| node.pod("crash").is_ok_and(|p| p.as_ref().is_some_and(lab::node::is_ready));
    let mut crashed = dies_or(node, patience, is_ready);
    if !crashed && is_ready(node) {
        node.remove("crash.yaml")?;
        crashed = dies_or(node, patience, |node| node.pod("crash").is_ok_and(|pod| pod.is_none()));
    }
    // A point of another process may be passed again and again; the next start finds what is left.
    node.kill()?;
    node.start()?;
    if node.manifests().join("crash.yaml").exists() {
        // What died again and again is in its back-off.
        node.wait_pod("crash", "to be Ready", 120, lab::node::is_ready)?;
        let containers = node.ctl_json(&["get", "containers"])?;
        let all = containers["items"].as_array().into_iter().flatten();
        let running = all.filter(|c| c.to_string().to_ascii_lowercase().contains("running")).count();
        ensure!(running == 1, "{running} running containers: {containers:#}");
        node.remove("crash.yaml")?;
    }
    node.wait_pod_gone("crash", 30)?;
    before.expect_nothing_new(20, || node.snapshot())?;
    node.kill()?;
    Ok(crashed)
}

/// Waits until `cleat` dies (true), or `done`, or the pod does not get on (false).
fn dies_or(node: &mut Node, seconds: u64, done: impl Fn(&Node) -> bool) -> bool {
    let _the_caller_sees = wait::until_true("a crash", seconds, || !node.is_running() || done(node));
    !node.is_running()
}

/// A node in use that is not running, and what stands on its machine while it runs without pods.
fn fresh() -> Result<(Node, Snapshot)> {
    let mut node = crate::pods::warm()?;
    let before = node.snapshot()?;
    node.kill()?;
    Ok((node, before))
}

/// Lives through each point; `cleat` must die at those that are its `own`.
fn at_every_point(points: &BTreeSet<String>, own: bool) -> Result<()> {
    let (mut node, mut before) = fresh()?;
    let mut failures = Vec::new();
    ensure!(!points.is_empty(), "there are no crash points");
    for point in points {
        match life(&mut node, point, own, &before) {
            Ok(true) => println!("{point}: crashed and recovered"),
            Ok(false) if !own => println!("{point}: in a process that cleat starts; recovered"),
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

fn owned(points: &[&str]) -> BTreeSet<String> {
    points.iter().filter(|point| !ELSEWHERE.contains(point)).map(|point| (*point).to_owned()).collect()
}

#[test]
fn the_cri_server_recovers_from_every_point() -> Result<()> {
    at_every_point(&owned(cri::CRASH_POINTS), true)
}

#[test]
fn the_agent_recovers_from_every_point() -> Result<()> {
    at_every_point(&owned(agent::CRASH_POINTS), true)
}

#[test]
fn every_other_process_may_die_at_its_points() -> Result<()> {
    let mut points = points("runtime/monitor/src")?;
    points.extend(self::points("cni")?);
    at_every_point(&points, false)
}
