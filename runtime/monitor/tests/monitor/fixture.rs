//! A pod with its monitor, a synchronous client, and containers made of busybox.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use linux::packet;
use proto_node::monitor::{
    CONFIG_FILE, Create, ErrorKind, Exec, ExitRecord, MESSAGE_BYTES_MAX, MonitorConfig, MonitorState,
    Overlay, Request, Response, Runtime, SOCKET_FILE, STATE_FILE, Status, VERSION,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

static PODS: AtomicU32 = AtomicU32::new(0);

/// Nothing here takes this long unless it hangs.
const SECONDS: i64 = 60;

/// A pod; it is ended, and looked for leaks, on drop.
pub(crate) struct Pod {
    pub(crate) dir: tempfile::TempDir,
    child: Child,
    pub(crate) state: MonitorState,
    cgroup: String,
    runtime: Runtime,
}

/// One request's connection.
pub(crate) struct Connection(OwnedFd);

/// What a test wants different from a plain container.
#[derive(Default, Clone)]
pub(crate) struct Options {
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) memory: Option<u64>,
    /// In the pod's PID namespace.
    pub(crate) shared_pid: bool,
}

pub(crate) fn config(dir: &Path) -> MonitorConfig {
    MonitorConfig {
        version: VERSION,
        sandbox_id: "0".repeat(64),
        new_network: true,
        new_ipc: true,
        hostname: Some("pod".into()),
        shared_pid: false,
        sysctls: BTreeMap::new(),
        oom_score_adj: -998,
        oci_root: dir.join("oci"),
    }
}

/// Starts a monitor and answers it with what it said before it closed its standard output.
pub(crate) fn start(dir: &Path, config: &MonitorConfig) -> (Child, String) {
    fs::write(dir.join(CONFIG_FILE), serde_json::to_vec(config).unwrap()).unwrap();
    let log = fs::File::options().create(true).append(true).open(dir.join("monitor.log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cleat-monitor"));
    let mut child = command.arg("--dir").arg(dir).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    (child, said)
}

