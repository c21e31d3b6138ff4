//! Bad luck, with real processes: what goes on, what is not started twice, and what meets again by itself.

mod away;
mod certificates;
mod hundreds;
mod names;
mod restore;
mod slow;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::{Cluster, node, wait};
use serde_json::Value;

/// How long anything may take on a loaded machine.
const PATIENCE: u64 = 90;

/// A web server that answers with its pod's name, behind a service of its name. Each start of a container is written down
/// on its node, where [`starts`] reads it. Its pods bear a node's silence for two seconds only.
fn web(name: &str, replicas: usize) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {{ key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2 }}
      - {{ key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2 }}
      containers:
      - name: web
        image: busybox:1.35
        command: ["sh", "-c", 'echo $POD >> /starts/log; mkdir /w; echo $POD > /w/index.html; exec httpd -f -p 8080 -h /w']
        env: [ {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }} ]
        readinessProbe: {{ httpGet: {{ path: /, port: 8080 }}, periodSeconds: 1, failureThreshold: 10 }}
        volumeMounts: [ {{ name: starts, mountPath: /starts }} ]
      volumes: [ {{ name: starts, hostPath: {{ path: /run/starts, type: DirectoryOrCreate }} }} ]
---
apiVersion: v1
kind: Service
metadata: {{ name: {name} }}
spec: {{ selector: {{ app: {name} }}, ports: [ {{ port: 80, targetPort: 8080 }} ] }}
"#
    )
}

/// How often a container of each pod has been started on these nodes.
fn starts(cluster: &Cluster, nodes: usize) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for number in 0..nodes {
        let log =
            cluster.node(number).machine().run(&["sh", "-c", "cat /run/starts/log 2>/dev/null || true"])?;
        for pod in log.lines() {
            *found.entry(pod.to_owned()).or_insert(0) += 1;
        }
    }
    Ok(found)
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// The pods of an app, by their uids.
fn pods(cluster: &Cluster, app: &str) -> Result<BTreeMap<String, Value>> {
    let list = cluster.get(&["pods", "-l", &format!("app={app}")])?;
    let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    Ok(items(&list).iter().map(|pod| (uid(pod), pod.clone())).collect())
}

/// Waits until an app has so many pods, all Ready, and gives them by their uids.
fn wait_pods(cluster: &Cluster, app: &str, wanted: usize) -> Result<BTreeMap<String, Value>> {
    wait::until(&format!("{wanted} pods of {app} to be Ready"), PATIENCE, || {
        let found = match pods(cluster, app) {
            Ok(found) => found,
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        let ready = found.values().filter(|pod| node::is_ready(pod)).count();
        let done = (ready, found.len()) == (wanted, wanted);
        Ok(if done { Ok(found) } else { Err(format!("{ready} of {}: {found:#?}", found.len())) })
    })
}

/// Fails unless these pods are there still, and none of their containers was ever started again.
fn expect_untouched(cluster: &Cluster, app: &str, before: &BTreeMap<String, Value>) -> Result<()> {
    let after = pods(cluster, app)?;
    let started = starts(cluster, cluster.nodes().len())?;
    for (uid, pod) in before {
        let now = after.get(uid).with_context(|| format!("{} was replaced", pod["metadata"]["name"]))?;
        let statuses = now["status"]["containerStatuses"].as_array().context("no statuses")?;
        ensure!(statuses.iter().all(|container| container["restartCount"] == 0), "{:#}", now["status"]);
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        ensure!(started.get(name) == Some(&1), "{name} was started: {started:?}");
    }
    Ok(())
}

/// Where a service is reached.
fn service(cluster: &Cluster, name: &str) -> Result<SocketAddr> {
    let service = cluster.get(&["service", name])?;
    let ip = service["spec"]["clusterIP"].as_str().context("no cluster IP")?;
    Ok(format!("{ip}:80").parse()?)
}

/// Asks a service from a node's own network until these pods, and no others, have answered.
fn answered_by(cluster: &Cluster, from: usize, name: &str, pods: &BTreeMap<String, Value>) -> Result<()> {
    let address = service(cluster, name)?;
    let names = pods.values().filter_map(|pod| pod["metadata"]["name"].as_str());
    let wanted: BTreeSet<String> = names.map(str::to_owned).collect();
    let mut seen = BTreeSet::new();
    wait::until("every pod to have answered", PATIENCE, || {
        match cluster.node(from).machine().get(address, "/") {
            Ok(answer) if wanted.contains(answer.body.trim()) => {
                seen.insert(answer.body.trim().to_owned());
            }
            other => return Ok(Err(format!("{other:?}; so far {seen:?}"))),
        }
        Ok(if seen == wanted { Ok(()) } else { Err(format!("{seen:?} of {wanted:?}")) })
    })
}

/// Since when each node has been Ready.
fn ready_since(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let nodes = cluster.get(&["nodes"])?;
    let since = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array()?;
        let ready = conditions.iter().find(|c| c["type"] == "Ready" && c["status"] == "True")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some((text(&node["metadata"]["name"])?, text(&ready["lastTransitionTime"])?))
    };
    items(&nodes).iter().map(|node| since(node).with_context(|| format!("{:#}", node["status"]))).collect()
}

/// When a node last said that it is alive.
fn renewed(cluster: &Cluster, node: &str) -> Result<String> {
    let lease = cluster.get(&["lease", "-n", "kube-node-lease", node])?;
    Ok(lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned())
}

/// Waits until each node has said once more that it is alive.
fn wait_signs_of_life(cluster: &Cluster) -> Result<()> {
    for number in 0..cluster.nodes().len() {
        let name = cluster.name(number)?;
        let before = renewed(cluster, &name)?;
        wait::until("a sign of life", PATIENCE, || {
            let now = renewed(cluster, &name).unwrap_or_default();
            Ok(if now.is_empty() || now == before { Err(now) } else { Ok(()) })
        })?;
    }
    Ok(())
}
