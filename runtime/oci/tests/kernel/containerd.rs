//! containerd drives this runtime: its shim's own use of runc's command line, log and pid files, console socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lab::debian::Debian;

use crate::bundle::{Bundle, Runtime};

const OURS: &str = env!("CARGO_BIN_EXE_cleat-oci");

/// A private containerd; it and its shims go with the value.
struct Containerd {
    directory: tempfile::TempDir,
    programs: PathBuf,
    child: Child,
}

impl Containerd {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("cleat-oci-containerd-").tempdir_in("/tmp").unwrap();
        let programs = Debian::open().unwrap().package("containerd").unwrap().join("usr/bin");
        let at = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("grpc.sock"),
            at("ttrpc.sock")
        );
        std::fs::write(at("config.toml"), config).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let mut command = Command::new(programs.join("containerd"));
        command.arg("--config").arg(at("config.toml")).env("PATH", path(&programs));
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let containerd = Self { directory, programs, child };
        let begin = Instant::now();
        while !containerd.ctr(&["version"]).status.success() {
            assert!(begin.elapsed() < Duration::from_secs(60), "containerd does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        containerd
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.programs.join("ctr"));
        command
            .arg("--address")
            .arg(self.directory.path().join("grpc.sock"))
            .args(["--namespace", "cleat-oci-test"]);
        command.args(arguments).env("PATH", path(&self.programs)).stdin(Stdio::null()).output().unwrap()
    }

    /// As [`Self::ctr`]; what goes wrong fails the test.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.ctr(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn path(programs: &Path) -> String {
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display())
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for container in ["one", "two"] {
            let _ = self.ctr(&["task", "delete", "--force", container]);
            let _ = self.ctr(&["container", "delete", container]);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let hierarchies = linux::cgroup::Hierarchies::read().unwrap();
        let cgroup = linux::cgroup::Cgroup::of_path(&hierarchies, "/cleat-oci-test").unwrap();
        cgroup.kill().and_then(|()| cgroup.remove()).unwrap();
    }
}

#[test]
fn containerd_runs_containers_with_it() {
    // Only its root file system.
    let bundle = Bundle::new(Runtime::Ours);
    let rootfs = bundle.rootfs().display().to_string();
    let containerd = Containerd::start();
    let run = ["run", "--runc-binary", OURS, "--rootfs"];
    let script = "echo from inside; /bin/busybox grep Seccomp: /proc/self/status; exit 7";
    let output =
        containerd.ctr(&[&run[..], &["--rm", "--seccomp", &rootfs, "one", "sh", "-c", script]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "from inside\nSeccomp:\t2\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(7));
    containerd.said(&[&run[..], &["--detach", &rootfs, "two", "sleep", "1000"]].concat());
    assert!(containerd.said(&["task", "list"]).contains("RUNNING"));
    assert_eq!(containerd.said(&["task", "exec", "--exec-id", "e", "two", "echo", "joined"]), "joined\n");
    containerd.said(&["task", "pause", "two"]);
    assert!(containerd.said(&["task", "list"]).contains("PAUSED"));
    containerd.said(&["task", "resume", "two"]);
    assert!(containerd.said(&["task", "ps", "two"]).lines().count() == 2);
    // Its error reaches the user through the log.
    let output = containerd.ctr(&["task", "exec", "--exec-id", "f", "two", "no-such"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("executable file not found"));
    containerd.said(&["task", "kill", "--signal", "KILL", "two"]);
}