impl Pod {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self::with(runtime, |_| ())
    }

    pub(crate) fn with(runtime: Runtime, change: impl FnOnce(&mut MonitorConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let (child, said) = start(dir.path(), &config);
        assert_eq!(said, "");
        let state = serde_json::from_slice(&fs::read(dir.path().join(STATE_FILE)).unwrap()).unwrap();
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/cleat-monitor-test-{}-{number}", std::process::id());
        busybox(&dir.path().join("lower"));
        Self { dir, child, state, cgroup, runtime }
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.dir.path().join("bundles").join(id)
    }

    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("{id}.log"))
    }

    /// Makes the bundle of a container that runs a shell script, and answers the request to create it.
    pub(crate) fn container(&self, id: &str, script: &str, options: &Options) -> Create {
        let bundle = self.bundle(id);
        for dir in [&bundle.join("rootfs"), &bundle.join("upper"), &bundle.join("work")] {
            fs::create_dir_all(dir).unwrap();
        }
        let spec = self.spec(id, script, options);
        fs::write(bundle.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
        let overlay = Overlay {
            lower: vec![self.dir.path().join("lower")],
            upper: bundle.join("upper"),
            work: bundle.join("work"),
        };
        Create {
            container: id.to_owned(),
            runtime: self.runtime.clone(),
            overlay,
            log_path: Some(self.log_path(id)),
            terminal: options.terminal,
            stdin: options.stdin,
            stdin_once: options.stdin_once,
            bundle,
        }
    }

    fn spec(&self, id: &str, script: &str, options: &Options) -> Value {
        let of = |pid: u32, kind: &str| format!("/proc/{pid}/ns/{kind}");
        let monitor = self.state.pid;
        let mut namespaces = vec![
            json!({"type": "mount"}),
            json!({"type": "network", "path": of(monitor, "net")}),
            json!({"type": "ipc", "path": of(monitor, "ipc")}),
            json!({"type": "uts", "path": of(monitor, "uts")}),
        ];
        namespaces.push(match self.state.pause_pid.filter(|_| options.shared_pid) {
            Some(pause) => json!({"type": "pid", "path": of(pause, "pid")}),
            None => json!({"type": "pid"}),
        });
        let mount = |target: &str, kind: &str| json!({"destination": target, "type": kind, "source": kind});
        let mut dev = mount("/dev", "tmpfs");
        dev["options"] = json!(["nosuid", "mode=755", "size=65536k"]);
        let mut pts = mount("/dev/pts", "devpts");
        pts["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
        let memory = options.memory.map_or(json!({}), |limit| json!({"limit": limit}));
        json!({
            "ociVersion": "1.1.0",
            "root": {"path": "rootfs"},
            "process": process(&["/bin/sh", "-c", script], options.terminal),
            "mounts": [mount("/proc", "proc"), dev, pts],
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("{}/{id}", self.cgroup),
                "resources": {"memory": memory, "devices": [{"allow": true, "access": "rwm"}]},
            },
        })
    }

    pub(crate) fn ask(&self, request: &Request) -> Connection {
        self.ask_with(request, &[])
    }

    pub(crate) fn ask_with(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Connection {
        let socket = packet::connect(self.dir.path(), SOCKET_FILE).unwrap();
        packet::send(&socket, &serde_json::to_vec(request).unwrap(), descriptors).unwrap();
        Connection(socket)
    }

    pub(crate) fn done(&self, request: &Request) {
        assert_eq!(self.ask(request).response(), Response::Done, "{request:?}\n{}", self.notes());
    }

    pub(crate) fn refused(&self, request: &Request) -> (ErrorKind, String) {
        match self.ask(request).response() {
            Response::Error { kind, message } => (kind, message),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// What the monitor had to say to its operator.
    pub(crate) fn notes(&self) -> String {
        fs::read_to_string(self.dir.path().join("monitor.log")).unwrap_or_default()
    }

    pub(crate) fn create(&self, create: &Create) -> u32 {
        match self.ask(&Request::Create(create.clone())).response() {
            Response::Created { pid } => pid,
            other => panic!("{other:?}\n{}", self.notes()),
        }
    }

    pub(crate) fn run(&self, id: &str, script: &str, options: &Options) -> u32 {
        let pid = self.create(&self.container(id, script, options));
        self.done(&Request::Start { container: id.into() });
        pid
    }

    pub(crate) fn wait(&self, id: &str) -> ExitRecord {
        self.ask(&Request::Wait { container: id.into() }).exited()
    }

    pub(crate) fn kill(&self, id: &str, signal: i32) {
        self.done(&Request::Kill { container: id.into(), signal, all: false });
    }

    pub(crate) fn delete(&self, id: &str) {
        self.done(&Request::Delete { container: id.into() });
    }

    pub(crate) fn status(&self) -> Status {
        match self.ask(&Request::Status).response() {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// The log's entries without their times: `stdout F text`.
    pub(crate) fn log(&self, id: &str) -> Vec<String> {
        let log = fs::read_to_string(self.log_path(id)).unwrap();
        log.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// Waits until the log holds this entry.
    pub(crate) fn log_has(&self, id: &str, entry: &str) {
        until(&format!("{entry:?} in the log of {id}"), || {
            fs::read_to_string(self.log_path(id)).is_ok_and(|log| log.contains(entry))
        });
    }

    pub(crate) fn exec(
        &self,
        id: &str,
        script: &str,
        timeout_ms: Option<u64>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Connection {
        let process = process(&["/bin/sh", "-c", script], false);
        self.ask_with(&Request::Exec(Exec { container: id.into(), process, timeout_ms }), &stdio)
    }
}

/// A process with all of root's usual capabilities.
pub(crate) fn process(arguments: &[&str], terminal: bool) -> Value {
    let capabilities = json!([
        "CAP_KILL",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_NET_ADMIN",
        "CAP_SYS_PTRACE"
    ]);
    json!({
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "cwd": "/",
        "env": ["PATH=/bin"],
        "args": arguments,
        "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
    })
}

impl Connection {
    pub(crate) fn response(&self) -> Response {
        self.response_with().0
    }

    pub(crate) fn response_with(&self) -> (Response, Vec<OwnedFd>) {
        readable(self.0.as_fd(), SECONDS);
        let (packet, descriptors) = packet::receive(&self.0, MESSAGE_BYTES_MAX).unwrap();
        assert!(!packet.is_empty(), "the monitor hung up");
        (serde_json::from_slice(&packet).unwrap(), descriptors)
    }

    pub(crate) fn exited(&self) -> ExitRecord {
        match self.response() {
            Response::Exited(exit) => exit,
            other => panic!("{other:?}"),
        }
    }
}

fn readable(fd: BorrowedFd<'_>, seconds: i64) {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let patience = Timespec { tv_sec: seconds, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1, "no answer in time");
}

/// Reads until the end.
pub(crate) fn read_all(fd: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// Reads until the text has come.
pub(crate) fn read_until(fd: &OwnedFd, expected: &str) -> String {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&text).contains(expected) {
        readable(fd.as_fd(), SECONDS);
        let length = rustix::io::read(fd, &mut chunk).unwrap();
        assert!(length > 0, "ended after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&chunk[..length]);
    }
    String::from_utf8(text).unwrap()
}

pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// Asks until it is so.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..SECONDS * 100 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}

fn busybox(root: &Path) {
    for dir in ["bin", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("Debian's busybox-static is installed");
    for name in [
        "sh", "cat", "ls", "echo", "sleep", "nc", "ps", "tty", "stty", "head", "dd", "kill", "hostname",
        "tail", "setsid",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let all = linux::stat::all().unwrap();
    all.into_iter().filter(|(_, stat)| stat.parent == pid && stat.state != 'Z').map(|(pid, _)| pid).collect()
}

fn cgroups(path: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    hierarchies
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .map(|root| root.join(&path[1..]))
        .filter(|dir| dir.exists())
        .collect()
}

impl Drop for Pod {
    /// First as the CRI server would, then by force; a test that passed must have needed no force.
    fn drop(&mut self) {
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            if std::thread::panicking() { Vec::new() } else { self.end() }
        }));
        for pid in children(self.state.pid) {
            let _ = linux::signalfd::send(pid, 9);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for dir in cgroups(&self.cgroup) {
            until("an empty cgroup", || {
                for entry in fs::read_dir(&dir).unwrap() {
                    let entry = entry.unwrap();
                    if entry.file_type().unwrap().is_dir() {
                        let pids = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                        pids.lines().for_each(|pid| drop(linux::signalfd::send(pid.parse().unwrap(), 9)));
                        let _ = fs::remove_dir(entry.path());
                    }
                }
                fs::remove_dir(&dir).is_ok()
            });
        }
        match ended {
            Ok(left) => assert_eq!(left, Vec::<String>::new(), "left behind"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Pod {
    fn end(&mut self) -> Vec<String> {
        for id in self.status().containers.into_keys() {
            self.kill(&id, 9);
            self.wait(&id);
            self.delete(&id);
        }
        let mut left: Vec<String> = Vec::new();
        let pause = self.state.pause_pid;
        until("children that end", || children(self.state.pid).iter().all(|pid| Some(*pid) == pause));
        self.done(&Request::Shutdown);
        let status = self.child.wait().unwrap();
        if !status.success() {
            left.push(format!("the monitor ended with {status}"));
        }
        left.extend(pause.filter(|pid| linux::stat::of(*pid).is_ok()).map(|pid| format!("pause {pid}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir.path().to_str().unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(dir)).map(str::to_owned));
        for dir in cgroups(&self.cgroup) {
            let inside = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
            left.extend(
                inside
                    .filter(|entry| entry.file_type().unwrap().is_dir())
                    .map(|entry| entry.path().display().to_string()),
            );
        }
        let oci = fs::read_dir(self.dir.path().join("oci"));
        left.extend(oci.into_iter().flatten().map(|entry| entry.unwrap().path().display().to_string()));
        left
    }
}
