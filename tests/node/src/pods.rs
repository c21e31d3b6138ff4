//! The real pods of `examples/pods/`, from manifest to nothing.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::node::{container, pod_ip};
use lab::{Machine, Node, wait};
use serde_json::Value;

use crate::pod;

const WEB: &str = include_str!("../../../examples/pods/web.yaml");
const REDIS: &str = include_str!("../../../examples/pods/redis.yaml");

/// A node that has run a pod before: the bridge, the base chains of the rules and the QoS cgroups stand, as they do
/// on a node in use, so that what a pod leaves is told from what a node has.
pub(crate) fn warm() -> Result<Node> {
    let mut node = Node::new()?;
    node.start()?;
    warm_up(&node)?;
    Ok(node)
}

/// Runs a burstable pod with a host port, and one of best effort, to their ends.
pub(crate) fn warm_up(node: &Node) -> Result<()> {
    let sleep = "command: [sh, -c, \"trap 'exit 0' TERM; sleep 600 & wait\"]\n";
    let ports =
        format!("{sleep}ports: [{{containerPort: 1, hostPort: 9}}]\nresources: {{requests: {{cpu: 10m}}}}");
    node.apply("warm.yaml", &pod("warm", "", &[("c", &ports)]))?;
    node.apply("plain.yaml", &pod("plain", "", &[("c", sleep)]))?;
    for name in ["warm", "plain"] {
        node.wait_pod_ready(name)?;
        node.remove(&format!("{name}.yaml"))?;
    }
    node.wait_pod_gone("warm", 40)?;
    node.wait_pod_gone("plain", 40)
}

#[test]
fn the_pods_of_the_examples_live_and_leave_nothing() -> Result<()> {
    let node = warm()?;
    let before = node.snapshot()?;
    let data = node.data().with_file_name("redis");
    let redis = REDIS.replace("/var/tmp/cleat-redis", &data.display().to_string());
    node.apply("web.yaml", WEB)?;
    node.apply("redis.yaml", &redis)?;
    let web = node.wait_pod_ready("web")?;
    node.wait_pod_ready("redis")?;

    it_answers(&node, &web)?;
    it_reports(&web)?;
    it_is_limited(&node)?;
    it_logs(&node, &web)?;
    let during = node.snapshot()?;
    during.expect("process", "nginx: master")?;
    during.expect("process", "cleat-monitor")?;
    during.expect("network namespace", "net:")?;
    during.expect("link", "veth").or_else(|_| during.expect("link", "cali"))?;
    during.expect("cgroup", "burstable/pod")?;

    node.cleat(&["ctl", "exec", "redis", "--", "redis-cli", "set", "ship", "Vasa"])?;
    node.remove("web.yaml")?;
    node.remove("redis.yaml")?;
    node.wait_pod_gone("web", 20)?;
    node.wait_pod_gone("redis", 20)?;
    let saved = fs::read(data.join("dump.rdb")).context("preStop did not save")?;
    ensure!(saved.windows(4).any(|w| w == b"Vasa"), "the saved file does not hold what was set");
    before.expect_nothing_new(20, || node.snapshot())
}

/// On the pod's addresses, on the host port from the node itself, and from another machine.
fn it_answers(node: &Node, web: &Value) -> Result<()> {
    let page = |at: SocketAddr| -> Result<()> {
        let answer = node.machine().get(at, "/")?;
        ensure!(answer.status == 200 && answer.body.contains("Hello from web"), "{at}: {answer:?}");
        Ok(())
    };
    page((pod_ip(web)?, 80).into())?;
    let addresses = web["status"]["podIPs"].as_array().context("no podIPs")?;
    ensure!(addresses.len() == 2, "one address of each family: {addresses:?}");
    for address in addresses {
        let ip: std::net::IpAddr = address["ip"].as_str().context("ip")?.parse()?;
        page((ip, 80).into())?;
    }
    page(([127, 0, 0, 1], 8080).into())?;
    let outside = Machine::new()?;
    outside.join("wire", "192.0.2.2/24", node.machine(), "192.0.2.1/24")?;
    let answer = outside.get(([192, 0, 2, 1], 8080).into(), "/")?;
    ensure!(answer.status == 200, "from another machine: {answer:?}");
    node.machine().run(&["ip", "link", "del", "wire"]).map(drop)
}

fn it_reports(web: &Value) -> Result<()> {
    let status = &web["status"];
    ensure!(status["phase"] == "Running" && status["qosClass"] == "Burstable", "{status:#}");
    for condition in ["Initialized", "ContainersReady", "PodScheduled", "Ready"] {
        let all = status["conditions"].as_array().context("no conditions")?;
        ensure!(all.iter().any(|c| c["type"] == condition && c["status"] == "True"), "{condition}: {all:?}");
    }
    let page = &container(web, "page")["state"]["terminated"];
    ensure!(page["reason"] == "Completed" && page["exitCode"] == 0, "{page}");
    for name in ["nginx", "access-log"] {
        let one = container(web, name);
        ensure!(one["ready"] == true && one["restartCount"] == 0, "{one}");
        ensure!(one["state"]["running"]["startedAt"].is_string(), "{one}");
        let image = one["imageID"].as_str().unwrap_or_default();
        ensure!(image.contains("sha256:"), "{one}");
        ensure!(one["containerID"].as_str().is_some_and(|id| id.contains("://")), "{one}");
    }
    ensure!(status["startTime"].is_string() && status["hostIP"].is_string(), "{status:#}");
    Ok(())
}

