//! A clock that cannot jump. What has to wait until something has been so for a while must not be fooled by the time of
//! day being set, nor by a process that slept.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// It is asked at least this often while it matters; what passed in longer gaps, nobody has seen.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);
const GAP_MAX: Duration = Duration::from_secs(10);

/// The time that has passed before the eyes of those who asked.
#[derive(Debug, Default)]
pub(crate) struct Clock(Mutex<(Option<Timestamp>, Duration)>);

impl Clock {
    /// How much time has passed so far.
    pub(crate) fn at(&self, now: Timestamp) -> Duration {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, passed) = *state;
        let gap = last.map_or(Duration::ZERO, |last| now.duration_since(last).try_into().unwrap_or_default());
        *state = (Some(now), passed + gap.min(GAP_MAX));
        state.1
    }
}

/// The time of day in a while.
pub(crate) fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_jump_is_taken_for_time() {
        let clock = Clock::default();
        let at = |second: i64| clock.at(Timestamp::from_second(second).unwrap()).as_secs();
        assert_eq!([at(1000), at(1005), at(1010)], [0, 5, 10]);
        assert_eq!([at(9000), at(9001)], [20, 21]);
        assert_eq!([at(100), at(104), at(104)], [21, 25, 25]);
    }
}
