//! The monitor's program, and its start.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use proto_node::monitor::{CONFIG_FILE, MonitorConfig, MonitorState};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::{Client, MonitorError};

/// What the monitor says when something is amiss; in its directory.
const LOG_FILE: &str = "monitor.log";

/// The `cleat-monitor` program as a sealed copy in memory, which a container that gets hold of it cannot change
/// (CVE-2019-5736), and which an upgrade on disk does not touch. All monitors of this process share its pages.
#[derive(Debug)]
pub struct MonitorProgram(OwnedFd);

impl MonitorProgram {
    /// Copies the program at `path`.
    ///
    /// # Errors
    /// When it cannot be read or there is no memory for it.
    pub fn load(path: &Path) -> Result<Self, MonitorError> {
        let file = |source| MonitorError::File { path: path.to_owned(), source };
        copy(path).map(Self).map_err(file)
    }
}

fn copy(path: &Path) -> io::Result<OwnedFd> {
    let copy = linux::sealed::copy("cleat-monitor", &mut File::open(path)?)?;
    // Nothing can be executed while a descriptor that could write it is open.
    Ok(File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?.into())
}

/// Starts a monitor in `dir`, which must exist: writes its configuration, runs it in a session of its own, so that
/// it outlives us, and waits until it listens. When the future is dropped before that the monitor may come up all the
/// same: its [`Client::state`] tells.
///
/// # Errors
/// [`MonitorError::Start`] with what the monitor said; it is dead then, and has left nothing but files in `dir`.
pub async fn spawn(
    program: &MonitorProgram,
    dir: &Path,
    config: &MonitorConfig,
) -> Result<MonitorState, MonitorError> {
    let start = |why: String| MonitorError::Start { dir: dir.to_owned(), why };
    configure(dir, config)?;
    let log = dir.join(LOG_FILE);
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
    let stderr = opened.map_err(|source| MonitorError::File { path: log, source })?;
    let mut command = Command::new(PathBuf::from(format!("/proc/self/fd/{}", program.0.as_raw_fd())));
    command.arg0("cleat-monitor").arg("--dir").arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(false);
    // Detached, tokio reaps it when it ends.
    let mut child = command.spawn().map_err(|error| start(error.to_string()))?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).await.map_err(|error| start(error.to_string()))?;
    }
    let state = Client::new(dir).state();
    match state {
        Ok(state) if said.is_empty() && Some(state.pid) == child.id() => Ok(state),
        _ => {
            let status = child.wait().await.map_err(|error| start(error.to_string()))?;
            let said = said.trim();
            Err(start(if said.is_empty() { status.to_string() } else { said.to_owned() }))
        }
    }
}

/// It lives no longer than the pod, so it need not outlast a power failure; but a crash of ours leaves it whole.
fn configure(dir: &Path, config: &MonitorConfig) -> Result<(), MonitorError> {
    let path = dir.join(CONFIG_FILE);
    let temporary = dir.join(".monitor.json.new");
    let text = serde_json::to_vec(config).map_err(io::Error::from);
    let written = text.and_then(|text| std::fs::write(&temporary, text));
    let written = written.and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|source| MonitorError::File { path, source })
}
