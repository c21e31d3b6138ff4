//! OCI runtime: plan, create, start, kill, delete, exec.
//!
//! ```text
//! config.json ──spec──> Config ──plan (pure)──> [Step] ──┬── parent: cgroup, clone, hooks    undone on failure
//!                                                        └── init:   namespaces, mounts, rights, exec
//! ```
//!
//! # Calling
//! [`create`] and [`exec`] clone this process: they must be called from a process with one thread (they fail with
//! `EBUSY` otherwise), either the `cleat-oci` binary or a forked child of the monitor. Descriptors that a container
//! shall not see must be close-on-exec or lie above the preserved ones; they are closed in the clone.
//!
//! # Trust
//! The configuration is the caller's and trusted; the image, the volumes and the processes of running containers are
//! not. No path inside the container is followed out of its root, no setting reaches the kernel through a path the
//! image can shape, and no restriction is dropped in silence.
#![forbid(unsafe_code)]

pub mod cli;
mod dialogue;
mod error;
mod exec;
mod features;
mod hooks;
mod init;
mod operate;
mod options;
mod parent;
mod plan;
pub mod seccomp;
mod spec;
mod state;

use std::path::Path;

use oci_spec::runtime::{Features, LinuxResources, State};

pub use error::{ErrorKind, RuntimeError};
pub use options::{CreateOptions, ExecOptions, Parent, Process, Rootfs, Stdio};

/// Makes a container: everything up to the user's process, which waits for [`start`]. Returns when it waits there
/// and the state is recorded. On failure nothing is left.
///
/// # Errors
/// See [`ErrorKind`].
pub fn create(options: CreateOptions<'_>) -> Result<Process, RuntimeError> {
    parent::create(options)
}

/// Starts the user's process of a created container. Returns when it has been executed, or with why it could not be.
///
/// # Errors
/// See [`ErrorKind`].
pub fn start(root: &Path, id: &str) -> Result<(), RuntimeError> {
    operate::start(root, id)
}

/// Sends a signal to a container's first process, or with `all` to every process of its cgroup.
///
/// # Errors
/// See [`ErrorKind`]; without `all`, a container that has ended is [`ErrorKind::WrongState`].
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<(), RuntimeError> {
    operate::kill(root, id, signal, all)
}

/// Removes a container that has ended: what is left in its cgroup, the cgroup, its state; then runs its poststop hooks.
/// With `force` also one that runs (it is killed), and one that does not exist is no error. What a removal that was cut
/// short has left, the next one removes.
///
/// # Errors
/// See [`ErrorKind`].
pub fn delete(root: &Path, id: &str, force: bool) -> Result<(), RuntimeError> {
    operate::delete(root, id, force)
}

/// A container's state, looked up in the kernel.
///
/// # Errors
/// See [`ErrorKind`].
pub fn state(root: &Path, id: &str) -> Result<State, RuntimeError> {
    operate::state(root, id)
}

/// Runs a further process in a running container. Returns when it has been executed, or with why it could not be.
///
/// # Errors
/// See [`ErrorKind`].
pub fn exec(options: ExecOptions<'_>) -> Result<Process, RuntimeError> {
    exec::exec(options)
}

/// Changes a container's resources; what `resources` leaves out stays, and its device rules are not looked at.
///
/// # Errors
/// See [`ErrorKind`].
pub fn update(root: &Path, id: &str, resources: &LinuxResources) -> Result<(), RuntimeError> {
    operate::update(root, id, resources)
}

/// What this runtime does (runtime-spec: features.md).
pub fn features() -> Features {
    features::features()
}
