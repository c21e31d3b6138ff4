//! The library as the monitor uses it: a forked child creates the container, whose first process is the monitor's
//! own child, on an overlay that exists in the container only, with descriptors for its streams.
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use linux::cgroup::{Cgroup, Hierarchies};
use oci::{CreateOptions, ErrorKind, ExecOptions, Parent, Rootfs, Stdio};
use rustix::process::{Pid, WaitOptions};
use serde_json::json;

fn main() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    for (name, case) in [
        ("an overlay is the root and stays off the host", overlay as fn(&Case)),
        ("many layers with long paths", many_layers),
        ("a failure is typed and leaves nothing", failure),
        ("a process that joins is a child of the caller's parent", exec),
        ("a missing layer names itself", missing_layer),
    ] {
        let fresh = Case::new();
        case(&fresh);
        println!("test {name} ... ok");
    }
}

/// Directories, a configuration and a cgroup; gone with the value.
struct Case {
    directory: tempfile::TempDir,
    cgroup: String,
}

/// A program's three streams, and the test's ends of them.
fn streams() -> (Stdio, File, File) {
    let (stdin, stdin_test) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (stdout_test, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stderr = rustix::io::fcntl_dupfd_cloexec(&stdout, 3).unwrap();
    (Stdio::Fds { stdin, stdout, stderr }, stdin_test.into(), stdout_test.into())
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("cleat-oci-lib-").tempdir_in("/tmp").unwrap();
        let case = Self { directory, cgroup: format!("/cleat-oci-lib-{}", std::process::id()) };
        for one in ["bundle/rootfs", "base/bin", "base/etc", "top/etc", "upper", "work"] {
            std::fs::create_dir_all(case.at(one)).unwrap();
        }
        let files = lab::debian::Debian::open().unwrap().package("busybox-static").unwrap();
        let places = ["bin/busybox", "usr/bin/busybox"].map(|path| files.join(path));
        std::fs::copy(places.iter().find(|path| path.exists()).unwrap(), case.at("base/bin/busybox"))
            .unwrap();
        std::os::unix::fs::symlink("busybox", case.at("base/bin/sh")).unwrap();
        std::fs::write(case.at("base/etc/who"), "base\n").unwrap();
        std::fs::write(case.at("top/etc/who"), "top\n").unwrap();
        case
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn configure(&self, script: &str) {
        let config = json!({
            "ociVersion": "1.2.0", "root": { "path": "rootfs" },
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/sh", "-c", script], "cwd": "/",
                         "env": ["PATH=/bin"] },
            "mounts": [{ "destination": "/proc", "type": "proc" }],
            "linux": { "cgroupsPath": format!("{}/c", self.cgroup),
                       "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "ipc" }] },
        });
        std::fs::write(self.at("bundle/config.json"), config.to_string()).unwrap();
    }

    /// Calls the library in a forked child; the answer is the process, or the error.
    fn create(&self, lower: &[PathBuf], stdio: Stdio) -> Result<u32, (ErrorKind, String)> {
        let (upper, work) = (self.at("upper"), self.at("work"));
        let (bundle, root) = (self.at("bundle"), self.at("state"));
        self.in_child(stdio, |stdio| {
            let rootfs = Rootfs::Overlay { lower, upper: &upper, work: &work };
            let parent = Parent::Sibling;
            let options = CreateOptions {
                id: "c",
                root: &root,
                bundle: &bundle,
                rootfs,
                stdio,
                parent,
                preserve_fds: 0,
            };
            oci::create(options)
        })
    }

    fn in_child(
        &self,
        stdio: Stdio,
        call: impl FnOnce(Stdio) -> Result<oci::Process, oci::RuntimeError>,
    ) -> Result<u32, (ErrorKind, String)> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let Stdio::Fds { stdin, stdout, stderr } = stdio else { panic!("descriptors") };
        let child = linux::fork::spawn(vec![write, stdin, stdout, stderr], |fds| {
            let [write, stdin, stdout, stderr]: [OwnedFd; 4] = fds.try_into().unwrap();
            let answer = match call(Stdio::Fds { stdin, stdout, stderr }) {
                Ok(process) => Ok(process.pid),
                Err(error) => Err((error.kind(), error.to_string())),
            };
            File::from(write).write_all(&serde_json::to_vec(&answer).unwrap()).unwrap();
            0
        });
        let mut answer = Vec::new();
        File::from(read).read_to_end(&mut answer).unwrap();
        reap(child.unwrap().as_raw_nonzero().get().unsigned_abs());
        serde_json::from_slice(&answer).unwrap()
    }

    fn gone(&self) {
        assert!(!self.at("state/c").exists(), "state is left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.path().to_str().unwrap()), "mounts are left");
        assert!(!self.cgroup().exists(), "the cgroup is left");
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::of_path(&Hierarchies::read().unwrap(), &format!("{}/c", self.cgroup)).unwrap()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = oci::delete(&self.at("state"), "c", true);
        Cgroup::of_path(&Hierarchies::read().unwrap(), &self.cgroup).unwrap().remove().unwrap();
    }
}

fn reap(pid: u32) -> i32 {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    let (_, status) = rustix::process::waitpid(pid, WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap_or(-1)
}

fn overlay(case: &Case) {
    case.configure(
        "read line; echo got $line; cat /etc/who; echo new > /etc/new; cat /proc/self/mountinfo; exit 5",
    );
    std::os::unix::fs::symlink("busybox", case.at("base/bin/cat")).unwrap();
    let (stdio, mut stdin, mut stdout) = streams();
    let pid = case.create(&[case.at("top"), case.at("base")], stdio).unwrap();
    // The monitor's own child, not the forked one's.
    assert_eq!(linux::stat::of(pid).unwrap().parent, std::process::id());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(case.directory.path().to_str().unwrap()), "the overlay shows on the host");
    oci::start(&case.at("state"), "c").unwrap();
    stdin.write_all(b"this\n").unwrap();
    drop(stdin);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("got this\ntop\n"), "{text}");
    assert!(!text.contains("/tmp/"), "the container learns the host's paths: {text}");
    assert_eq!(reap(pid), 5);
    assert_eq!(std::fs::read_to_string(case.at("upper/etc/new")).unwrap(), "new\n");
    assert_eq!(
        oci::state(&case.at("state"), "c").unwrap().status(),
        &oci_spec::runtime::ContainerState::Stopped
    );
    oci::delete(&case.at("state"), "c", false).unwrap();
    case.gone();
}

