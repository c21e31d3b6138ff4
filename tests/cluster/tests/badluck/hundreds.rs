//! Three hundred pods at once.

use anyhow::{Result, ensure};
use lab::{Cluster, node, wait};

use super::{PATIENCE, items, starts, wait_pods};

const PODS: usize = 300;
/// How long they may take to come, and to go.
const SECONDS: u64 = 240;

/// Pods that note their start, as a workload of a kind; `spec` is what the kind wants beside selector and template.
fn workload(kind: &str, name: &str, spec: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: {kind}
metadata: {{ name: {name} }}
spec:
  {spec}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: one
        image: busybox:1.35
        command: ["sh", "-c", 'echo $POD >> /starts/log; exec sleep 1000000']
        env: [ {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }} ]
        volumeMounts: [ {{ name: starts, mountPath: /starts }} ]
      volumes: [ {{ name: starts, hostPath: {{ path: /run/starts, type: DirectoryOrCreate }} }} ]
"#
    )
}

#[test]
fn hundreds_of_pods_come_and_go() -> Result<()> {
    // No more than 110 a node.
    let mut cluster = Cluster::apart(3, &[])?;
    cluster.start()?;
    // With its first pod a node makes what stays for all: the bridge, the cgroups above those of pods.
    cluster.apply(&workload("DaemonSet", "first", "minReadySeconds: 0"))?;
    wait_pods(&cluster, "first", 3)?;
    delete(&cluster, "daemonset/first")?;
    let before: Vec<_> = cluster.nodes().iter().map(node::Node::snapshot).collect::<Result<_>>()?;

    cluster.apply(&workload("Deployment", "many", &format!("replicas: {PODS}")))?;
    let began = std::time::Instant::now();
    let ready = format!("jsonpath={{.status.readyReplicas}}={PODS}");
    wait::until("all to be Ready", SECONDS, || {
        Ok(cluster
            .kubectl(&["wait", "deployment/many", "--for", &ready, "--timeout=20s"])
            .map_err(|error| format!("{error:#}; {:?}", cluster.kubectl(&["get", "deployment,nodes"]))))
    })?;
    eprintln!("{PODS} pods Ready after {:.1} s", began.elapsed().as_secs_f64());
    let list = cluster.get(&["pods", "-l", "app=many"])?;
    let addresses: std::collections::BTreeSet<_> =
        items(&list).iter().filter_map(|pod| pod["status"]["podIP"].as_str()).collect();
    ensure!(addresses.len() == PODS, "{} addresses", addresses.len());
    let began = std::time::Instant::now();
    delete(&cluster, "deployment/many")?;
    eprintln!("gone after {:.1} s", began.elapsed().as_secs_f64());
    let mut starts = starts(&cluster, 3)?;
    starts.retain(|pod, _| pod.starts_with("many-"));
    ensure!(starts.len() == PODS, "{} pods have been started", starts.len());
    ensure!(starts.values().all(|times| *times == 1), "more than once: {starts:?}");
    for (number, before) in before.iter().enumerate() {
        before.expect_nothing_new(PATIENCE, || cluster.node(number).snapshot())?;
    }
    Ok(())
}

/// Deletes a workload and waits until its pods are gone.
fn delete(cluster: &Cluster, what: &str) -> Result<()> {
    cluster.kubectl(&["delete", what, "--cascade=foreground", &format!("--timeout={SECONDS}s")])?;
    cluster.wait("no pod to be left", PATIENCE, &["pods", "-A"], |list| items(list).is_empty()).map(drop)
}
