//! Manifests and configuration that cannot work: each gets one clear message, and other pods go on.

use anyhow::{Result, ensure};
use lab::{Node, wait};

use crate::pod;

const SLEEP: &str = "command: [sleep, '600']";

/// Waits until all `parts` stand in one line of what the node says about its pods: their status, their events, its log.
pub(crate) fn says(node: &Node, what: &str, parts: &[&str]) -> Result<()> {
    wait::until(&format!("{what} to be told with {parts:?}"), 30, || {
        let mut lines: Vec<String> = node.log().lines().map(str::to_owned).collect();
        for pod in node.pods()? {
            lines.push(pod["status"].to_string());
            lines.extend(node.events(pod["metadata"]["name"].as_str().unwrap_or_default())?);
        }
        let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        Ok(if found { Ok(()) } else { Err(lines.join("\n")) })
    })
}

#[test]
fn each_mistake_is_named_and_other_pods_go_on() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    node.apply("good.yaml", &pod("good", "", &[("c", SLEEP)]))?;
    let unknown_field = pod("f", "restartPolcy: Always", &[("c", SLEEP)]);
    let wrong_type = pod("t", "terminationGracePeriodSeconds: soon", &[("c", SLEEP)]);
    let twins = pod("w", "", &[("same", SLEEP), ("same", SLEEP)]);
    let port = pod("p", "", &[("c", "ports: [{containerPort: 70000}]")]);
    let no_image = pod("i", "", &[("c", "image: ''")]);
    let volume = pod("v", "", &[("c", "volumeMounts: [{name: nowhere, mountPath: /x}]")]);
    for (file, text, parts) in [
        ("field.yaml", unknown_field.as_str(), &["restartPolcy"][..]),
        ("type.yaml", &wrong_type, &["terminationGracePeriodSeconds"]),
        ("twins.yaml", &twins, &["same", "name"]),
        ("port.yaml", &port, &["70000", "ontainerPort"]),
        ("image.yaml", &no_image, &["image"]),
        ("volume.yaml", &volume, &["nowhere"]),
        ("kind.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n", &["Service"]),
        ("yaml.yaml", "a: [1, 2\n", &["yaml.yaml"]),
        ("json.json", "{\"kind\": \"Pod\"", &["json.json"]),
    ] {
        node.apply(file, text)?;
        says(&node, file, parts)?;
    }
    node.apply("late.yaml", &pod("late", "", &[("c", SLEEP)]))?;
    node.wait_pod_ready("good")?;
    node.wait_pod_ready("late")?;
    // The mended manifest runs.
    node.apply("field.yaml", &pod("mended", "restartPolicy: Always", &[("c", SLEEP)]))?;
    node.wait_pod_ready("mended").map(drop)
}

#[test]
fn several_documents_in_json_and_yaml_are_several_pods() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    let two = format!("{}---\n{}", pod("one", "", &[("c", SLEEP)]), pod("two", "", &[("c", SLEEP)]));
    node.apply("two.yaml", &two)?;
    let json = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "three"}, "spec": {"containers":
        [{"name": "c", "image": "busybox:1.35", "command": ["sleep", "600"]}]}}"#;
    node.apply("three.json", json)?;
    for name in ["one", "two", "three"] {
        node.wait_pod_ready(name)?;
    }
    Ok(())
}

#[test]
fn a_command_that_is_not_there_is_named() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    node.apply("cmd.yaml", &pod("cmd", "", &[("c", "command: [/no/such/program]")]))?;
    says(&node, "the command", &["/no/such/program"])
}

#[test]
fn a_host_path_that_is_not_there_is_named() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    let spec = "volumes: [{name: v, hostPath: {path: /no/such/folder, type: Directory}}]";
    let mount = format!("{SLEEP}\nvolumeMounts: [{{name: v, mountPath: /v}}]");
    node.apply("path.yaml", &pod("path", spec, &[("c", &mount)]))?;
    says(&node, "the host path", &["/no/such/folder"])
}

#[test]
fn a_missing_network_configuration_is_named_and_waited_for() -> Result<()> {
    let mut node = Node::new()?;
    let empty = node.data().with_file_name("net.d");
    std::fs::create_dir_all(&empty)?;
    node.start_with(|command| {
        command.arg("--cni-conf-dir").arg(&empty);
    })?;
    node.wait_ready()?;
    node.apply("net.yaml", &pod("net", "", &[("c", SLEEP)]))?;
    says(&node, "the missing configuration", &["net.d"])?;
    node.apply("host.yaml", &pod("host", "hostNetwork: true", &[("c", SLEEP)]))?;
    node.wait_pod_ready("host")?;
    let list = r#"{"cniVersion": "1.0.0", "name": "late", "plugins": [{"type": "bridge", "bridge": "late0",
        "isGateway": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24"}]]}}]}"#;
    std::fs::write(empty.join("10-late.conflist"), list)?;
    let pod = node.wait_pod_ready("net")?;
    ensure!(lab::node::pod_ip(&pod)?.to_string().starts_with("10.77.0."), "{:#}", pod["status"]);
    Ok(())
}
