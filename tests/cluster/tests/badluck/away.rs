//! The control plane is away for longer than any lease.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Cluster, node, wait};

use super::{
    PATIENCE, answered_by, expect_untouched, items, ready_since, service, starts, wait_pods,
    wait_signs_of_life, web,
};

/// Longer than a node's lease and the time in which one that is silent is given up.
const AWAY: Duration = Duration::from_secs(50);
/// A pod that ends when it is told to, and one that is ended when its probe says so.
const LIFE: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: life }
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: crashes
    image: busybox:1.35
    command: ["sh", "-c", 'echo crashes >> /starts/log; while [ ! -e /starts/crash ]; do sleep 0.2; done; rm /starts/crash; exit 3']
    volumeMounts: [ { name: starts, mountPath: /starts } ]
  - name: probed
    image: busybox:1.35
    command: ["sh", "-c", 'echo probed >> /starts/log; touch /starts/ok; exec sleep 1000000']
    livenessProbe: { exec: { command: ["test", "-e", "/starts/ok"] }, initialDelaySeconds: 3, periodSeconds: 1 }
    volumeMounts: [ { name: starts, mountPath: /starts } ]
  volumes: [ { name: starts, hostPath: { path: /run/starts, type: DirectoryOrCreate } } ]
"#;

#[test]
fn nodes_go_on_while_the_control_plane_is_away() -> Result<()> {
    let mut cluster = Cluster::apart(2, &[])?;
    cluster.start()?;
    cluster.apply(&web("web", 2))?;
    cluster.apply(LIFE)?;
    let before = wait_pods(&cluster, "web", 2)?;
    let life = cluster.wait("life to be Ready", PATIENCE, &["pod", "life"], node::is_ready)?;
    let home = (0..2).find(|n| cluster.name(*n).is_ok_and(|name| life["spec"]["nodeName"] == *name));
    let home = home.context("life is on no node")?;
    for from in [0, 1] {
        answered_by(&cluster, from, "web", &before)?;
    }
    let (address, since) = (service(&cluster, "web")?, ready_since(&cluster)?);

    cluster.plane().kill()?;
    let began = Instant::now();
    cluster.node(home).machine().run(&["sh", "-c", "touch /run/starts/crash; rm /run/starts/ok"])?;
    let restarted = |starts: &std::collections::BTreeMap<String, usize>| {
        ["crashes", "probed"].iter().all(|name| starts.get(*name) == Some(&2))
    };
    let mut answers = 0;
    while began.elapsed() < AWAY {
        for from in [0, 1] {
            let machine = cluster.node(from).machine();
            ensure!(machine.get(address, "/")?.status == 200, "the service does not answer");
            let name = "web.default.svc.cluster.local";
            let found = machine.run(&["dig", "+short", "+tries=3", "@10.96.0.10", name])?;
            ensure!(found.trim() == address.ip().to_string(), "{name} is {found:?}");
            answers += 1;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    ensure!(answers > 10, "only {answers} answers");
    wait::until("both containers to be started again", PATIENCE, || {
        let starts = starts(&cluster, 2)?;
        Ok(if restarted(&starts) { Ok(()) } else { Err(format!("{starts:?}")) })
    })?;

    cluster.start_plane()?;
    wait_signs_of_life(&cluster)?;
    cluster.wait("life to be as it is", PATIENCE, &["pod", "life"], |pod| {
        let of = |name| node::container(pod, name);
        node::is_ready(pod) && of("crashes")["restartCount"] == 1 && of("probed")["restartCount"] == 1
    })?;
    cluster.wait("what happened meanwhile to be told", PATIENCE, &["events"], |events| {
        let about = |reason: &str, container: &str| -> u64 {
            let of = items(events).iter().filter(|e| {
                let path = e["involvedObject"]["fieldPath"].as_str().unwrap_or_default();
                e["involvedObject"]["name"] == "life" && e["reason"] == reason && path.contains(container)
            });
            of.filter_map(|e| e["count"].as_u64()).sum()
        };
        about("Started", "crashes") == 2
            && about("Started", "probed") == 2
            && about("Unhealthy", "probed") > 0
    })?;
    ensure!(ready_since(&cluster)? == since, "a node was given up: {:?}", ready_since(&cluster)?);
    ensure!(restarted(&starts(&cluster, 2)?), "something was started again: {:?}", starts(&cluster, 2)?);
    expect_untouched(&cluster, "web", &before)
}
