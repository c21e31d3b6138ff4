//! The dialogue between the CRI server and the monitor of one pod.
//!
//! # Files
//! The CRI server makes `<run>/pods/<sandbox id>/` and writes [`MonitorConfig`] into [`CONFIG_FILE`]. The monitor
//! makes the namespaces, writes [`MonitorState`] into [`STATE_FILE`] (by rename), listens on [`SOCKET_FILE`], and
//! closes the standard output it was started with; a failure before that is one line of text on it.
//! When a container ends the monitor writes [`ExitRecord`] to `exit.json` in the container's bundle
//! before it tells anybody.
//!
//! # Connections
//! `SOCK_SEQPACKET`: one packet is one JSON message, descriptors ride along by `SCM_RIGHTS`. A client opens a
//! connection per request; requests on several connections run side by side. Each request has exactly one
//! [`Response`], but for [`Request::Exec`] (one [`Response::ExecStarted`], then one [`Response::Exited`]),
//! [`Request::Wait`] (answers when the container has ended), [`Request::Attach`] ([`Response::Done`], then
//! [`Response::Exited`]) and [`Request::Watch`] ([`Response::Done`], then events until the client hangs up).
//! After the last response the monitor closes the connection.
//!
//! ```text
//!   Create ──> created ──Start──> running ──exit──> exited ──Delete──> (gone)
//!                 └──────────Kill / exit───────────────┘
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of this dialogue and of the files named here. A monitor of another version still answers
/// [`Request::Status`], [`Request::Kill`] and [`Request::Shutdown`] in this form.
pub const VERSION: u32 = 1;
/// [`MonitorConfig`], written by the CRI server before it starts the monitor.
pub const CONFIG_FILE: &str = "monitor.json";
/// [`MonitorState`], written by the monitor when the pod's namespaces stand.
pub const STATE_FILE: &str = "state.json";
/// The socket the monitor listens on.
pub const SOCKET_FILE: &str = "monitor.sock";
/// [`ExitRecord`], written by the monitor into the container's bundle.
pub const EXIT_FILE: &str = "exit.json";
/// The largest message either side may send, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// What the monitor of a pod shall set up before it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorConfig {
    /// [`VERSION`].
    pub version: u32,
    /// The sandbox id: 64 lower-case hexadecimal digits.
    pub sandbox_id: String,
    /// Make a network namespace (false: the host's, `hostNetwork`).
    pub new_network: bool,
    /// Make an IPC namespace (false: the host's, `hostIPC`).
    pub new_ipc: bool,
    /// Make a UTS namespace and set this host name; `None` keeps the host's.
    pub hostname: Option<String>,
    /// Start the built-in pause process as PID 1 of a PID namespace that the pod's containers share.
    pub shared_pid: bool,
    /// Sysctls of the pod's namespaces, dotted or slashed name to value.
    pub sysctls: BTreeMap<String, String>,
    /// `oom_score_adj` of the monitor; clamped to what the kernel allows.
    pub oom_score_adj: i32,
    /// State directory of the OCI runtime, e.g. `/run/cleat/oci`.
    pub oci_root: PathBuf,
}

/// Where a live monitor and its pod's namespaces are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorState {
    /// [`VERSION`].
    pub version: u32,
    /// The monitor's process; `/proc/<pid>/ns/{net,ipc,uts}` are the pod's.
    pub pid: u32,
    /// Start time of that process in clock ticks since boot (field 22 of `/proc/<pid>/stat`): pid and start time
    /// together name a process for ever.
    pub start_time: u64,
    /// The pause process, where the pod shares a PID namespace; `/proc/<pid>/ns/pid` is the pod's.
    pub pause_pid: Option<u32>,
}

/// How a container or an exec session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`VERSION`].
    pub version: u32,
    /// Exit code; 128 + signal for a process that a signal ended.
    pub exit_code: i32,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// The kernel killed a process of the container's cgroup for lack of memory.
    pub oom_killed: bool,
}

