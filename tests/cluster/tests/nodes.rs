//! Three nodes joined by tokens: pods spread, services across, updates under load, and what happens when a node or the
//! control plane goes away.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Cluster, http, node, wait};
use serde_json::Value;

/// A web server of so many replicas that answers with its pod's name, behind a service.
fn web(replicas: usize) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: web }} }}
  strategy: {{ rollingUpdate: {{ maxUnavailable: 0, maxSurge: 1 }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      terminationGracePeriodSeconds: 5
      tolerations:
      - {{ key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2 }}
      - {{ key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 2 }}
      containers:
      - name: web
        image: busybox:1.35
        command: ["sh", "-c", 'mkdir /w; echo "$VERSION $POD" > /w/index.html; exec httpd -f -p 8080 -h /w']
        env:
        - {{ name: VERSION, value: "1" }}
        - {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
        readinessProbe: {{ httpGet: {{ path: /, port: 8080 }}, periodSeconds: 1 }}
        lifecycle: {{ preStop: {{ exec: {{ command: ["sleep", "2"] }} }} }}
---
apiVersion: v1
kind: Service
metadata: {{ name: web }}
spec: {{ selector: {{ app: web }}, ports: [ {{ port: 80, targetPort: 8080 }} ] }}
"#
    )
}

fn rolled_out(cluster: &Cluster) -> Result<()> {
    let status = cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    status.map(drop).with_context(|| cluster.node(0).cleat(&["why", "deployment/web"]).unwrap_or_default())
}

fn cluster_ip(cluster: &Cluster) -> Result<std::net::SocketAddr> {
    let service = cluster.get(&["service", "web"])?;
    let ip = service["spec"]["clusterIP"].as_str().context("no cluster IP")?;
    Ok(format!("{ip}:80").parse()?)
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// The nodes that the pods of `web` are on, those that are ending left out.
fn nodes_of(list: &Value) -> BTreeSet<String> {
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    items(list)
        .iter()
        .filter(stays)
        .filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned))
        .collect()
}

/// What every pod of the service answers, asked from the node's own network until all have.
fn answers(cluster: &Cluster, from: usize, pods: usize) -> Result<BTreeSet<String>> {
    let service = cluster_ip(cluster)?;
    let mut seen = BTreeSet::new();
    wait::until("every pod to have answered", 30, || {
        match cluster.node(from).machine().get(service, "/") {
            Ok(answer) => drop(seen.insert(answer.body.trim().to_owned())),
            Err(error) => return Ok(Err(format!("{error:#}; so far {seen:?}"))),
        }
        Ok(if seen.len() == pods { Ok(()) } else { Err(format!("{seen:?}")) })
    })?;
    Ok(seen)
}

#[test]
fn pods_spread_and_services_lead_across() -> Result<()> {
    let cluster = Cluster::new(3)?;
    cluster.apply(&web(6))?;
    rolled_out(&cluster)?;
    let pods = cluster.get(&["pods", "-l", "app=web"])?;
    ensure!(nodes_of(&pods).len() == 3, "pods are on {:?} alone", nodes_of(&pods));
    for from in 0..3 {
        answers(&cluster, from, 6)?;
    }
    // From pod to pod across nodes, with the address that the pod has.
    let [first, second] = [0, 1].map(|n| cluster.name(n));
    let on = |name: &str| items(&pods).iter().find(|pod| pod["spec"]["nodeName"] == *name).cloned();
    let (from, to) = (on(&first?).context("none there")?, on(&second?).context("none there")?);
    let script = format!("timeout 5 wget -qO- http://{}:8080/", node::pod_ip(&to)?);
    let name = from["metadata"]["name"].as_str().context("no name")?;
    let page = cluster.kubectl(&["exec", name, "--", "sh", "-c", &script])?;
    ensure!(page.contains(to["metadata"]["name"].as_str().context("no name")?), "{page}");
    // By name, from a pod.
    let page = cluster.kubectl(&[
        "exec",
        name,
        "--",
        "timeout",
        "5",
        "wget",
        "-qO-",
        "http://web.default.svc.cluster.local",
    ])?;
    ensure!(page.starts_with("1 web-"), "{page}");
    Ok(())
}

#[test]
fn an_update_under_load_loses_no_request() -> Result<()> {
    let cluster = Cluster::new(3)?;
    cluster.apply(&web(4))?;
    rolled_out(&cluster)?;
    let service = cluster_ip(&cluster)?;
    answers(&cluster, 1, 4)?;
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let ask = |from: usize| -> Result<Vec<String>> {
        let mut failed = Vec::new();
        while !done.load(Ordering::Relaxed) {
            asked.fetch_add(1, Ordering::Relaxed);
            match cluster.node(from).machine().in_network(|| http::get(service, "/"))? {
                Ok(answer) if answer.status == 200 => {}
                other => failed.push(format!("{other:?}")),
            }
        }
        Ok(failed)
    };
    let failed = std::thread::scope(|scope| -> Result<Vec<String>> {
        let clients: Vec<_> = [0, 2].into_iter().map(|from| scope.spawn(move || ask(from))).collect();
        let rolled = cluster
            .kubectl(&["set", "env", "deployment/web", "VERSION=2"])
            .and_then(|_| rolled_out(&cluster))
            .and_then(|()| cluster.kubectl(&["rollout", "undo", "deployment/web"]))
            .and_then(|_| rolled_out(&cluster));
        done.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for client in clients {
            failed.extend(client.join().expect("a client panicked")?);
        }
        rolled.map(|()| failed)
    })?;
    let asked = asked.into_inner();
    ensure!(asked > 100, "only {asked} requests were made");
    ensure!(failed.is_empty(), "{} of {asked} requests failed, first {:?}", failed.len(), failed.first());
    Ok(())
}

#[test]
fn a_node_that_is_cut_off_is_replaced_and_comes_back() -> Result<()> {
    let cluster = Cluster::new(3)?;
    cluster.apply(&web(3))?;
    rolled_out(&cluster)?;
    let lost = cluster.name(2)?;
    cluster.cable(2, false)?;
    cluster.wait("the node to be lost", 90, &["node", &lost], |node| !node::is_ready(node))?;
    let list = cluster.wait("all pods elsewhere", 60, &["pods", "-l", "app=web"], |list| {
        let ready = items(list)
            .iter()
            .filter(|pod| node::is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
        ready.count() == 3 && !nodes_of(list).contains(&lost)
    })?;
    ensure!(nodes_of(&list).len() == 2, "{:?}", nodes_of(&list));
    answers(&cluster, 0, 3)?;
    cluster.cable(2, true)?;
    cluster.wait_ready()?;
    // What was evicted meanwhile ends there now.
    cluster
        .wait("the evicted pods to be gone", 60, &["pods", "-l", "app=web"], |list| items(list).len() == 3)?;
    wait::until("no container of it on the node", 60, || {
        let pods = cluster.node(2).pods()?;
        let left = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "web").count();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} pods")) })
    })?;
    // And it takes new ones.
    cluster.kubectl(&["scale", "deployment/web", "--replicas=6"])?;
    cluster.wait("pods on the node again", 60, &["pods", "-l", "app=web"], |list| {
        nodes_of(list).contains(&lost)
    })?;
    rolled_out(&cluster)?;
    answers(&cluster, 2, 6)?;
    Ok(())
}

#[test]
fn services_go_on_without_the_control_plane() -> Result<()> {
    let mut cluster = Cluster::new(2)?;
    cluster.apply(&web(2))?;
    rolled_out(&cluster)?;
    let before = cluster.get(&["pods", "-l", "app=web"])?;
    answers(&cluster, 1, 2)?;
    let service = cluster_ip(&cluster)?;
    cluster.node_mut(0).kill()?;
    // The first node's own pods go on too: their monitors need nobody.
    for _ in 0..20 {
        let answer = cluster.node(1).machine().get(service, "/")?;
        ensure!(answer.status == 200, "{answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.start_node(0)?;
    cluster.wait_ready()?;
    cluster.kubectl(&["scale", "deployment/web", "--replicas=3"])?;
    rolled_out(&cluster)?;
    let after = cluster.get(&["pods", "-l", "app=web"])?;
    for pod in items(&before) {
        let same = |other: &&Value| other["metadata"]["uid"] == pod["metadata"]["uid"];
        let now = items(&after).iter().find(same).context("a pod was replaced")?;
        ensure!(now["status"]["containerStatuses"][0]["restartCount"] == 0, "{:#}", now["status"]);
    }
    Ok(())
}
