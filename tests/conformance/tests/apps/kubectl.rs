//! What kubectl does with a cluster.

use anyhow::{Context, Result, ensure};
use conformance::{Bed, FOREVER, pod};
use proto_kube::object::{annotation, items, name, text};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::workload::{has_ready, image, of_template, ready_pods, running, template, workload};

const CONTROLLERS: &str = "replicationcontrollers";

/// A kind of object as kubectl reads it.
fn manifest(api_version: &str, kind: &str, mut object: Value) -> String {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object.to_string()
}

/// `kubectl get … -o json`.
async fn get(bed: &Bed, arguments: &[&str]) -> Result<Value> {
    let printed = bed.kubectl(&[&["get", "-o", "json"], arguments].concat(), "").await?;
    serde_json::from_str(&printed).context(printed)
}

/// `kubectl run` of a pod that runs until it is told to end.
async fn run(bed: &Bed, name: &str) -> Result<()> {
    let arguments = ["run", name, "--image=busybox:1.35", "--restart=Never", "--", "sh", "-c", FOREVER];
    let said = bed.kubectl(&arguments, "").await?;
    ensure!(said.contains(&format!("pod/{name} created")), "{said}");
    Ok(())
}

pub(crate) async fn api_versions(bed: Bed) -> Result<()> {
    let printed = bed.kubectl(&["api-versions"], "").await?;
    ensure!(printed.lines().any(|line| line == "v1"), "{printed}");
    Ok(())
}

pub(crate) async fn cluster_info(bed: Bed) -> Result<()> {
    let printed = bed.kubectl(&["cluster-info"], "").await?;
    ensure!(printed.contains("Kubernetes control plane") && printed.contains("is running at"), "{printed}");
    Ok(())
}

pub(crate) async fn version(bed: Bed) -> Result<()> {
    let printed = bed.kubectl(&["version"], "").await?;
    ensure!(printed.contains("Client Version: v") && printed.contains("Server Version: v"), "{printed}");
    let whole: Value = serde_json::from_str(&bed.kubectl(&["version", "-o", "json"], "").await?)?;
    let fields =
        ["major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "compiler", "platform"];
    for (side, field) in ["clientVersion", "serverVersion"].into_iter().flat_map(|s| fields.map(|f| (s, f))) {
        ensure!(!text(&whole, &[side, field]).is_empty(), "no {field} in {whole:#}");
    }
    Ok(())
}

/// What kubectl tells of an object has all these parts, which commas separate.
async fn describes(bed: &Bed, kind: &str, name: &str, parts: &str) -> Result<()> {
    let printed = bed.kubectl(&["describe", kind, name], "").await?;
    for part in parts.split(", ") {
        ensure!(printed.contains(part), "no {part:?} in {printed}");
    }
    Ok(())
}

pub(crate) async fn describe(bed: Bed) -> Result<()> {
    let rc = manifest("v1", "ReplicationController", workload(CONTROLLERS, "primary", 1));
    bed.kubectl(&["create", "-f", "-"], &rc).await?;
    let service = json!({"metadata": {"name": "primary", "labels": {"app": "primary"}},
        "spec": {"selector": {"app": "primary"}, "ports": [{"port": 6379, "targetPort": 80}]}});
    bed.kubectl(&["create", "-f", "-"], &manifest("v1", "Service", service)).await?;
    let pods = ready_pods(&bed, "primary", 1).await?;
    let (pod, node) = (name(&pods[0]), text(&pods[0], &["spec", "nodeName"]));
    let namespace = &bed.namespace;

    let parts = format!(
        "{pod}, {namespace}, {node}, Labels:, app=primary, Status:, Running, IP:, Controlled By:, \
         ReplicationController/primary, Image:, State:, QoS Class:"
    );
    describes(&bed, "pod", pod, &parts).await?;
    let parts = format!(
        "Name:, {namespace}, Selector:, app=primary, Labels:, Annotations:, Replicas:, 1 current, 1 desired, \
         Pods Status:, 1 Running, Pod Template:, Image:, Events:"
    );
    describes(&bed, "rc", "primary", &parts).await?;
    let parts = "Namespace:, Labels:, Selector:, Type:, ClusterIP, IP:, Port:, 6379/TCP, Endpoints:, Session Affinity:";
    describes(&bed, "service", "primary", parts).await?;
    let parts = format!(
        "Name:, Labels:, Annotations:, Conditions:, MemoryPressure, DiskPressure, PIDPressure, Ready, Addresses:, \
         Capacity:, Kubelet Version:, Pods:, {pod}"
    );
    describes(&bed, "node", node, &parts).await?;
    let parts = "Name:, Labels:, Status:, Active, No resource quota, No LimitRange";
    describes(&bed, "namespace", namespace, parts).await
}

pub(crate) async fn diff(bed: Bed) -> Result<()> {
    let deployment = |image: &str| {
        let mut deployment = workload("deployments", "differs", 1);
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        manifest("apps/v1", "Deployment", deployment)
    };
    bed.kubectl(&["create", "-f", "-"], &deployment("nginx:1.22")).await?;
    let done = bed.kubectl_output(&["diff", "-f", "-"], &deployment("busybox:1.35")).await?;
    let printed = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.code() == Some(1), "{done:?}");
    let line = |sign: &str, image: &str| {
        printed.lines().any(|line| line.starts_with(sign) && line.ends_with(&format!("image: {image}")))
    };
    ensure!(line("-", "nginx:1.22") && line("+", "busybox:1.35"), "{printed}");
    Ok(())
}

