//! The client of the monitors against a real one, with a real container, as root.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cri::monitor::{Client, MonitorError, MonitorProgram, alive, death, spawn};
use proto_node::monitor::{
    ContainerStatus, Create, ErrorKind, Event, Exec, MonitorConfig, MonitorState, Overlay, Runtime, VERSION,
};
use serde_json::{Value, json};

/// `cleat-monitor`, built beside this test.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments = ["build", "--quiet", "--package", "monitor", "--bin", "cleat-monitor"];
        assert!(Command::new(cargo).args(arguments).status().unwrap().success());
        let test = std::env::current_exe().unwrap();
        test.ancestors().find(|dir| dir.ends_with("debug")).unwrap().join("cleat-monitor")
    })
}

struct Pod {
    dir: tempfile::TempDir,
    client: Client,
    state: MonitorState,
}

impl Pod {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copy = MonitorProgram::load(program()).unwrap();
        let state = spawn(&copy, dir.path(), &config(dir.path())).await.unwrap();
        Self { client: Client::new(dir.path()), dir, state }
    }

    fn create(&self, script: &str, terminal: bool, stdin: bool) -> Create {
        let dir = self.dir.path();
        for name in ["lower/bin", "lower/proc", "lower/dev", "bundle/rootfs", "upper", "work"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::copy("/usr/bin/busybox", dir.join("lower/bin/busybox"))
            .expect("Debian's busybox-static is installed");
        for name in ["sh", "sleep", "cat", "nc", "stty"] {
            symlink("busybox", dir.join("lower/bin").join(name)).unwrap();
        }
        let namespace =
            |kind: &str| json!({"type": kind, "path": format!("/proc/{}/ns/{kind}", self.state.pid)});
        let mount = |target: &str, kind: &str| json!({"destination": target, "type": kind, "source": kind});
        let network = json!({"type": "network", "path": format!("/proc/{}/ns/net", self.state.pid)});
        let spec = json!({
            "ociVersion": "1.1.0",
            "root": {"path": "rootfs"},
            "process": process(script, terminal),
            "mounts": [mount("/proc", "proc"), mount("/dev", "tmpfs"), mount("/dev/pts", "devpts")],
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "pid"}, network, namespace("ipc"), namespace("uts")],
                "cgroupsPath": format!("/cleat-cri-test-{}-{}", std::process::id(), self.state.pid),
                "resources": {"devices": [{"allow": true, "access": "rwm"}]},
            },
        });
        fs::write(dir.join("bundle/config.json"), spec.to_string()).unwrap();
        Create {
            container: "a".into(),
            bundle: dir.join("bundle"),
            runtime: Runtime::BuiltIn,
            overlay: Overlay {
                lower: vec![dir.join("lower")],
                upper: dir.join("upper"),
                work: dir.join("work"),
            },
            log_path: Some(dir.join("a.log")),
            terminal,
            stdin,
            stdin_once: false,
        }
    }

    async fn end(self) {
        self.client.kill("a", 9, true).await.unwrap();
        self.client.wait("a").await.unwrap();
        self.client.delete("a").await.unwrap();
        self.client.shutdown().await.unwrap();
        assert!(!alive(&self.state));
    }
}

/// The pod goes even when its test fails.
impl Drop for Pod {
    fn drop(&mut self) {
        if alive(&self.state) {
            for (pid, stat) in linux::stat::all().unwrap() {
                if stat.parent == self.state.pid {
                    let _ = linux::signalfd::send(pid, 9);
                }
            }
            let _ = linux::signalfd::send(self.state.pid, 9);
        }
    }
}

fn config(dir: &Path) -> MonitorConfig {
    MonitorConfig {
        version: VERSION,
        sandbox_id: "0".repeat(64),
        new_network: true,
        new_ipc: true,
        hostname: Some("pod".into()),
        shared_pid: false,
        sysctls: BTreeMap::new(),
        oom_score_adj: 0,
        oci_root: dir.join("oci"),
    }
}

fn process(script: &str, terminal: bool) -> Value {
    let capabilities = json!(["CAP_NET_ADMIN", "CAP_KILL"]);
    json!({
        "terminal": terminal, "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
        "args": ["/bin/sh", "-c", script],
        "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
    })
}

