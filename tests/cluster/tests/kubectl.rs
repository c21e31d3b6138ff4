//! The daily verbs of upstream's kubectl and helm on a cluster of one node.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use lab::{Cluster, node, pypi, wait};
use serde_json::Value;

const WEB: &str = include_str!("../../../examples/web.yaml");

/// A pod that does nothing until it is told to end.
fn idle(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, labels: {{ app: {name} }} }}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: busybox:1.35\n    command: [sh, -c, 'echo first; trap \"exit 0\" TERM; while :; do sleep 1 & wait $!; done']\n"
    )
}

fn ready(cluster: &Cluster, object: &str) -> Result<()> {
    cluster.kubectl(&["wait", "--for=condition=Ready", object, "--timeout=60s"]).map(drop)
}

#[test]
fn the_example_is_served_by_name() -> Result<()> {
    let cluster = Cluster::new(1)?;
    cluster.apply(WEB)?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    ready(&cluster, "pod/visitor")?;
    wait::until("the visitor to be served", 30, || {
        let log = cluster.kubectl(&["logs", "visitor"])?;
        Ok(if log.contains("<h1>Hello from web-") { Ok(()) } else { Err(log) })
    })?;
    let why = cluster.node(0).cleat(&["why", "deployment/web"])?;
    ensure!(why.contains("all 3 replicas are up to date and available"), "{why}");
    Ok(())
}

#[test]
fn a_deployment_from_apply_to_delete() -> Result<()> {
    let cluster = Cluster::new(1)?;
    let kubectl = |line: &str| cluster.kubectl(&line.split(' ').collect::<Vec<_>>());
    cluster.apply(WEB)?;
    kubectl("rollout status deployment/web --timeout=90s")?;
    kubectl("scale deployment/web --replicas=2")?;
    kubectl("rollout status deployment/web --timeout=60s")?;
    kubectl("set env deployment/web GREETING=Ahoy")?;
    kubectl("rollout status deployment/web --timeout=90s")?;
    ensure!(
        kubectl("rollout history deployment/web")?.lines().filter(|l| l.starts_with(['1', '2'])).count() == 2
    );
    kubectl("rollout undo deployment/web")?;
    kubectl("rollout status deployment/web --timeout=90s")?;
    let greeting = "{.spec.template.spec.initContainers[0].env[0].value}";
    ensure!(kubectl(&format!("get deployment web -o jsonpath={greeting}"))? == "Hello");
    kubectl("rollout pause deployment/web")?;
    kubectl("set image deployment/web nginx=nginx:none")?;
    let sets = cluster.get(&["rs", "-l", "app=web"])?;
    kubectl("rollout resume deployment/web")?;
    cluster.wait("a new replica set", 30, &["rs", "-l", "app=web"], |now| {
        now["items"].as_array().map(Vec::len) > sets["items"].as_array().map(Vec::len)
    })?;
    wait::until("the reason of the standstill", 60, || {
        let why = cluster.node(0).cleat(&["why", "deployment/web"])?;
        Ok(if why.contains("has no image") { Ok(()) } else { Err(why) })
    })?;
    kubectl("rollout undo deployment/web")?;
    kubectl("rollout status deployment/web --timeout=90s")?;
    let described = kubectl("describe deployment web")?;
    ensure!(described.contains("ScalingReplicaSet") && described.contains("Available"), "{described}");
    kubectl("delete deployment/web --timeout=60s")?;
    cluster.wait("its pods to be gone", 60, &["pods", "-l", "app=web"], |list| {
        list["items"].as_array().is_some_and(Vec::is_empty)
    })?;
    ensure!(cluster.get(&["rs", "-l", "app=web"])?["items"].as_array().is_some_and(Vec::is_empty));
    Ok(())
}

#[test]
fn into_a_container_and_out_again() -> Result<()> {
    let cluster = Cluster::new(1)?;
    cluster.apply(&idle("box"))?;
    ready(&cluster, "pod/box")?;
    let kubectl = |words: &[&str]| cluster.kubectl(words);
    ensure!(kubectl(&["exec", "box", "--", "echo", "hello"])? == "hello\n");
    let failed = cluster.kubectl_output(&["exec", "box", "--", "sh", "-c", "exit 7"], "")?;
    ensure!(failed.status.code() == Some(7), "{failed:?}");
    ensure!(
        cluster.kubectl_with(&["exec", "-i", "box", "--", "cat"], "through and through")?
            == "through and through"
    );
    ensure!(kubectl(&["logs", "box"])? == "first\n");
    // Several times what any buffer on the way holds.
    let machine = cluster.node(0).machine();
    let (there, back) = (machine.folder().join("there"), machine.folder().join("back"));
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&there, &bytes)?;
    kubectl(&["cp", &there.to_string_lossy(), "box:/tmp/there"])?;
    kubectl(&["cp", "box:/tmp/there", &back.to_string_lossy()])?;
    ensure!(fs::read(&back)? == bytes, "the file came back changed");
    // A log that is followed to the container's end.
    let mut follow = cluster.client(pypi::kubectl()?);
    let mut follow = follow.args(["logs", "-f", "box"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follow.stdout.take().context("piped")?).lines();
    ensure!(lines.next().context("no line")?? == "first");
    kubectl(&["exec", "box", "--", "sh", "-c", "echo second > /proc/1/fd/1"])?;
    ensure!(lines.next().context("no line")?? == "second");
    kubectl(&["delete", "pod", "box", "--timeout=30s"])?;
    ensure!(follow.wait()?.success());
    Ok(())
}

