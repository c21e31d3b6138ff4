//! From the program's start to the moment clients may connect: the pod's namespaces and what belongs to them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use linux::signalfd::{self, ChildSignal};
use linux::{crash, fork, packet, stat};
use proto_node::monitor::{CONFIG_FILE, MonitorConfig, MonitorState, SOCKET_FILE, STATE_FILE, VERSION};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use crate::event_loop::EventLoop;
use crate::{pause, record, sysctl};

/// Why a pod could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be read or makes no sense.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Config(PathBuf, String),
    /// Another monitor works in this directory.
    #[error("{path}: another monitor works here", path = .0.display())]
    Taken(PathBuf),
    /// A sysctl may not or cannot be set.
    #[error("sysctl {0}: {1}")]
    Sysctl(String, String),
    /// The kernel refused.
    #[error("{0}: {1}")]
    Kernel(&'static str, io::Error),
}

/// Names what was being done.
fn kernel<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> StartError {
    move |error| StartError::Kernel(what, error.into())
}

/// Sets up the pod and opens its socket.
pub(crate) fn start(dir: &Path) -> Result<EventLoop, StartError> {
    fork::close_from(3);
    let dir = std::path::absolute(dir).map_err(kernel("working directory"))?;
    let lock = lock(&dir)?;
    let config = config(&dir)?;
    detach(&config).map_err(kernel("leaving the caller's session"))?;
    let child_signal = ChildSignal::open().map_err(kernel("signalfd"))?;
    namespaces(&config)?;
    let pause = config.shared_pid.then(|| pause::start(&dir)).transpose().map_err(kernel("pause process"))?;
    crash::point("monitor.namespaces");
    let listener = listen(&dir)?;
    let pid = std::process::id();
    let start_time = stat::of(pid).map_err(kernel("/proc/self/stat"))?.start_time;
    let pause_pid = pause.map(raw);
    let state = MonitorState { version: VERSION, pid, start_time, pause_pid };
    record::write(&dir, STATE_FILE, &state).map_err(kernel("state.json"))?;
    crash::point("monitor.state");
    release_stdio().map_err(kernel("/dev/null"))?;
    Ok(EventLoop::new(config.oci_root, lock, listener, child_signal, pause))
}

/// Held while the monitor lives, so that no second one takes its socket away.
fn lock(dir: &Path) -> Result<OwnedFd, StartError> {
    let lock = File::open(dir).map_err(|error| StartError::Config(dir.to_owned(), error.to_string()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| StartError::Taken(dir.to_owned()))?;
    Ok(lock.into())
}

fn config(dir: &Path) -> Result<MonitorConfig, StartError> {
    let path = dir.join(CONFIG_FILE);
    let text = std::fs::read(&path).map_err(|error| StartError::Config(path.clone(), error.to_string()))?;
    let config: MonitorConfig =
        serde_json::from_slice(&text).map_err(|error| StartError::Config(path.clone(), error.to_string()))?;
    if config.version != VERSION {
        let message = format!("version {}, but this monitor knows {VERSION}", config.version);
        return Err(StartError::Config(path, message));
    }
    Ok(config)
}

/// Becomes a process that its caller's death, terminal and signals do not reach.
fn detach(config: &MonitorConfig) -> io::Result<()> {
    rustix::thread::set_name(c"cleat-monitor")?;
    // A process that leads its group already was started detached.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    signalfd::ignore(&[Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE].map(Signal::as_raw));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // Without CAP_SYS_RESOURCE the kernel refuses to lower it; what we were started with stays then.
    let _ = std::fs::write("/proc/self/oom_score_adj", config.oom_score_adj.to_string());
    Ok(())
}

fn namespaces(config: &MonitorConfig) -> Result<(), StartError> {
    let wanted = [
        (config.new_network, UnshareFlags::NEWNET),
        (config.new_ipc, UnshareFlags::NEWIPC),
        (config.hostname.is_some(), UnshareFlags::NEWUTS),
    ];
    let flags =
        wanted.iter().filter(|(wanted, _)| *wanted).fold(UnshareFlags::empty(), |all, (_, flag)| all | *flag);
    fork::unshare(flags).map_err(kernel("namespaces"))?;
    if let Some(hostname) = &config.hostname {
        rustix::system::sethostname(hostname.as_bytes()).map_err(kernel("host name"))?;
    }
    for (name, value) in &config.sysctls {
        // Our own view of /proc/sys shows the namespaces made above.
        let file = sysctl::file(config, name).map_err(|why| StartError::Sysctl(name.clone(), why))?;
        std::fs::write(file, value).map_err(|error| StartError::Sysctl(name.clone(), error.to_string()))?;
    }
    Ok(())
}

fn listen(dir: &Path) -> Result<OwnedFd, StartError> {
    // Left by a monitor that died; the lock says that it is dead.
    let _ = std::fs::remove_file(dir.join(SOCKET_FILE));
    packet::listen(dir, SOCKET_FILE).map_err(kernel("monitor.sock"))
}

/// Closing standard output tells the caller that we are ready.
fn release_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

/// A process id as the messages carry it.
pub(crate) fn raw(pid: Pid) -> u32 {
    pid.as_raw_pid().unsigned_abs()
}