/// A service has this port, it goes to that of the pod, and the pod answers there.
async fn exposes(bed: &Bed, service: &str, port: u16) -> Result<()> {
    let made = get(bed, &["service", service]).await?;
    let ports: Vec<&Value> = items(&made, &["spec", "ports"]).collect();
    ensure!(ports.len() == 1 && ports[0]["port"] == port && ports[0]["targetPort"] == 6379, "{made:#}");
    let address = text(&made, &["spec", "clusterIP"]);
    let dial = || async {
        let mut answer = String::new();
        TcpStream::connect((address, port)).await?.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("primary-"), "{answer}");
        Ok(())
    };
    bed.eventually("an answer", dial).await
}

pub(crate) async fn expose(bed: Bed) -> Result<()> {
    let serves = template("primary", "exec nc -ll -p 6379 -e hostname");
    running(&bed, CONTROLLERS, of_template(CONTROLLERS, "primary", 1, serves)).await?;
    let ports = ["--port=1234", "--target-port=6379"];
    bed.kubectl(&[&["expose", "rc", "primary", "--name=rm2"], &ports[..]].concat(), "").await?;
    exposes(&bed, "rm2", 1234).await?;
    let ports = ["--port=2345", "--target-port=6379"];
    bed.kubectl(&[&["expose", "service", "rm2", "--name=rm3"], &ports[..]].concat(), "").await?;
    exposes(&bed, "rm3", 2345).await
}

pub(crate) async fn label(bed: Bed) -> Result<()> {
    bed.ready(pod("labelled", FOREVER)).await?;
    bed.kubectl(&["label", "pods", "labelled", "testing-label=value"], "").await?;
    let printed = bed.kubectl(&["get", "pod", "labelled", "-L", "testing-label"], "").await?;
    ensure!(printed.contains("value"), "{printed}");
    let chosen = bed.kubectl(&["get", "pods", "-l", "testing-label", "-o", "name"], "").await?;
    ensure!(chosen == "pod/labelled\n", "{chosen}");
    bed.kubectl(&["label", "pods", "labelled", "testing-label-"], "").await?;
    let printed = bed.kubectl(&["get", "pod", "labelled", "-L", "testing-label"], "").await?;
    ensure!(!printed.contains("value"), "{printed}");
    let chosen = bed.kubectl(&["get", "pods", "-l", "testing-label", "-o", "name"], "").await?;
    ensure!(chosen.is_empty(), "{chosen}");
    Ok(())
}

pub(crate) async fn patch(bed: Bed) -> Result<()> {
    running(&bed, CONTROLLERS, workload(CONTROLLERS, "primary", 2)).await?;
    for pod in ready_pods(&bed, "primary", 2).await? {
        let patch = r#"{"metadata":{"annotations":{"x":"y"}}}"#;
        bed.kubectl(&["patch", "pod", name(&pod), "-p", patch], "").await?;
        let pod = get(&bed, &["pod", name(&pod)]).await?;
        ensure!(annotation(&pod, "x") == Some("y"), "{pod:#}");
    }
    Ok(())
}

pub(crate) async fn replace(bed: Bed) -> Result<()> {
    run(&bed, "replaced").await?;
    bed.until("pods", "replaced", |pod| text(pod, &["status", "phase"]) == "Running").await?;
    let mut pod = get(&bed, &["pod", "replaced"]).await?;
    pod["spec"]["containers"][0]["image"] = "redis:7.0".into();
    bed.kubectl(&["replace", "-f", "-"], &pod.to_string()).await?;
    let replaced = get(&bed, &["pod", "replaced"]).await?;
    ensure!(image(&replaced) == "redis:7.0", "{replaced:#}");
    // What cannot be changed in place is made anew.
    let mut pod = replaced.clone();
    pod["metadata"].as_object_mut().context("no metadata")?.retain(|key, _| key == "name" || key == "labels");
    pod["spec"]["containers"][0] = json!({"name": "new", "image": "nginx:1.22"});
    bed.kubectl(&["replace", "--force", "--grace-period=1", "-f", "-"], &pod.to_string()).await?;
    let anew = get(&bed, &["pod", "replaced"]).await?;
    ensure!(image(&anew) == "nginx:1.22", "{anew:#}");
    ensure!(anew["metadata"]["uid"] != replaced["metadata"]["uid"], "{anew:#}");
    Ok(())
}

