//! Containers outlive `cleat`: kill -9, and the next start finds everything as it is.

use std::fs;

use anyhow::{Context, Result, ensure};
use lab::node::container;
use lab::{Node, wait};
use serde_json::Value;

use crate::pod;

const COUNT: &str = "command: [sh, -c, 'n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done']";

fn ids(pod: &Value) -> Vec<&Value> {
    pod["status"]["containerStatuses"].as_array().into_iter().flatten().map(|c| &c["containerID"]).collect()
}

#[test]
fn running_containers_and_their_logs_are_not_touched() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    node.apply("count.yaml", &pod("count", "", &[("c", COUNT)]))?;
    let before = node.wait_pod_ready("count")?;
    for _ in 0..3 {
        node.kill()?;
        node.start()?;
    }
    let after = node.wait_pod_ready("count")?;
    ensure!(ids(&before) == ids(&after), "other containers: {:#}", after["status"]);
    ensure!(container(&after, "c")["restartCount"] == 0, "{:#}", after["status"]);
    ensure!(before["status"]["podIP"] == after["status"]["podIP"], "another address");
    let last = |log: &str| log.lines().last().and_then(|l| l.parse::<u64>().ok()).unwrap_or_default();
    let enough = last(&node.cleat(&["ctl", "logs", "count"])?) + 5;
    let log = wait::until("the count to go on", 20, || {
        let log = node.cleat(&["ctl", "logs", "count"])?;
        Ok(if last(&log) > enough { Ok(log) } else { Err(format!("at {}", last(&log))) })
    })?;
    for (number, line) in (1..).zip(log.lines()) {
        ensure!(line == format!("{number}"), "line {number} of the log is {line:?}");
    }
    node.remove("count.yaml")?;
    node.wait_pod_gone("count", 45)
}

#[test]
fn what_ends_meanwhile_is_known_with_its_exit_code() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    let told = node.data().with_file_name("told");
    fs::create_dir_all(&told)?;
    let spec =
        format!("restartPolicy: Never\nvolumes: [{{name: t, hostPath: {{path: {}}}}}]", told.display());
    let waits = "command: [sh, -c, 'until [ -e /t/go ]; do sleep 0.1; done; echo gone; exit 7']\n\
                 volumeMounts: [{name: t, mountPath: /t}]";
    node.apply("ends.yaml", &pod("ends", &spec, &[("c", waits)]))?;
    node.wait_pod_ready("ends")?;
    node.kill()?;
    fs::write(told.join("go"), "")?;
    wait::until("the container to end", 10, || {
        let log = node.machine().run(&["sh", "-c", "ps ax || true"])?;
        Ok(if log.contains("/t/go") { Err(log) } else { Ok(()) })
    })?;
    node.start()?;
    let pod = node.wait_pod("ends", "to have failed", 30, |pod| pod["status"]["phase"] == "Failed")?;
    let state = &container(&pod, "c")["state"]["terminated"];
    ensure!(state["exitCode"] == 7, "{state}");
    ensure!(node.cleat(&["ctl", "logs", "ends"])? == "gone\n");
    Ok(())
}

#[test]
fn a_manifest_removed_meanwhile_ends_its_pod() -> Result<()> {
    let mut node = crate::pods::warm()?;
    let before = node.snapshot()?;
    node.apply("count.yaml", &pod("count", "terminationGracePeriodSeconds: 2", &[("c", COUNT)]))?;
    node.wait_pod_ready("count")?;
    node.kill()?;
    node.remove("count.yaml")?;
    node.start()?;
    node.wait_pod_gone("count", 30)?;
    before.expect_nothing_new(20, || node.snapshot())
}

/// A monitor that is killed takes its containers with it; the pod comes back.
#[test]
fn a_killed_monitor_is_noticed() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    node.apply("count.yaml", &pod("count", "", &[("c", COUNT)]))?;
    let before = node.wait_pod_ready("count")?;
    let monitor = node.machine().processes().into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("cleat-monitor"))
    });
    let monitor = i32::try_from(monitor.context("no process cleat-monitor")?)?;
    let pid = rustix::process::Pid::from_raw(monitor).context("pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    node.wait_pod("count", "to run again", 60, |pod| lab::node::is_ready(pod) && ids(pod) != ids(&before))?;
    wait::until("the dead monitor's container to be gone", 10, || {
        let left = node.machine().run(&["pgrep", "-fc", "^sh -c n=0"])?;
        Ok(if left.trim() == "1" { Ok(()) } else { Err(format!("{left} containers count")) })
    })?;
    node.kill()
}