#[test]
fn a_port_is_forwarded() -> Result<()> {
    let cluster = Cluster::new(1)?;
    cluster.apply(WEB)?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    let machine = cluster.node(0).machine();
    let said = machine.folder().join("forwarded");
    let mut command = cluster.client(pypi::kubectl()?);
    command.args(["port-forward", "service/web", "18080:80"]).stdout(fs::File::create(&said)?);
    let forward = machine.spawn(command)?;
    wait::until("the port to be forwarded", 30, || {
        let text = fs::read_to_string(&said)?;
        let ready = text.contains("Forwarding from 127.0.0.1:18080 -> 80");
        Ok(if ready { Ok(()) } else { Err(text) })
    })?;
    for _ in 0..5 {
        let page = machine.in_network(|| -> Result<String> {
            let mut stream = TcpStream::connect("127.0.0.1:18080")?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            Ok(page)
        })??;
        ensure!(page.contains("Hello from web-"), "{page}");
    }
    forward.signal(rustix::process::Signal::INT)?;
    Ok(())
}

#[test]
fn nodes_are_cordoned_tainted_and_drained() -> Result<()> {
    let cluster = Cluster::new(2)?;
    let second = cluster.name(1)?;
    cluster.kubectl(&["cordon", &second])?;
    cluster.apply(WEB)?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    let on = |list: &Value, name: &str| {
        list["items"].as_array().into_iter().flatten().filter(|pod| pod["spec"]["nodeName"] == *name).count()
    };
    let pods = cluster.get(&["pods"])?;
    ensure!(on(&pods, &second) == 0, "a cordoned node got pods");
    cluster.kubectl(&["uncordon", &second])?;
    let first = cluster.name(0)?;
    cluster.kubectl(&[
        "drain",
        &first,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=90s",
    ])?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    ensure!(on(&cluster.get(&["pods"])?, &first) == 0, "a drained node has pods");
    cluster.kubectl(&["uncordon", &first])?;
    cluster.kubectl(&["taint", "node", &second, "full=yes:NoExecute"])?;
    cluster.wait("all pods on the first node", 90, &["pods", "-l", "app=web"], |list| {
        let all = list["items"].as_array().cloned().unwrap_or_default();
        all.len() == 3 && all.iter().all(|pod| pod["spec"]["nodeName"] == *first && node::is_ready(pod))
    })?;
    Ok(())
}

#[test]
fn a_chart_lives() -> Result<()> {
    let cluster = Cluster::new(1)?;
    let chart = cluster.node(0).machine().folder().join("chart");
    fs::create_dir_all(chart.join("templates"))?;
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: ship\nversion: 0.1.0\n")?;
    fs::write(chart.join("values.yaml"), "greeting: Hello\nreplicas: 2\n")?;
    fs::write(chart.join("templates/all.yaml"), CHART)?;
    let chart = chart.to_string_lossy().into_owned();
    let helm = |words: &[&str]| cluster.helm(words);
    helm(&["install", "vasa", &chart, "--wait", "--timeout", "90s"])?;
    ensure!(cluster.get(&["job", "vasa-before"])?["status"]["succeeded"] == 1, "the hook has not run");
    let greeting = || cluster.kubectl(&["get", "configmap", "vasa", "-o", "jsonpath={.data.greeting}"]);
    ensure!(greeting()? == "Hello");
    helm(&["upgrade", "vasa", &chart, "--set", "greeting=Ahoy", "--wait", "--timeout", "90s"])?;
    ensure!(greeting()? == "Ahoy");
    helm(&["rollback", "vasa", "1", "--wait", "--timeout", "90s"])?;
    ensure!(greeting()? == "Hello");
    let list = helm(&["list", "-o", "json"])?;
    ensure!(serde_json::from_str::<Value>(&list)?[0]["revision"] == "3", "{list}");
    helm(&["uninstall", "vasa", "--wait", "--timeout", "60s"])?;
    for kind in ["deployment", "service", "configmap", "secret"] {
        let gone = cluster.kubectl_output(&["get", kind, "vasa"], "")?;
        if gone.status.success() {
            bail!("{kind}/vasa is still there");
        }
    }
    Ok(())
}

const CHART: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: {{ .Release.Name }} }
data: { greeting: {{ .Values.greeting }} }
---
apiVersion: v1
kind: Secret
metadata: { name: {{ .Release.Name }} }
stringData: { word: hidden }
---
apiVersion: v1
kind: Service
metadata: { name: {{ .Release.Name }} }
spec: { selector: { app: {{ .Release.Name }} }, ports: [ { port: 80 } ] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: {{ .Release.Name }} }
spec:
  replicas: {{ .Values.replicas }}
  selector: { matchLabels: { app: {{ .Release.Name }} } }
  template:
    metadata:
      labels: { app: {{ .Release.Name }} }
      annotations: { greeting: {{ .Values.greeting }} }
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: nginx
        image: nginx:1.22
        env:
        - { name: GREETING, valueFrom: { configMapKeyRef: { name: {{ .Release.Name }}, key: greeting } } }
        - { name: WORD, valueFrom: { secretKeyRef: { name: {{ .Release.Name }}, key: word } } }
        readinessProbe: { httpGet: { path: /, port: 80 }, periodSeconds: 1 }
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-before
  annotations: { helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation }
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: Never
      containers: [ { name: hook, image: "busybox:1.35", command: [ "true" ] } ]
"#;
