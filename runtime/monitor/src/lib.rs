//! The parent of a pod's containers: holds their streams, logs and exit codes, runs processes in them, and is the
//! pod's network, IPC and UTS namespaces. One thread, no memory to speak of, and no need of the CRI server, which
//! may come and go.
//!
//! ```text
//!  requests, exits, ends of jobs ──> pod (pure) ──> effects ──> event_loop ──> worker ──> runtime (ours or a program)
//!                                                                   └──> stdio ──> log, attached clients
//! ```
#![forbid(unsafe_code)]

mod attach;
mod dial;
mod event_loop;
mod log;
mod oom;
mod pause;
mod pod;
mod record;
mod runtime;
mod session;
mod start;
mod stdio;
mod sysctl;
mod worker;

use std::path::Path;

pub use start::StartError;

/// Is the monitor of the pod whose [`proto_node::monitor::MonitorConfig`] lies in `dir`, until it is told to shut
/// down. Must be called by the only thread of a process that holds nothing else: it closes what it inherited.
///
/// # Errors
/// What keeps the pod from being set up, before anybody could connect.
pub fn run(dir: &Path) -> Result<(), StartError> {
    start::start(dir)?.run();
    Ok(())
}
