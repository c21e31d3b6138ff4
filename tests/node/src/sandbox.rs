//! What pods share, and what of the host's they ask for.

use anyhow::{Context, Result, ensure};
use lab::Node;
use lab::image::{Image, Tree};
use lab::registry::docker_registry;
use serde_json::json;

use crate::pod;

const SLEEP: &str = "command: [sleep, '600']";

fn exec(node: &Node, pod: &str, container: &str, words: &[&str]) -> Result<String> {
    node.cleat(&[&["ctl", "exec", pod, "-c", container, "--"], words].concat())
}

#[test]
fn containers_of_a_pod_share_its_network_and_ipc_but_not_their_processes() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    node.apply("two.yaml", &pod("two", "hostname: twain", &[("a", SLEEP), ("b", SLEEP)]))?;
    node.wait_pod_ready("two")?;
    let link = |c: &str, ns: &str| exec(&node, "two", c, &["readlink", &format!("/proc/self/ns/{ns}")]);
    for shared in ["net", "ipc", "uts"] {
        ensure!(link("a", shared)? == link("b", shared)?, "{shared} is not shared");
    }
    for own in ["pid", "mnt"] {
        ensure!(link("a", own)? != link("b", own)?, "{own} is shared");
    }
    ensure!(exec(&node, "two", "a", &["hostname"])? == "twain\n");
    let seccomp = exec(&node, "two", "a", &["grep", "Seccomp:", "/proc/self/status"])?;
    ensure!(seccomp.split_whitespace().last() == Some("2"), "a filter is loaded: {seccomp:?}");
    Ok(())
}

#[test]
fn a_shared_process_namespace_has_our_pause_as_its_first_process() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    node.apply("one.yaml", &pod("one", "shareProcessNamespace: true", &[("a", SLEEP), ("b", SLEEP)]))?;
    node.wait_pod_ready("one")?;
    let link = |c: &str| exec(&node, "one", c, &["readlink", "/proc/self/ns/pid"]);
    ensure!(link("a")? == link("b")?, "the process namespace is not shared");
    let processes = exec(&node, "one", "a", &["ps"])?;
    ensure!(processes.matches("sleep 600").count() >= 2, "{processes}");
    Ok(())
}

#[test]
fn host_namespaces_are_the_hosts() -> Result<()> {
    let mut node = Node::new()?;
    node.start()?;
    let spec = "hostNetwork: true\nhostPID: true\nhostIPC: true";
    node.apply("host.yaml", &pod("host", spec, &[("a", SLEEP)]))?;
    let host = node.wait_pod_ready("host")?;
    for namespace in ["net", "pid", "ipc"] {
        let path = format!("/proc/self/ns/{namespace}");
        let inside = exec(&node, "host", "a", &["readlink", &path])?;
        ensure!(inside == node.machine().run(&["readlink", &path])?, "{namespace} is not the host's");
    }
    ensure!(host["status"]["podIP"] == host["status"]["hostIP"], "{:#}", host["status"]);
    Ok(())
}

#[test]
fn debians_registry_is_a_registry() -> Result<()> {
    let mut node = Node::new()?;
    let busybox = lab::demo::images()?.swap_remove(0).image;
    let mut tree = Tree::default();
    tree.file("greeting", 0o644, "from docker-registry\n");
    let own = Image::new(&[&tree], &json!({ "Cmd": ["none"] }))?;
    let images = [("team/busybox:1", &busybox), ("team/own:1", &own)];
    let _registry = docker_registry(node.machine(), 5000, &images)?;
    node.start()?;
    let spec = "image: 127.0.0.1:5000/team/busybox:1\ncommand: [sleep, '600']";
    node.apply("pulled.yaml", &pod("pulled", "", &[("c", spec)]))?;
    node.wait_pod_ready("pulled").context("a plain-HTTP registry on loopback needs no configuration")?;
    Ok(())
}
