//! Another OCI runtime, by runc's command line.

use std::error::Error;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Standard};

use linux::cgroup::{Cgroup, Hierarchies};
use proto_node::monitor::ErrorKind;
use serde_json::Value;

use super::overlay;
use crate::pod::{Failure, Target, Work};
use crate::worker::{Made, Stdio, Task};

/// The terminal's master comes with its name.
const CONSOLE_NAME_MAX: usize = 4096;

/// Does the work of a task with the runtime at `path`.
pub(crate) fn perform(path: &Path, task: &Task, stdio: Stdio) -> Result<Option<Made>, Failure> {
    let files = Files::new(&task.target.bundle);
    let mut command = Command::new(path);
    command.arg("--root").arg(&task.oci_root);
    command.arg("--log").arg(&files.log).args(["--log-format", "json"]);
    command.current_dir("/").stdin(Standard::null()).stdout(Standard::null()).stderr(Standard::null());
    let id = &task.target.id;
    match &task.work {
        Work::Create(create) => {
            let mounted = overlay::mount_alone(&create.overlay, &task.target.bundle.join("rootfs"));
            mounted.map_err(|error| internal(id, &error))?;
            command.arg("create").arg("--bundle").arg(&task.target.bundle);
            return files.make(command, id, stdio).map(Some);
        }
        Work::Exec { process } => {
            fs::write(&files.input, process.to_string()).map_err(|error| internal(id, &error))?;
            command.args(["exec", "--detach", "--process"]).arg(&files.input);
            return files.make(command, id, stdio).map(Some);
        }
        Work::Update { resources } => {
            fs::write(&files.input, resources.to_string()).map_err(|error| internal(id, &error))?;
            command.args(["update", "--resources"]).arg(&files.input).arg(id);
        }
        Work::Start => drop(command.arg("start").arg(id)),
        Work::Kill { signal } => drop(command.args(["kill", "--all"]).arg(id).arg(signal.to_string())),
        Work::Delete => {
            files.run(command.args(["delete", "--force"]).arg(id), id)?;
            return remove_cgroup(&task.target).map(|()| None).map_err(|error| internal(id, &error));
        }
        Work::KillSession { .. } => return Ok(None),
    }
    files.run(&mut command, id).map(|()| None)
}

fn internal(id: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Internal, format!("container {id}: {error}"))
}

/// The files we exchange with one run of the runtime, gone when it is over.
struct Files {
    log: PathBuf,
    input: PathBuf,
    pid: PathBuf,
    console: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in [&self.log, &self.input, &self.pid, &self.console] {
            // Most runs leave only some of them.
            let _ = fs::remove_file(file);
        }
    }
}

impl Files {
    /// Beside `config.json`; several workers may be at it.
    fn new(bundle: &Path) -> Self {
        let name = |what| bundle.join(format!(".runtime-{}.{what}", std::process::id()));
        Self { log: name("log"), input: name("json"), pid: name("pid"), console: name("sock") }
    }

    /// Runs a command that makes a process.
    fn make(&self, mut command: Command, id: &str, stdio: Stdio) -> Result<Made, Failure> {
        command.arg("--pid-file").arg(&self.pid);
        let console = match stdio {
            Stdio::Fds([stdin, stdout, stderr]) => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                None
            }
            Stdio::Terminal => {
                let console = self.listen().map_err(|error| internal(id, &error))?;
                command.arg("--console-socket").arg(console.0.path_for_others());
                Some(console)
            }
        };
        command.arg(id);
        self.run(&mut command, id)?;
        let pid = fs::read_to_string(&self.pid).map_err(|error| internal(id, &error))?;
        let pid = pid.trim().parse().map_err(|error| internal(id, &error))?;
        let terminal =
            console.map(|(_, socket)| receive(&socket)).transpose().map_err(|error| internal(id, &error))?;
        Ok(Made { pid, terminal })
    }

    /// A socket in the bundle, with its path, that the runtime sends the terminal's master to.
    fn listen(&self) -> io::Result<(linux::socket::Short, OwnedFd)> {
        use rustix::net::{
            AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
        };
        let short = linux::socket::Short::of(&self.console)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(short.path())?)?;
        listen(&socket, 1)?;
        Ok((short, socket))
    }

    fn run(&self, command: &mut Command, id: &str) -> Result<(), Failure> {
        let program = command.get_program().display().to_string();
        let status = command.status().map_err(|error| internal(id, &format!("{program}: {error}")))?;
        if status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let why = last_error(&log).unwrap_or_else(|| format!("{program}: {status}"));
        Err(Failure::new(kind_of(&why), format!("container {id}: {why}")))
    }
}

/// Removes the cgroup of a container whose creation was killed before the runtime wrote down that there is one.
fn remove_cgroup(target: &Target) -> Result<(), Box<dyn Error>> {
    let spec: Value = serde_json::from_slice(&fs::read(target.bundle.join("config.json"))?)?;
    let Some(path) = spec["linux"]["cgroupsPath"].as_str() else { return Ok(()) };
    // Only one that is the container's alone.
    if !Path::new(path).is_absolute() || !Path::new(path).ends_with(&target.id) {
        return Ok(());
    }
    // A runtime may use the second one, which systemd mounts beside version 1, too.
    for hierarchies in [Hierarchies::read()?, Hierarchies::V2("/sys/fs/cgroup/unified".into())] {
        let cgroup = Cgroup::of_path(&hierarchies, path)?;
        if cgroup.exists() {
            cgroup.kill()?;
            cgroup.remove()?;
        }
    }
    Ok(())
}

/// What the runtime has sent before it ended: it does not wait for us to accept.
fn receive(console: &OwnedFd) -> io::Result<OwnedFd> {
    let connection = linux::packet::accept(console)?;
    let (_, mut descriptors) = linux::packet::receive(&connection, CONSOLE_NAME_MAX)?;
    descriptors.pop().ok_or_else(|| io::Error::other("the runtime sent no terminal"))
}

/// The last entry of level `error` or above in a log of JSON lines.
fn last_error(log: &str) -> Option<String> {
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut errors =
        entries.filter(|entry| matches!(entry["level"].as_str(), Some("error" | "fatal" | "panic")));
    errors.next_back().and_then(|entry| entry["msg"].as_str().map(str::to_owned))
}

/// The command line has no classes of failure, only texts; these are the same in runc, crun and youki.
fn kind_of(text: &str) -> ErrorKind {
    if text.contains("does not exist") {
        ErrorKind::NotFound
    } else if text.contains("executable file") || text.contains("not running") && text.contains("exec") {
        ErrorKind::InvalidArgument
    } else {
        ErrorKind::Internal
    }
}
