//! `cargo xtask bench cluster`: how soon a whole cluster does what it is told, and what it costs. No package brings an
//! upstream kubelet: the peer's figures were measured elsewhere, and the table says so.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Client, Config, Query, WatchEvent};
use lab::{Cluster, node};
use proto_kube::{Resource, object, pod, resource};
use serde_json::{Value, json};

use super::pod::WORKLOAD;
use super::process::{self, Memory};
use super::table::{Budget, Table, rank};
use super::{count, millis};

const STARTS: usize = 5;
const SINGLE_PODS: usize = 20;
/// Until what has happened is told everywhere.
const REST: Duration = Duration::from_secs(10);
const IDLE_TIME: Duration = Duration::from_secs(30);
/// As many nodes as the largest Deployment needs: each takes 110 pods.
const NODES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(300);
const IMAGE: &str = "docker.io/library/busybox:1.35";
const NAMESPACE: &str = "default";
const PEER: &str = "\
* Not of this run. Whole upstream stack (kubelet, kube-proxy, containerd, etcd, kube-apiserver, kube-controller-manager,
  kube-scheduler) on a quiet machine of two cores, one node, when the budgets were set.";

/// What the machines' processes hold.
#[derive(Clone, Copy, Default)]
struct Held {
    /// `cleat`.
    daemons: Memory,
    /// What exists for the pods, their workload aside.
    monitors: Memory,
}

/// What a Deployment took until its last pod was Ready.
#[derive(Clone, Copy)]
struct Rollout {
    ms: f64,
    cpu_ms_a_pod: f64,
}

/// What was measured on one node.
struct Single {
    pods: Vec<f64>,
    thirty: Rollout,
    idle_percent: f64,
    /// With 0, 30 and 100 pods.
    held: [Held; 3],
}

/// Measures and prints the table.
pub(crate) fn run(programs: &Path) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine before the run: {} (times mean little unless it was quiet)", load.trim());
    let mut ready = Vec::new();
    for number in 1..=STARTS {
        eprintln!("start {number} of {STARTS}");
        ready.push(millis(start(programs)?.1));
    }
    let single = single(&start(programs)?.0)?;
    eprintln!("{NODES} nodes");
    let mut cluster = Cluster::of(programs.to_owned(), NODES, &[])?;
    cluster.start()?;
    let kubeconfig = cluster.kubeconfig();
    let many = inside(&cluster, async || {
        let api = Api::of(&kubeconfig)?;
        api.warm_up().await?;
        rollout(&api, &cluster, "many", 300).await
    })?;
    print(&ready, &single, many);
    Ok(())
}

