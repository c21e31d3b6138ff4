//! A throw-away bundle, the runtimes that run it, and the proof that nothing is left of it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use linux::cgroup::{Cgroup, Hierarchies};
use serde_json::{Value, json};

/// A program with runc's command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Ours,
    Runc,
}

/// Set where there is no runc.
pub(crate) const WITHOUT_RUNC: &str = "CLEAT_TEST_WITHOUT_RUNC";

/// Ours, and the oracle.
pub(crate) fn all() -> Vec<Runtime> {
    let oracle = std::env::var_os(WITHOUT_RUNC).is_none().then_some(Runtime::Runc);
    [Runtime::Ours].into_iter().chain(oracle).collect()
}

impl Runtime {
    fn program(self) -> &'static str {
        match self {
            Self::Ours => env!("CARGO_BIN_EXE_cleat-oci"),
            Self::Runc => "/usr/sbin/runc",
        }
    }
}

/// A bundle with a configuration that Kubernetes would write, changed by the test, and a container made of it.
pub(crate) struct Bundle {
    pub(crate) runtime: Runtime,
    pub(crate) config: Value,
    pub(crate) id: String,
    directory: tempfile::TempDir,
    cgroup: String,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Bundle {
    pub(crate) fn new(runtime: Runtime) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let program = runtime.program();
        assert!(Path::new(program).exists(), "{program} is missing: apt-get install runc");
        let directory = tempfile::Builder::new().prefix("cleat-oci-test-").tempdir_in("/tmp").unwrap();
        let id = format!("test-{}-{number}", std::process::id());
        let cgroup = format!("/cleat-oci-test-{}-{number}", std::process::id());
        let bundle = Self { runtime, config: config(&format!("{cgroup}/container")), id, directory, cgroup };
        bundle.fill_rootfs();
        bundle
    }

    fn fill_rootfs(&self) {
        for directory in ["bin", "etc", "tmp", "proc", "dev", "sys"] {
            std::fs::create_dir_all(self.rootfs().join(directory)).unwrap();
        }
        std::fs::copy(busybox(), self.rootfs().join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "echo", "sleep", "mount", "id", "ps", "true", "ls", "stat", "hostname", "stty",
            "tty",
        ] {
            symlink("busybox", self.rootfs().join("bin").join(applet)).unwrap();
        }
        std::fs::write(
            self.rootfs().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n",
        )
        .unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn cgroup(&self) -> Cgroup {
        let path = format!("{}/container", self.cgroup);
        Cgroup::of_path(&Hierarchies::read().unwrap(), &path).unwrap()
    }

    /// Sets the container's program.
    pub(crate) fn args(&mut self, args: &[&str]) -> &mut Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    /// Sets the container's program to a script.
    pub(crate) fn script(&mut self, script: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", script])
    }

    pub(crate) fn mount(&mut self, mount: Value) -> &mut Self {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    /// Runs a command of the runtime on this container: `create --bundle B ID`, `exec ID ...`.
    pub(crate) fn command(&self, name: &str, options: &[&str], rest: &[&str]) -> Command {
        let config = serde_json::to_string(&self.config).unwrap();
        std::fs::write(self.path().join("config.json"), config).unwrap();
        let mut command = Command::new(self.runtime.program());
        command.arg("--root").arg(self.root()).arg(name);
        if matches!(name, "create" | "run") {
            command.arg("--bundle").arg(self.path());
        }
        command.args(options).arg(&self.id).args(rest).stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, name: &str, rest: &[&str]) -> Said {
        self.command(name, &[], rest).output().unwrap().into()
    }

    /// As [`Self::call`]; what goes wrong fails the test.
    pub(crate) fn done(&self, name: &str, rest: &[&str]) -> Said {
        let said = self.call(name, rest);
        assert_eq!(said.code, Some(0), "{:?} {name} {rest:?}: {}", self.runtime, said.err);
        said
    }

    /// Makes a container whose output does not hold up who reads ours.
    pub(crate) fn create(&self) {
        let error = std::fs::File::create(self.path().join("create.err")).unwrap();
        let mut command = self.command("create", &[], &[]);
        let status = command.stdout(Stdio::null()).stderr(error).status().unwrap();
        let said = std::fs::read_to_string(self.path().join("create.err")).unwrap();
        assert!(status.success(), "{:?} create: {said}", self.runtime);
    }

    pub(crate) fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.done("state", &[]).out).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        let state: Value = serde_json::from_str(&self.done("state", &[]).out).unwrap();
        u32::try_from(state["pid"].as_u64().unwrap()).unwrap()
    }

    /// Waits until the container is in a state.
    pub(crate) fn until(&self, status: &str) {
        let begin = Instant::now();
        while self.status() != status {
            assert!(begin.elapsed() < Duration::from_secs(20), "not {status} but {}", self.status());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a script in a container to its end.
    pub(crate) fn run(&mut self, script: &str) -> Said {
        self.script(script);
        self.call("run", &[])
    }

    /// Fails if anything is left of the container.
    pub(crate) fn assert_gone(&self) {
        assert!(!self.root().join(&self.id).exists(), "state is left");
        assert!(!self.cgroup().exists(), "cgroup {} is left", self.cgroup().path());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.path().to_str().unwrap();
        assert!(!mounts.contains(own), "mounts are left below {own}");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.command("delete", &["--force"], &[]).output();
        let parent = Cgroup::of_path(&Hierarchies::read().unwrap(), &self.cgroup).unwrap();
        let gone = parent.kill().and_then(|()| parent.remove());
        // On a hybrid machine runc makes one there too, and leaves its parent.
        let unified = Hierarchies::V2("/sys/fs/cgroup/unified".into());
        let gone = gone.and(Cgroup::of_path(&unified, &self.cgroup).unwrap().remove());
        if !std::thread::panicking() {
            gone.unwrap();
            self.assert_gone();
        }
    }
}

/// A static busybox: the machine's own in the guest of `unified`, else Debian's.
fn busybox() -> PathBuf {
    if std::env::var_os(WITHOUT_RUNC).is_some() {
        return "/bin/busybox".into();
    }
    let files = lab::debian::Debian::open().unwrap().package("busybox-static").unwrap();
    let places = ["bin/busybox", "usr/bin/busybox"].map(|path| files.join(path));
    places.into_iter().find(|path| path.exists()).unwrap()
}

fn config(cgroup: &str) -> Value {
    let capabilities =
        json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE", "CAP_MKNOD"]);
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "hostname": "inside",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sleep", "1000"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": ["/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/not/there"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
