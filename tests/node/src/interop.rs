//! Our pieces with other people's: the contracts are public, so each can be swapped for its upstream twin.

use std::fs;

use anyhow::{Result, ensure};
use lab::debian::Debian;
use lab::{Node, demo, peer, wait};

use crate::pod;

const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.66.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
const SLEEP: &str = "command: [sh, -c, \"trap 'exit 0' TERM; echo up; sleep 600 & wait\"]";

/// Our agent drives containerd with runc and the CNI project's plugins.
#[test]
fn our_agent_drives_containerd() -> Result<()> {
    let mut node = Node::new()?;
    let folder = node.machine().folder().to_path_buf();
    fs::create_dir_all(folder.join("net.d"))?;
    fs::write(folder.join("net.d/10-pods.conflist"), LIST)?;
    let pause = node.push("pause", &demo::pause(&Debian::open()?)?);
    let log = fs::File::create(folder.join("containerd.log"))?;
    let mut containerd = peer::containerd(node.machine(), &pause)?;
    containerd.stdout(log.try_clone()?).stderr(log);
    let _containerd = node.machine().spawn(containerd)?;
    let socket = peer::socket(&folder);
    wait::until_true("containerd's socket", 30, || socket.exists())?;
    node.start_as(&["agent", "--cri-socket", &socket.to_string_lossy()], |_| ())?;
    node.wait_ready()?;
    node.apply("theirs.yaml", &pod("theirs", "terminationGracePeriodSeconds: 5", &[("c", SLEEP)]))?;
    let theirs = node.wait_pod_ready("theirs")?;
    ensure!(lab::node::pod_ip(&theirs)?.to_string().starts_with("10.66.0."), "{:#}", theirs["status"]);
    let id = lab::node::container(&theirs, "c")["containerID"].to_string();
    ensure!(id.contains("containerd://"), "{id}");
    wait::until("the log to be read", 10, || {
        let log = node.cleat(&["ctl", "logs", "theirs"])?;
        Ok(if log == "up\n" { Ok(()) } else { Err(log) })
    })?;
    node.remove("theirs.yaml")?;
    node.wait_pod_gone("theirs", 30)
}

/// Our monitor runs containers by other runtimes with runc's command line.
#[test]
fn runc_and_crun_run_our_containers() -> Result<()> {
    for (name, program) in [("runc", "/usr/sbin/runc"), ("crun", "/usr/bin/crun")] {
        ensure!(fs::exists(program)?, "{program} is not there: install the Debian package {name}");
        let mut node = Node::new()?;
        node.start_with(|command| {
            command.args(["--runtime", &format!("{name}={program}")]);
        })?;
        node.wait_ready()?;
        let spec = format!("runtimeClassName: {name}\nterminationGracePeriodSeconds: 5");
        node.apply("theirs.yaml", &pod("theirs", &spec, &[("c", SLEEP)]))?;
        node.wait_pod_ready("theirs")?;
        let hello = node.cleat(&["ctl", "exec", "theirs", "--", "echo", "hello"])?;
        ensure!(hello == "hello\n", "{name}: {hello:?}");
        node.remove("theirs.yaml")?;
        node.wait_pod_gone("theirs", 30)?;
    }
    Ok(())
}
