//! Restarts, back-off, probes, hooks and the order of ending.

use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};
use lab::node::container;
use lab::{Node, wait};
use serde_json::Value;

use crate::pod;

fn started() -> Result<Node> {
    let mut node = Node::new()?;
    node.start()?;
    Ok(node)
}

#[test]
fn what_crashes_is_restarted_with_back_off() -> Result<()> {
    let node = started()?;
    node.apply("crash.yaml", &pod("crash", "", &[("c", "command: [sh, -c, 'echo bye; exit 3']")]))?;
    let backs_off = |pod: &Value| {
        let one = container(pod, "c");
        one["state"]["waiting"]["reason"] == "CrashLoopBackOff" && one["restartCount"].as_u64() >= Some(1)
    };
    let crash = node.wait_pod("crash", "to back off", 60, backs_off)?;
    let one = container(&crash, "c");
    ensure!(one["lastState"]["terminated"]["exitCode"] == 3, "{one}");
    ensure!(one["lastState"]["terminated"]["reason"] == "Error", "{one}");
    let message = one["state"]["waiting"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("back-off") && message.contains("10s"), "{message}");
    let restarts = one["restartCount"].as_u64();
    // It waits 10 s, then 20 s: the next restart comes, and not at once.
    let started = Instant::now();
    node.wait_pod("crash", "to be restarted again", 60, |pod| {
        container(pod, "c")["restartCount"].as_u64() > restarts
    })?;
    ensure!(started.elapsed().as_secs() >= 5, "restarted after {:?}", started.elapsed());
    let log = node.cleat(&["ctl", "logs", "crash", "--previous"])?;
    ensure!(log == "bye\n", "{log:?}");
    ensure!(node.events("crash")?.iter().any(|e| e.starts_with("BackOff ")), "{:?}", node.events("crash")?);
    Ok(())
}

#[test]
fn restart_policies_decide_the_phase() -> Result<()> {
    let node = started()?;
    for (name, policy, exit, phase) in [
        ("fails", "Never", 1, "Failed"),
        ("succeeds", "OnFailure", 0, "Succeeded"),
        ("done", "Never", 0, "Succeeded"),
    ] {
        let command = format!("command: [sh, -c, 'exit {exit}']");
        node.apply(
            &format!("{name}.yaml"),
            &pod(name, &format!("restartPolicy: {policy}"), &[("c", &command)]),
        )?;
        let ended = node.wait_pod(name, "to end", 60, |pod| pod["status"]["phase"] == phase)?;
        let one = container(&ended, "c");
        ensure!(one["state"]["terminated"]["exitCode"] == exit && one["restartCount"] == 0, "{one}");
    }
    Ok(())
}

#[test]
fn a_killed_process_is_restarted_at_once() -> Result<()> {
    let node = started()?;
    node.apply("idle.yaml", &pod("idle", "", &[("c", "command: [sleep, '600']")]))?;
    node.wait_pod_ready("idle")?;
    node.machine().run(&["pkill", "-9", "-f", "^sleep 600"])?;
    let back = node.wait_pod("idle", "to be restarted", 30, |pod| {
        container(pod, "c")["restartCount"] == 1 && lab::node::is_ready(pod)
    })?;
    let last = &container(&back, "c")["lastState"]["terminated"];
    ensure!(last["exitCode"] == 137, "{last}");
    Ok(())
}

#[test]
fn a_liveness_probe_restarts_and_a_readiness_probe_does_not() -> Result<()> {
    let node = started()?;
    let live = "command: [sleep, '600']\nterminationMessagePath: /dev/termination-log\n\
                livenessProbe: {httpGet: {port: 81, path: /}, periodSeconds: 1, failureThreshold: 2}";
    let ready = "command: [sh, -c, 'touch /tmp/ok; sleep 600']\n\
                 readinessProbe: {exec: {command: [test, -e, /tmp/ok]}, periodSeconds: 1, failureThreshold: 1}";
    let spec = "terminationGracePeriodSeconds: 1";
    node.apply("live.yaml", &pod("live", spec, &[("c", live)]))?;
    node.apply("ready.yaml", &pod("ready", spec, &[("c", ready)]))?;
    node.wait_pod("live", "to be restarted", 60, |pod| {
        container(pod, "c")["restartCount"].as_u64() >= Some(1)
    })?;
    let events = node.events("live")?;
    ensure!(events.iter().any(|e| e.starts_with("Unhealthy ") && e.contains("Liveness")), "{events:?}");
    node.wait_pod_ready("ready")?;
    node.cleat(&["ctl", "exec", "ready", "--", "rm", "/tmp/ok"])?;
    let pod = node.wait_pod("ready", "not to be ready", 30, |pod| !lab::node::is_ready(pod))?;
    ensure!(container(&pod, "c")["restartCount"] == 0, "{:#}", pod["status"]);
    Ok(())
}

