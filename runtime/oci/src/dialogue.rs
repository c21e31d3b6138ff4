//! What the caller and a container's first process (or one that joins it) say to each other, over a socket pair that
//! the exec of the user's program closes.
//!
//! ```text
//! caller                                  first process
//!   (clone) ─────────────────────────────────> waits
//!   joins it to its cgroup, records it
//!   Go ──────────────────────────────────────> namespaces, file systems
//!            <──────────────────── Terminal + master
//!            <──────────────────── RuntimeHooks
//!   runs them
//!   Go ──────────────────────────────────────> pivots, becomes the user
//!            <──────────────────── Ready          (create; an exec just closes the pair)
//!            <──────────────────── Failed         at any time, instead
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::error::{During, RuntimeError};

/// From the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The master of its terminal rides along.
    Terminal,
    /// The caller shall run the prestart and createRuntime hooks, and then say [`GO`].
    RuntimeHooks,
    /// It waits to be started.
    Ready,
    /// It ends.
    Failed(RuntimeError),
}

/// From the caller.
pub(crate) const GO: &[u8] = b"go";
/// To a process that waits to be started.
pub(crate) const START: &[u8] = b"start";
const BYTES_MAX: usize = 64 * 1024;

/// The process's end.
#[derive(Debug)]
pub(crate) struct ToCaller(pub(crate) OwnedFd);

impl ToCaller {
    pub(crate) fn report(
        &self,
        report: &Report,
        descriptors: &[std::os::fd::BorrowedFd<'_>],
    ) -> io::Result<()> {
        let packet = serde_json::to_vec(report).map_err(io::Error::other)?;
        linux::packet::send(&self.0, &packet, descriptors)
    }

    /// Waits for the caller's word. An error when the caller is gone: nobody wants this container any more.
    pub(crate) fn wait(&self) -> Result<(), RuntimeError> {
        match linux::packet::receive(&self.0, GO.len()).during(|| "wait for the caller")? {
            (packet, _) if packet == GO => Ok(()),
            _ => Err(RuntimeError::kernel("the caller is gone")),
        }
    }
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct ToProcess(pub(crate) OwnedFd);

impl ToProcess {
    pub(crate) fn go(&self) -> Result<(), RuntimeError> {
        linux::packet::send(&self.0, GO, &[]).during(|| "the container's process is gone")
    }

    /// The next report; `None` when the process has closed its end, by executing or by dying.
    pub(crate) fn next(&self) -> Result<Option<(Report, Vec<OwnedFd>)>, RuntimeError> {
        receive(&self.0)
    }
}

/// Receives one report; `None` at the end.
pub(crate) fn receive(socket: &impl AsFd) -> Result<Option<(Report, Vec<OwnedFd>)>, RuntimeError> {
    let (packet, descriptors) = match linux::packet::receive(socket, BYTES_MAX) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::CONNRESET.raw_os_error()) => {
            return Ok(None);
        }
        other => other.during(|| "the container's process")?,
    };
    if packet.is_empty() {
        return Ok(None);
    }
    let report = serde_json::from_slice(&packet).during(|| "the container's process says nonsense")?;
    Ok(Some((report, descriptors)))
}