pub(crate) async fn run_pod(bed: Bed) -> Result<()> {
    bed.kubectl(&["run", "web", "--restart=Never", "--image=nginx:1.22"], "").await?;
    let pod = get(&bed, &["pod", "web"]).await?;
    let containers: Vec<&Value> = items(&pod, &["spec", "containers"]).collect();
    ensure!(containers.len() == 1 && image(&pod) == "nginx:1.22", "{pod:#}");
    ensure!(pod["spec"]["restartPolicy"] == "Never", "{pod:#}");
    Ok(())
}

pub(crate) async fn dry_run(bed: Bed) -> Result<()> {
    run(&bed, "dry").await?;
    let patch = r#"{"spec":{"containers":[{"name":"dry","image":"nginx:1.22"}]}}"#;
    let printed =
        bed.kubectl(&["patch", "pod", "dry", "-p", patch, "--dry-run=server", "-o", "json"], "").await?;
    let patched: Value = serde_json::from_str(&printed)?;
    ensure!(image(&patched) == "nginx:1.22", "{patched:#}");
    let kept = get(&bed, &["pod", "dry"]).await?;
    ensure!(image(&kept) == "busybox:1.35", "{kept:#}");
    Ok(())
}

/// Creates a replication controller by kubectl and waits for its two pods.
async fn demo(bed: &Bed) -> Result<()> {
    let rc = manifest("v1", "ReplicationController", workload(CONTROLLERS, "demo", 2));
    bed.kubectl(&["create", "-f", "-"], &rc).await?;
    let template = "--template={{range .items}}{{.metadata.name}} {{end}}";
    let two = || async {
        let names = bed.kubectl(&["get", "pods", "-o", "template", template, "-l", "app=demo"], "").await?;
        ensure!(names.split_whitespace().count() == 2, "{names}");
        Ok(())
    };
    bed.eventually("two pods", two).await?;
    for pod in ready_pods(bed, "demo", 2).await? {
        ensure!(image(&get(bed, &["pod", name(&pod)]).await?) == "busybox:1.35", "{pod:#}");
    }
    Ok(())
}

pub(crate) async fn demo_stops(bed: Bed) -> Result<()> {
    demo(&bed).await?;
    bed.kubectl(&["delete", "--grace-period=1", "rc", "demo"], "").await?;
    bed.until_all("pods", "app=demo", <[Value]>::is_empty).await?;
    let left = bed.kubectl(&["get", "rc", "-l", "app=demo", "-o", "name"], "").await?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

pub(crate) async fn demo_scales(bed: Bed) -> Result<()> {
    demo(&bed).await?;
    for replicas in [1, 2] {
        bed.kubectl(&["scale", "rc", "demo", &format!("--replicas={replicas}"), "--timeout=2m"], "").await?;
        ready_pods(&bed, "demo", replicas).await?;
        bed.until(CONTROLLERS, "demo", |rc| has_ready(rc, i64::try_from(replicas).unwrap_or_default()))
            .await?;
    }
    Ok(())
}

pub(crate) async fn logs(bed: Bed) -> Result<()> {
    let script = format!("for i in 1 2 3 4 5; do echo line $i of the log; done; {FOREVER}");
    bed.ready(pod("talks", &script)).await?;
    let logs = async |arguments: &[&str]| bed.kubectl(&[&["logs", "talks"], arguments].concat(), "").await;
    let whole = || async {
        let printed = logs(&[]).await?;
        ensure!(printed.lines().count() == 5, "{printed}");
        Ok(printed)
    };
    let whole = bed.eventually("the log", whole).await?;
    ensure!(whole.starts_with("line 1 of the log\n"), "{whole}");
    let tail = logs(&["--tail=1"]).await?;
    ensure!(tail == "line 5 of the log\n", "{tail}");
    let bytes = logs(&["--limit-bytes=1"]).await?;
    ensure!(bytes == "l", "{bytes}");
    let stamped = logs(&["--tail=1", "--timestamps"]).await?;
    let (time, line) = stamped.trim_end().split_once(' ').context("no time")?;
    ensure!(line == "line 5 of the log" && stamped.lines().count() == 1, "{stamped}");
    ensure!(proto_kube::object::time(&json!(time), &[]).is_some(), "{stamped}");
    ensure!(logs(&["--since=24h"]).await? == whole, "not all of the last day");
    // In a second from now, nothing of it is of the last second.
    let old = || async {
        let recent = logs(&["--since=1s"]).await?;
        ensure!(recent.is_empty(), "{recent}");
        Ok(())
    };
    bed.eventually("an old log", old).await?;
    Ok(())
}