fn kind(error: MonitorError) -> ErrorKind {
    match error {
        MonitorError::Refused { kind, .. } => kind,
        other => panic!("{other:?}"),
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

async fn read(fd: OwnedFd) -> String {
    let read = move || {
        let mut text = String::new();
        fs::File::from(fd).read_to_string(&mut text).map(|_| text)
    };
    tokio::task::spawn_blocking(read).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_container_from_begin_to_end() {
    let pod = Pod::new().await;
    assert!(alive(&pod.state));
    assert_eq!(linux::stat::of(pod.state.pid).unwrap().session, pod.state.pid, "a session of its own");
    let (client, create) = (&pod.client, pod.create("read code; echo $code; exit $code", false, true));
    let events = client.watch().await.unwrap();
    let pid = client.create(create).await.unwrap();
    assert_eq!(client.status().await.unwrap().containers["a"], ContainerStatus::Created { pid });
    let ((stdin, ours), (out, out_theirs), (err, err_theirs)) = (pipe(), pipe(), pipe());
    let attached = client.attach("a", out_theirs, err_theirs, Some(stdin)).await.unwrap();
    client.start("a").await.unwrap();
    assert_eq!(kind(client.start("a").await.unwrap_err()), ErrorKind::FailedPrecondition);
    client.reopen_log("a").await.unwrap();
    client.update("a", json!({"cpu": {"shares": 100}})).await.unwrap();
    rustix::io::write(&ours, b"7\n").unwrap();
    let (exit, waited) = tokio::join!(attached.exited(), client.wait("a"));
    assert_eq!((exit.unwrap().exit_code, waited.unwrap().exit_code), (7, 7));
    drop(attached);
    assert_eq!((read(out).await, read(err).await), ("7\n".into(), String::new()));
    let Event::Exited { container, exit } = events.next().await.unwrap();
    assert_eq!((container.as_str(), exit.exit_code), ("a", 7));
    pod.end().await;
}

#[tokio::test]
async fn sessions_terminals_and_ports() {
    let pod = Pod::new().await;
    let script = "busybox ip link set lo up; echo hello | nc -l -p 8080; while :; do sleep 1000; done";
    let (client, create) = (&pod.client, pod.create(script, true, false));
    client.create(create).await.unwrap();
    client.start("a").await.unwrap();
    client.resize("a", 90, 30).await.unwrap();
    let exec = |script: &str, terminal, timeout_ms| Exec {
        container: "a".into(),
        process: process(script, terminal),
        timeout_ms,
    };
    let (out, theirs) = pipe();
    let null = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let session =
        client.exec(exec("echo out; exit 3", false, None), Some([null(), theirs, null()])).await.unwrap();
    assert!(session.terminal.is_none());
    assert_eq!((session.exited().await.unwrap().exit_code, read(out).await), (3, "out\n".into()));
    let session = client.exec(exec("stty size </dev/tty; exit 4", true, None), None).await.unwrap();
    assert!(session.terminal.is_some());
    assert_eq!(session.exited().await.unwrap().exit_code, 4);
    let session =
        client.exec(exec("sleep 1000", false, Some(200)), Some([null(), null(), null()])).await.unwrap();
    assert_eq!(kind(session.exited().await.unwrap_err()), ErrorKind::DeadlineExceeded);
    assert_eq!(kind(client.dial(9).await.unwrap_err()), ErrorKind::FailedPrecondition);
    let mut stream = loop {
        match client.dial(8080).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await.unwrap();
    assert_eq!(text, "hello\n");
    pod.end().await;
}

#[tokio::test]
async fn a_dead_monitor_is_gone() {
    let pod = Pod::new().await;
    let events = pod.client.watch().await.unwrap();
    let killed = async { linux::signalfd::send(pod.state.pid, 9).unwrap() };
    let (death, event, ()) = tokio::join!(death(&pod.state), events.next(), killed);
    death.unwrap();
    assert!(matches!(event, Err(MonitorError::Gone { .. })), "{event:?}");
    assert!(!alive(&pod.state));
    assert!(matches!(pod.client.status().await, Err(MonitorError::Gone { .. })));
    assert!(matches!(Client::new(Path::new("/none")).status().await, Err(MonitorError::Gone { .. })));
    assert!(matches!(Client::new(Path::new("/none")).state(), Err(MonitorError::File { .. })));
    // Its directory can be used again.
    let copy = MonitorProgram::load(program()).unwrap();
    let state = spawn(&copy, pod.dir.path(), &config(pod.dir.path())).await.unwrap();
    assert!(alive(&state));
    pod.client.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let copy = MonitorProgram::load(program()).unwrap();
    let mut wrong = config(dir.path());
    wrong.sysctls.insert("kernel.panic".into(), "1".into());
    let error = spawn(&copy, dir.path(), &wrong).await.unwrap_err();
    assert!(
        error.to_string().ends_with("sysctl kernel.panic: it belongs to no namespace of a pod"),
        "{error}"
    );
    let copy = MonitorProgram::load(Path::new("/etc/passwd")).unwrap();
    assert!(matches!(spawn(&copy, dir.path(), &config(dir.path())).await, Err(MonitorError::Start { .. })));
    assert!(matches!(MonitorProgram::load(Path::new("/none")), Err(MonitorError::File { .. })));
}