/// A cluster of one node, and the time from its first process until the node was Ready.
fn start(programs: &Path) -> Result<(Cluster, Duration)> {
    let mut cluster = Cluster::of(programs.to_owned(), 1, &[])?;
    let start = Instant::now();
    cluster.launch(0)?;
    let kubeconfig = cluster.kubeconfig();
    let took = inside(&cluster, async || {
        loop {
            if let Ok(api) = Api::of(&kubeconfig)
                && let Ok(nodes) = api.client.list(kind("", "nodes")?, "", Query::default()).await
                && object::items(&nodes, &["items"]).any(node::is_ready)
            {
                return Ok(start.elapsed());
            }
            if start.elapsed() > PATIENCE {
                bail!("the node is not Ready");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let took = took.with_context(|| cluster.node(0).log())?;
    Ok((cluster, took))
}

/// Runs what opens connections in the network of a cluster's first machine.
fn inside<T: Send>(cluster: &Cluster, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work());
    cluster.node(0).machine().in_network(run)?
}

fn single(cluster: &Cluster) -> Result<Single> {
    let kubeconfig = cluster.kubeconfig();
    inside(cluster, async || {
        let api = Api::of(&kubeconfig)?;
        api.warm_up().await?;
        eprintln!("{SINGLE_PODS} pods one after the other");
        let mut pods = Vec::new();
        for number in 0..SINGLE_PODS {
            let name = format!("single-{number}");
            pods.push(millis(api.until_ready(1, api.create_pod(&name, "")).await?));
            api.delete_pod(&name).await?;
        }
        tokio::time::sleep(REST).await;
        let empty = held(cluster);
        let thirty = rollout(&api, cluster, "many", 30).await?;
        tokio::time::sleep(REST).await;
        let some = held(cluster);
        eprintln!("{} s with 30 pods", IDLE_TIME.as_secs());
        let (before, start) = (cpu(cluster)?, Instant::now());
        tokio::time::sleep(IDLE_TIME).await;
        let idle_percent = (cpu(cluster)? - before) / millis(start.elapsed()) * 100.0;
        rollout(&api, cluster, "more", 70).await?;
        tokio::time::sleep(REST).await;
        Ok(Single { pods, thirty, idle_percent, held: [empty, some, held(cluster)] })
    })
}

/// Creates a Deployment and waits for its last pod.
async fn rollout(api: &Api, cluster: &Cluster, name: &str, replicas: usize) -> Result<Rollout> {
    eprintln!("a Deployment of {replicas}");
    let before = cpu(cluster)?;
    let ms = millis(api.until_ready(replicas, api.create_deployment(name, replicas)).await?);
    Ok(Rollout { ms, cpu_ms_a_pod: (cpu(cluster)? - before) / count(replicas) })
}

/// CPU time of all machines so far, in milliseconds.
fn cpu(cluster: &Cluster) -> Result<f64> {
    cluster.nodes().iter().map(|node| process::cpu(node.machine()).map(millis)).sum()
}

fn held(cluster: &Cluster) -> Held {
    let mut held = Held::default();
    for node in cluster.nodes() {
        for pid in process::of_runtime(node.machine()) {
            let of = if Some(pid) == node.pid() { &mut held.daemons } else { &mut held.monitors };
            *of += Memory::of(pid).unwrap_or_default();
        }
    }
    held
}

fn print(ready: &[f64], single: &Single, many: Rollout) {
    let unknown = f64::NAN;
    let mut table = Table::beside("upstream*");
    table.row("first process to node Ready, ms", rank(ready, 50), 3100.0, Budget::AtMost(800.0));
    table.row("pod created to Ready, median ms", rank(&single.pods, 50), 533.0, Budget::AtMost(100.0));
    table.row("pod created to Ready, p99 ms", rank(&single.pods, 99), unknown, Budget::None);
    table.row("Deployment of 30 to Ready, ms", single.thirty.ms, 2700.0, Budget::AtMost(700.0));
    table.row("CPU a pod of these, ms", single.thirty.cpu_ms_a_pod, unknown, Budget::None);
    table.row(&format!("Deployment of 300, {NODES} nodes, ms"), many.ms, unknown, Budget::None);
    table.row("CPU a pod of these, ms", many.cpu_ms_a_pod, unknown, Budget::None);
    let budgets = [Budget::AtMost(60.0), Budget::AtMost(95.0), Budget::None];
    let peers = [725.0, 1035.0, unknown];
    for (((held, pods), budget), peer) in single.held.iter().zip([0, 30, 100]).zip(budgets).zip(peers) {
        let (mut all, mb) = (held.daemons, |kb: u64| kb as f64 / 1000.0);
        all += held.monitors;
        table.row(&format!("memory with {pods} pods, MB PSS"), mb(all.pss), peer, budget);
        table.row("  of it anonymous", mb(all.anonymous), unknown, Budget::None);
        table.row("  of it the pods' monitors", mb(held.monitors.pss), unknown, Budget::None);
    }
    table.row("idle with 30 pods, % of a core", single.idle_percent, 9.5, Budget::AtMost(0.5));
    table.print();
    println!("{PEER}");
}

fn kind(group: &str, plural: &str) -> Result<&'static Resource> {
    resource::find(group, "v1", plural).with_context(|| plural.to_owned())
}

/// The cluster as its administrator sees it.
struct Api {
    client: Client,
    pods: &'static Resource,
}

impl Api {
    fn of(kubeconfig: &Path) -> Result<Api> {
        let client = Client::new(&Config::load(kubeconfig, None)?, "cleat-bench/1")?;
        Ok(Api { client, pods: kind("", "pods")? })
    }

    /// Runs a pod on each node: it has the image afterwards.
    async fn warm_up(&self) -> Result<()> {
        let nodes = self.client.list(kind("", "nodes")?, "", Query::default()).await?;
        for node in object::items(&nodes, &["items"]).map(object::name) {
            let name = format!("warm-up-{node}");
            self.until_ready(1, self.create_pod(&name, node)).await?;
            self.delete_pod(&name).await?;
        }
        Ok(())
    }

    /// The time from an order until so many pods more are Ready.
    async fn until_ready(&self, wanted: usize, order: impl Future<Output = Result<()>>) -> Result<Duration> {
        let list = self.client.list(self.pods, NAMESPACE, Query::default()).await?;
        let query =
            Query::default().with("resourceVersion", object::text(&list, &["metadata", "resourceVersion"]));
        let old: BTreeSet<&str> = object::items(&list, &["items"]).map(object::name).collect();
        let mut watch = self.client.watch(self.pods, NAMESPACE, query).await?;
        let (start, mut ready) = (Instant::now(), BTreeSet::new());
        order.await?;
        let watching = async {
            while ready.len() < wanted {
                match watch.next().await?.context("the watch ended")? {
                    WatchEvent::Modified(seen)
                        if pod::is_ready(&seen) && !old.contains(object::name(&seen)) =>
                    {
                        ready.insert(object::name(&seen).to_owned());
                    }
                    _ => {}
                }
            }
            anyhow::Ok(start.elapsed())
        };
        let done = tokio::time::timeout(PATIENCE, watching).await;
        done.map_err(|_| anyhow::anyhow!("{} of {wanted} pods are Ready", ready.len()))?
    }

    /// A pod; for an empty node the scheduler chooses.
    async fn create_pod(&self, name: &str, node: &str) -> Result<()> {
        let mut spec = spec();
        if !node.is_empty() {
            spec["nodeName"] = node.into();
        }
        let metadata = json!({ "name": name });
        let object = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        self.client.create(self.pods, NAMESPACE, &object, Query::default()).await?;
        Ok(())
    }

    async fn delete_pod(&self, name: &str) -> Result<()> {
        self.client.delete(self.pods, NAMESPACE, name, &Value::Null).await?;
        let end = Instant::now() + PATIENCE;
        while self.client.get(self.pods, NAMESPACE, name).await.is_ok() {
            if Instant::now() > end {
                bail!("pod {name} does not go");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn create_deployment(&self, name: &str, replicas: usize) -> Result<()> {
        let labels = json!({ "app": name });
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": spec() },
            },
        });
        self.client.create(kind("apps", "deployments")?, NAMESPACE, &object, Query::default()).await?;
        Ok(())
    }
}

/// A pod that sleeps. Its first process does not see SIGTERM: there is no use in waiting for it.
fn spec() -> Value {
    let container = json!({ "name": "c", "image": IMAGE, "command": WORKLOAD });
    json!({ "containers": [container], "terminationGracePeriodSeconds": 0 })
}