/// The limits of the manifest are those of the container's cgroup.
fn it_is_limited(node: &Node) -> Result<()> {
    let find = |file: &str| -> Result<Vec<String>> {
        let words = format!("find /sys/fs/cgroup -path '*kubepods*' -name {file} -exec cat {{}} ';'");
        Ok(node.machine().run(&["sh", "-c", &words])?.lines().map(str::to_owned).collect())
    };
    let v2 = find("memory.max")?;
    let (memory, cpu) = if v2.is_empty() {
        (find("memory.limit_in_bytes")?, find("cpu.cfs_quota_us")?)
    } else {
        (v2, find("cpu.max")?)
    };
    ensure!(memory.iter().any(|l| l == "67108864"), "memory: {memory:?}");
    ensure!(cpu.iter().any(|l| l.starts_with("50000")), "cpu: {cpu:?}");
    Ok(())
}

/// The sidecar shows the access log; the file on disk is in CRI's format.
fn it_logs(node: &Node, web: &Value) -> Result<()> {
    wait::until("the sidecar to show the request", 10, || {
        let log = node.cleat(&["ctl", "logs", "web", "-c", "access-log"])?;
        Ok(if log.contains("GET / HTTP/1.1") { Ok(()) } else { Err(log) })
    })?;
    let uid = web["metadata"]["uid"].as_str().context("no uid")?;
    let name = web["metadata"]["name"].as_str().context("no name")?;
    let file = node.data().join(format!("logs/pods/default_{name}_{uid}/access-log/0.log"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    for line in text.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let [time, stream, tag, _] = fields[..] else { anyhow::bail!("not CRI's format: {line}") };
        let is_time = time.len() > 20 && time.contains('T') && (time.ends_with('Z') || time.contains('+'));
        ensure!(is_time && ["stdout", "stderr"].contains(&stream) && ["F", "P"].contains(&tag), "{line}");
    }
    Ok(())
}

#[test]
fn an_edited_manifest_changes_the_pod() -> Result<()> {
    let node = warm()?;
    node.apply("web.yaml", WEB)?;
    let first = node.wait_pod_ready("web")?;
    node.apply("web.yaml", &WEB.replace("value: Hello", "value: Ahoy"))?;
    let changed =
        |pod: &Value| lab::node::is_ready(pod) && pod["metadata"]["uid"] != first["metadata"]["uid"];
    node.wait_pod("web", "to be the changed one", 60, changed)?;
    let answer = node.machine().get(([127, 0, 0, 1], 8080).into(), "/")?;
    ensure!(answer.body.contains("Ahoy from web"), "{answer:?}");
    Ok(())
}

/// After `cleat down` even what the node itself made is gone.
#[test]
fn down_leaves_nothing_at_all() -> Result<()> {
    let mut node = Node::new()?;
    let before = node.snapshot()?;
    node.start()?;
    node.apply("web.yaml", WEB)?;
    node.wait_pod_ready("web")?;
    node.stop()?;
    node.snapshot()?.expect("process", "nginx: master").context("pods outlive a stop of the node")?;
    node.cleat(&["down"])?;
    let data = node.data().display().to_string();
    let leaked: Vec<String> = before
        .leaked(&node.snapshot()?)
        .into_iter()
        .filter(|line| !line.starts_with(&format!("file: {data}")))
        .collect();
    ensure!(leaked.is_empty(), "{leaked:#?}");
    Ok(())
}

/// `cleat down` is not told the name that the node was started with, and ends its pods as gently.
#[test]
fn down_ends_the_pods_of_a_node_of_another_name() -> Result<()> {
    let mut node = Node::new()?;
    let before = node.snapshot()?;
    let shared = node.data().with_file_name("shared");
    fs::create_dir_all(&shared)?;
    node.start_with(|command| {
        command.args(["--node-name", "other"]);
    })?;
    node.wait_ready()?;
    let volumes = format!(
        "volumes:\n- name: empty\n  emptyDir: {{}}\n- name: shared\n  hostPath: {{path: {}}}\n",
        shared.display()
    );
    // Its way down needs both volumes.
    let lines = "command: [sh, -c, \"echo kept > /empty/file; trap 'cp /empty/file /shared/ended; exit 0' TERM; sleep 600 & wait\"]\n\
                 volumeMounts: [{name: empty, mountPath: /empty}, {name: shared, mountPath: /shared}]\n";
    node.apply("gentle.yaml", &pod("gentle", &volumes, &[("c", lines)]))?;
    let ready = node.wait_pod_ready("gentle")?;
    ensure!(ready["spec"]["nodeName"] == "other", "{ready:#}");
    node.stop()?;
    let said = node.cleat(&["down"])?;
    ensure!(said.contains("1 pods ended"), "{said}");
    ensure!(fs::read_to_string(shared.join("ended"))? == "kept\n", "its way down was cut short");
    fs::remove_dir_all(&shared)?;
    let data = node.data().display().to_string();
    let leaked = before.leaked(&node.snapshot()?);
    let leaked: Vec<_> =
        leaked.into_iter().filter(|line| !line.starts_with(&format!("file: {data}"))).collect();
    ensure!(leaked.is_empty(), "{leaked:#?}");
    Ok(())
}