/// preStop, then the containers, then the sidecar: each writes a line when it ends.
#[test]
fn a_pod_ends_in_the_right_order() -> Result<()> {
    let node = started()?;
    let told = node.data().with_file_name("told");
    fs::create_dir_all(&told)?;
    let spec = format!(
        "terminationGracePeriodSeconds: 20\n\
         volumes: [{{name: told, hostPath: {{path: {}}}}}]\n\
         initContainers:\n\
         - name: sidecar\n  image: busybox:1.35\n  restartPolicy: Always\n\
         \x20 command: [sh, -c, \"trap 'echo sidecar >> /told/lines; exit 0' TERM; sleep 600 & wait\"]\n\
         \x20 volumeMounts: [{{name: told, mountPath: /told}}]",
        told.display()
    );
    let main = "command: [sh, -c, \"trap 'echo main >> /told/lines; exit 0' TERM; sleep 600 & wait\"]\n\
                volumeMounts: [{name: told, mountPath: /told}]\n\
                lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 1; echo hook >> /told/lines']}}}";
    node.apply("order.yaml", &pod("order", &spec, &[("main", main)]))?;
    node.wait_pod_ready("order")?;
    node.remove("order.yaml")?;
    node.wait_pod_gone("order", 20)?;
    let lines = fs::read_to_string(told.join("lines"))?;
    ensure!(lines == "hook\nmain\nsidecar\n", "{lines:?}");
    Ok(())
}

#[test]
fn who_does_not_listen_is_killed_when_the_grace_is_over() -> Result<()> {
    let node = started()?;
    let deaf = "command: [sh, -c, \"trap '' TERM; while :; do sleep 1; done\"]";
    node.apply("deaf.yaml", &pod("deaf", "terminationGracePeriodSeconds: 3", &[("c", deaf)]))?;
    node.wait_pod_ready("deaf")?;
    let removed = Instant::now();
    node.remove("deaf.yaml")?;
    node.wait_pod_gone("deaf", 15)?;
    ensure!(removed.elapsed().as_secs() >= 3, "killed after {:?}, its grace is 3 s", removed.elapsed());
    Ok(())
}

#[test]
fn init_containers_run_one_after_the_other_and_a_failed_one_is_retried() -> Result<()> {
    let node = started()?;
    let init = "volumes: [{name: v, emptyDir: {}}]\ninitContainers:\n\
                - name: one\n  image: busybox:1.35\n  volumeMounts: [{name: v, mountPath: /v}]\n\
                \x20 command: [sh, -c, 'echo one >> /v/order; test $(wc -l < /v/order) -ge 2']\n\
                - name: two\n  image: busybox:1.35\n  volumeMounts: [{name: v, mountPath: /v}]\n\
                \x20 command: [sh, -c, 'echo two >> /v/order']";
    let main = "command: [sh, -c, 'cat /v/order; sleep 600']\nvolumeMounts: [{name: v, mountPath: /v}]";
    node.apply("init.yaml", &pod("init", init, &[("c", main)]))?;
    node.wait_pod_ready("init")?;
    wait::until("the order to be told", 10, || {
        let log = node.cleat(&["ctl", "logs", "init", "-c", "c"])?;
        Ok(if log == "one\none\ntwo\n" { Ok(()) } else { Err(log) })
    })
}

#[test]
fn a_container_over_its_memory_is_oom_killed() -> Result<()> {
    let node = started()?;
    let hungry = "command: [sh, -c, 'x=a; while :; do x=$x$x; done']\nresources: {limits: {memory: 16Mi}}";
    node.apply("hungry.yaml", &pod("hungry", "restartPolicy: Never", &[("c", hungry)]))?;
    let ended = node.wait_pod("hungry", "to end", 60, |pod| pod["status"]["phase"] == "Failed")?;
    let state = &container(&ended, "c")["state"]["terminated"];
    ensure!(state["reason"] == "OOMKilled" && state["exitCode"] == 137, "{state}");
    Ok(())
}
