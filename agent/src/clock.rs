//! The one place that reads the time of day.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The time of day: the system's, or in tests one that runs with tokio's paused time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    /// The system's.
    System,
    /// An anchor on tokio's time.
    #[cfg_attr(not(test), allow(dead_code))]
    Tokio { at: Instant, is: Timestamp },
}

impl Clock {
    pub(crate) fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Tokio { at, is } => {
                let passed = SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::MAX);
                agent_core::time::later(is, passed)
            }
        }
    }

    /// When `at` will be on tokio's time; now when it has passed.
    pub(crate) fn instant(self, at: Timestamp) -> Instant {
        let left = std::time::Duration::try_from(at.duration_since(self.now())).unwrap_or_default();
        Instant::now() + left.min(std::time::Duration::from_secs(365 * 86400))
    }
}
