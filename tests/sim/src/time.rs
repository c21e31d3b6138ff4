//! Virtual time.

use std::time::Duration;

use jiff::Timestamp;

/// A moment, as a process knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Since the beginning: it only grows.
    pub(crate) since: Duration,
    /// What the process's clock shows: it may jump.
    pub(crate) clock: Timestamp,
}

impl Now {
    /// By a clock that is so many seconds ahead.
    pub(crate) fn new(since: Duration, ahead: i64) -> Self {
        let begin: Timestamp = "2026-01-01T12:00:00Z".parse().expect("a time");
        let clock = begin + since + jiff::SignedDuration::from_secs(ahead);
        Self { since, clock }
    }
}

/// In so many seconds.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
