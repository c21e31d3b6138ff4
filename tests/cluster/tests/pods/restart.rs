//! A node's process is killed and comes back: nobody sees it of the pods.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use lab::{Cluster, node, pypi, wait};
use serde_json::{Value, json};

use crate::{apply, idle, merge, ready};

/// All that a watch has told of readiness, object by object: each value once for every change.
struct Recorder {
    child: Child,
    seen: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl Recorder {
    /// Watches a kind, and notes what `facts` makes of each object whenever that changes.
    fn watch(cluster: &Cluster, kind: &str, facts: fn(&Value) -> String) -> Result<Self> {
        let mut command = cluster.client(pypi::kubectl()?);
        command.args(["get", kind, "--watch", "-o", "json"]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("piped")?;
        let seen = Arc::new(Mutex::new(BTreeMap::<String, Vec<String>>::new()));
        let noted = seen.clone();
        thread::spawn(move || {
            for object in serde_json::Deserializer::from_reader(output).into_iter::<Value>() {
                let Ok(object) = object else { return };
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let fact = facts(&object);
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let all = noted.entry(name).or_default();
                if all.last() != Some(&fact) {
                    all.push(fact);
                }
            }
        });
        Ok(Self { child, seen })
    }

    /// What was noted of the object whose name begins so.
    fn of(&self, name: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|(known, _)| known.starts_with(name)).map(|(_, all)| all.clone()).unwrap_or_default()
    }

    fn waits(&self, name: &str, facts: &[&str]) -> Result<()> {
        wait::until(&format!("{name} to have been {facts:?}"), 90, || {
            let seen = self.of(name);
            Ok(if seen == facts { Ok(()) } else { Err(format!("{seen:?}")) })
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a pod is ready, and which containers it runs.
fn of_pod(pod: &Value) -> String {
    let ready = if node::is_ready(pod) { "ready" } else { "unready" };
    format!("{ready} {}", pod["status"]["containerStatuses"][0]["restartCount"])
}

fn of_node(node: &Value) -> String {
    node::is_ready(node).to_string()
}

/// How many of its endpoints are ready.
fn of_slice(slice: &Value) -> String {
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    endpoints.filter(|e| e["conditions"]["ready"] == true).count().to_string()
}

fn probed((name, place): (&str, &Value), probe: &str, file: &str) -> Value {
    let script = "touch /tmp/up; mkdir /w; touch /w/z; httpd -p 8080 -h /w; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
    let mut container = json!({"command": ["sh", "-c", script]});
    let how = match file {
        "" => json!({"httpGet": {"path": "/z", "port": 8080}}),
        file => json!({"exec": {"command": ["cat", file]}}),
    };
    container[probe] = json!({"periodSeconds": 1, "failureThreshold": 1});
    merge(&mut container[probe], how);
    let mut pod = idle(name, place.clone(), container);
    pod["metadata"]["labels"]["set"] = "probed".into();
    pod
}

#[test]
fn a_killed_node_process_is_not_seen() -> Result<()> {
    let mut cluster = Cluster::new(2)?;
    let place = json!({"nodeSelector": {"kubernetes.io/hostname": cluster.name(1)?}});
    let failing = json!({"command": ["sh", "-c", "exit 1"]});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "probed"},
        "spec": {"selector": {"set": "probed"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    let (web, started) = (
        probed(("web", &place), "readinessProbe", ""),
        probed(("started", &place), "startupProbe", "/tmp/up"),
    );
    let (file, never) = (
        probed(("file", &place), "readinessProbe", "/tmp/up"),
        probed(("never", &place), "readinessProbe", "/no"),
    );
    apply(&cluster, &[web, started, file, never, idle("failing", place.clone(), failing), service])?;
    for pod in ["web", "started", "file"] {
        ready(&cluster, pod)?;
    }
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
    cluster.wait("a back-off", 90, &["pod", "failing"], |pod| {
        restarts(pod) >= 2
            && pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })?;
    cluster.wait("the endpoints", 90, &["endpointslices"], |list| {
        let own = list["items"].as_array().into_iter().flatten();
        own.filter(|s| s["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("probed")))
            .any(|s| of_slice(s) == "3")
    })?;
    let pods = Recorder::watch(&cluster, "pods", of_pod)?;
    let nodes = Recorder::watch(&cluster, "nodes", of_node)?;
    let slices = Recorder::watch(&cluster, "endpointslices", of_slice)?;
    for pod in ["web", "started", "file"] {
        pods.waits(pod, &["ready 0"])?;
    }
    slices.waits("probed", &["3"])?;
    let before = cluster.get(&["pod", "failing"])?;
    for _ in 0..2 {
        cluster.node_mut(1).kill()?;
        cluster.start_node(1)?;
        cluster.node_mut(1).wait_ready()?;
        // What is told now is told by the new process: one that is no longer ready, and ready again.
        let change = |script: &str| cluster.kubectl(&["exec", "file", "--", "sh", "-c", script]);
        wait::until("the node to run commands", 90, || {
            Ok(change("rm /tmp/up").map_err(|error| format!("{error:#}")))
        })?;
        cluster.wait("it to be unready", 90, &["pod", "file"], |pod| !node::is_ready(pod))?;
        change("touch /tmp/up")?;
        cluster.wait("it to be ready", 90, &["pod", "file"], node::is_ready)?;
    }
    pods.waits("file", &["ready 0", "unready 0", "ready 0", "unready 0", "ready 0"])?;
    slices.waits("probed", &["3", "2", "3", "2", "3"])?;
    nodes.waits(&cluster.name(1)?, &["true"])?;
    for (pod, facts) in [("web", "ready 0"), ("started", "ready 0"), ("never", "unready 0")] {
        ensure!(pods.of(pod) == [facts], "{pod}: {:?}", pods.of(pod));
    }
    // It goes on where it was: its attempts are counted, and it waits as long as before.
    let after = cluster
        .wait("the next attempt", 120, &["pod", "failing"], |pod| restarts(pod) > restarts(&before))?;
    let counts = pods.of("failing");
    let numbers: Vec<u64> = counts.iter().filter_map(|fact| fact.split(' ').nth(1)?.parse().ok()).collect();
    ensure!(numbers.is_sorted(), "{counts:?}");
    let times = |pod: &Value, path: &str| pod["status"]["containerStatuses"][0].pointer(path).cloned();
    let ended =
        times(&after, "/lastState/terminated/finishedAt").or(times(&after, "/state/terminated/finishedAt"));
    ensure!(ended.is_some(), "{after}");
    Ok(())
}
