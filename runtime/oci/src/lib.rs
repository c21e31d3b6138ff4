//! OCI runtime: plan, create, start, kill, delete, exec.
//!
//! # Calling
//! [`create`] and [`exec`] clone this process: they must be called from a process with one thread, either the
//! `cleat-oci` binary or a forked child of the monitor.
#![forbid(unsafe_code)]

mod error;
mod options;
pub mod seccomp;

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
    Err(RuntimeError::new(ErrorKind::Kernel, format!("container {}: create is not there yet", options.id)))
}

/// Starts the user's process of a created container. Returns when it has been executed, or with why it could not be.
///
/// # Errors
/// See [`ErrorKind`].
pub fn start(_root: &Path, id: &str) -> Result<(), RuntimeError> {
    Err(RuntimeError::new(ErrorKind::Kernel, format!("container {id}: start is not there yet")))
}

/// Sends a signal to a container's first process, or with `all` to every process of its cgroup.
///
/// # Errors
/// See [`ErrorKind`]; a container that has ended is [`ErrorKind::WrongState`].
pub fn kill(_root: &Path, id: &str, _signal: i32, _all: bool) -> Result<(), RuntimeError> {
    Err(RuntimeError::new(ErrorKind::Kernel, format!("container {id}: kill is not there yet")))
}

/// Removes a container that has ended: what is left in its cgroup, the cgroup, its state; then runs its poststop hooks.
/// With `force` also one that runs (it is killed), and one that does not exist is no error.
///
/// # Errors
/// See [`ErrorKind`].
pub fn delete(_root: &Path, id: &str, _force: bool) -> Result<(), RuntimeError> {
    Err(RuntimeError::new(ErrorKind::Kernel, format!("container {id}: delete is not there yet")))
}

/// A container's state, looked up in the kernel.
///
/// # Errors
/// See [`ErrorKind`].
pub fn state(_root: &Path, id: &str) -> Result<State, RuntimeError> {
    Err(RuntimeError::new(ErrorKind::Kernel, format!("container {id}: state is not there yet")))
}

/// Runs a further process in a running container. Returns when it has been executed, or with why it could not be.
///
/// # Errors
/// See [`ErrorKind`].
pub fn exec(options: ExecOptions<'_>) -> Result<Process, RuntimeError> {
    Err(RuntimeError::new(ErrorKind::Kernel, format!("container {}: exec is not there yet", options.id)))
}

/// Changes a container's resources; what `resources` leaves out stays.
///
/// # Errors
/// See [`ErrorKind`].
pub fn update(_root: &Path, id: &str, _resources: &LinuxResources) -> Result<(), RuntimeError> {
    Err(RuntimeError::new(ErrorKind::Kernel, format!("container {id}: update is not there yet")))
}

/// What this runtime does (runtime-spec: features.md).
pub fn features() -> Features {
    Features::default()
}