fn many_layers(case: &Case) {
    case.configure("cat /etc/who; echo $(ls /)");
    for applet in ["cat", "ls"] {
        std::os::unix::fs::symlink("busybox", case.at("base/bin").join(applet)).unwrap();
    }
    let deep = "d".repeat(200);
    let mut lower: Vec<PathBuf> = (0..120).map(|number| case.at(&format!("{deep}/{number}"))).collect();
    for (number, layer) in lower.iter().enumerate() {
        std::fs::create_dir_all(layer.join(format!("layer{}", number % 3))).unwrap();
    }
    lower.push(case.at("base"));
    let (stdio, _, mut stdout) = streams();
    let pid = case.create(&lower, stdio).unwrap();
    oci::start(&case.at("state"), "c").unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert!(text.contains("base\n") && text.contains("layer0 layer1 layer2"), "{text}");
    reap(pid);
}

fn failure(case: &Case) {
    case.configure("true");
    let file = case.at("bundle/config.json");
    let text = std::fs::read_to_string(&file).unwrap().replace("/bin/sh", "/bin/none");
    std::fs::write(&file, text).unwrap();
    let (stdio, _, _) = streams();
    let (kind, message) = case.create(&[case.at("base")], stdio).unwrap_err();
    assert_eq!(kind, ErrorKind::InvalidSpec);
    assert!(message.contains("no such file or directory"), "{message}");
    // What failed was a child of ours.
    let _ = rustix::process::wait(WaitOptions::empty());
    case.gone();
    assert_eq!(oci::state(&case.at("state"), "c").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(oci::start(&case.at("state"), "c").unwrap_err().kind(), ErrorKind::NotFound);
}

fn exec(case: &Case) {
    case.configure("read line");
    let (stdio, stdin, _stdout) = streams();
    let first = case.create(&[case.at("base")], stdio).unwrap();
    oci::start(&case.at("state"), "c").unwrap();
    assert_eq!(oci::start(&case.at("state"), "c").unwrap_err().kind(), ErrorKind::WrongState);
    let process = json!({ "user": { "uid": 7, "gid": 8 }, "args": ["/bin/sh", "-c", "echo joined $(busybox id -u); exit 3"],
                          "cwd": "/", "env": ["PATH=/bin"] });
    let process = serde_json::from_value(process).unwrap();
    let (stdio, _, mut stdout) = streams();
    let root = case.at("state");
    let pid = case.in_child(stdio, |stdio| {
        oci::exec(ExecOptions {
            id: "c",
            root: &root,
            process: &process,
            stdio,
            parent: Parent::Sibling,
            preserve_fds: 0,
        })
    });
    let pid = pid.unwrap();
    assert_eq!(linux::stat::of(pid).unwrap().parent, std::process::id());
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), reap(pid)), ("joined 7\n", 3));
    drop(stdin);
    reap(first);
}

fn missing_layer(case: &Case) {
    case.configure("true");
    let (stdio, _, _) = streams();
    let (_, message) = case.create(&[case.at("not-there")], stdio).unwrap_err();
    assert!(message.contains("not-there"), "{message}");
    let _ = rustix::process::wait(WaitOptions::empty());
    case.gone();
}