/// From the CRI server to the monitor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Create a container: everything up to the user's process, which waits for [`Request::Start`].
    /// Answer: [`Response::Created`].
    Create(Create),
    /// Start the user's process of a created container. Answer: [`Response::Done`].
    Start {
        /// Container id.
        container: String,
    },
    /// Send a signal. A container that has ended is no error. The creation of one that is being created is given
    /// up. Answer: [`Response::Done`].
    Kill {
        /// Container id.
        container: String,
        /// Signal number.
        signal: i32,
        /// Every process of the container's cgroup instead of its first process only.
        all: bool,
    },
    /// Remove what the runtime holds for a container that has ended (cgroup, runtime state). Unknown: no error. The
    /// creation of one that is being created is given up and undone; what else is under way is waited for. Answer:
    /// [`Response::Done`].
    Delete {
        /// Container id.
        container: String,
    },
    /// Answers [`Response::Exited`] when the container has ended (at once if it has).
    Wait {
        /// Container id.
        container: String,
    },
    /// Run a further process in a running container. Without a terminal three descriptors ride along: its
    /// stdin, stdout, stderr. With one none do, and the terminal's master rides along with
    /// [`Response::ExecStarted`]. The process is killed when the time is over. A client that hangs up does not end it.
    Exec(Exec),
    /// Copy a container's output to the two descriptors that ride along (stdout, stderr) beside its log, and what
    /// the third (stdin; may be left out) gives to its stdin, until the client hangs up. They are made non-blocking.
    /// A slow reader loses output rather than holding up the container: pipes should be made large. With a terminal stderr is unused. Answer: [`Response::Done`] when attached, and
    /// [`Response::Exited`] when the container ends.
    Attach {
        /// Container id.
        container: String,
    },
    /// Set the size of a container's terminal. Answer: [`Response::Done`].
    Resize {
        /// Container id.
        container: String,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Close and open the log file again, after its rotation. Answer: [`Response::Done`].
    ReopenLog {
        /// Container id.
        container: String,
    },
    /// Change a container's resources. Answer: [`Response::Done`].
    Update {
        /// Container id.
        container: String,
        /// OCI `linux.resources`, as JSON.
        resources: serde_json::Value,
    },
    /// Connect to a TCP port on the pod's loopback. Answer: [`Response::Done`] with the connected socket riding
    /// along.
    Dial {
        /// Port.
        port: u16,
    },
    /// Everything the monitor knows. Answer: [`Response::Status`].
    Status,
    /// [`Response::Done`] when watching, then [`Response::Event`] for each exit. A client that does not read them is
    /// disconnected; watch first, then ask for the status, and nothing is missed.
    Watch,
    /// End the pause process and the monitor. Refused while a container lives. Answer: [`Response::Done`], then the
    /// monitor exits, and with it go the pod's namespaces.
    Shutdown,
}

/// A container to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// Container id.
    pub container: String,
    /// The OCI bundle: `config.json`, an empty `rootfs/`.
    pub bundle: PathBuf,
    /// What runs it.
    pub runtime: Runtime,
    /// The root file system, mounted in the container's mount namespace only.
    pub overlay: Overlay,
    /// The log, in CRI format; `None` throws the output away.
    pub log_path: Option<PathBuf>,
    /// The container's process has a terminal.
    pub terminal: bool,
    /// Keep the container's stdin open for [`Request::Attach`].
    pub stdin: bool,
    /// Close it when the first attached client that gave it is gone.
    pub stdin_once: bool,
}

/// Which OCI runtime runs a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// Ours, linked into the monitor.
    BuiltIn,
    /// A program with runc's command line.
    Program {
        /// Its path.
        path: PathBuf,
    },
}

/// An overlayfs mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// overlayfs' work directory, beside `upper`.
    pub work: PathBuf,
}

/// A process to run in a running container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Container id.
    pub container: String,
    /// OCI `process`, as JSON; its `terminal` decides about the descriptors.
    pub process: serde_json::Value,
    /// Kill the process (and what it started) after so many milliseconds; the answer is then
    /// [`Response::Error`] with [`ErrorKind::DeadlineExceeded`].
    pub timeout_ms: Option<u64>,
}

/// From the monitor to the CRI server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// It is done.
    Done,
    /// The container waits for [`Request::Start`].
    Created {
        /// Its first process.
        pid: u32,
    },
    /// The exec session runs.
    ExecStarted {
        /// Its process.
        pid: u32,
    },
    /// The container or exec session has ended.
    Exited(ExitRecord),
    /// Answer to [`Request::Status`].
    Status(Status),
    /// To those who asked by [`Request::Watch`].
    Event(Event),
    /// It is not done, and nothing half-made is left.
    Error {
        /// What the caller can make of it.
        kind: ErrorKind,
        /// For people: which object, what was expected, what to do.
        message: String,
    },
}

/// What a caller can make of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The request or the container's configuration cannot work.
    InvalidArgument,
    /// There is no such container.
    NotFound,
    /// The container is in another state.
    FailedPrecondition,
    /// The time is over.
    DeadlineExceeded,
    /// The kernel or the runtime refused.
    Internal,
}

/// A pod's monitor at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running monitor's dialogue.
    pub version: u32,
    /// By container id.
    pub containers: BTreeMap<String, ContainerStatus>,
}

/// A container as its monitor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerStatus {
    /// Waits for [`Request::Start`].
    Created {
        /// First process.
        pid: u32,
    },
    /// Runs.
    Running {
        /// First process.
        pid: u32,
        /// Nanoseconds since the epoch.
        started_at: i64,
    },
    /// Has ended.
    Exited(ExitRecord),
}

/// Something that happened in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A container ended; its [`ExitRecord`] is on disk.
    Exited {
        /// Container id.
        container: String,
        /// How.
        exit: ExitRecord,
    },
}
