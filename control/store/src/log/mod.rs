//! The embedded engine: an append-only log with snapshots.

use std::sync::Arc;

use crate::{CommitError, Event, watch::Shared};

/// Placeholder until the log is written.
pub(crate) struct Log;

/// Why nothing could be appended.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Full(String),
    ReadOnly(String),
}

impl Failure {
    pub(crate) fn answer<I>(&self) -> CommitError<I> {
        match self {
            Failure::Full(reason) => CommitError::Full { reason: reason.clone() },
            Failure::ReadOnly(reason) => CommitError::ReadOnly { reason: reason.clone() },
        }
    }
}

impl Log {
    pub(crate) fn append<I>(&mut self, _: &[Event<I>], _: u64) -> Result<(), Failure> {
        Ok(())
    }
    pub(crate) fn shrink<I>(&mut self, _: &Arc<Shared<I>>) {}
    pub(crate) fn close(&mut self) {}
}
