//! Which time of a schedule is due.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proto_kube::cron::Schedule;

/// How many times have been missed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Missed {
    /// At most the one that is due.
    None,
    Few,
    /// So many that something must be wrong, as a clock.
    Many,
}

/// More are not believed.
const MANY: i64 = 100;

/// The latest time of a schedule after `since` that is not after `now`. It is reckoned, not counted, so that many years
/// cost nothing.
pub(super) fn latest(
    schedule: &Schedule,
    zone: &TimeZone,
    since: Timestamp,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Missed), &'static str> {
    let next = |after: Timestamp| schedule.next(after, zone);
    let never = "time difference between two schedules is less than 1 second";
    let first = next(since).ok_or(never)?;
    if now < first {
        return Ok((None, Missed::None));
    }
    let second = next(first).ok_or(never)?;
    if now < second {
        return Ok((Some(first), Missed::None));
    }
    let period = second.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / period + 1;
    let back = SignedDuration::from_secs(missed.saturating_sub(2).saturating_mul(period));
    let mut at = first.checked_add(back).unwrap_or(first);
    let mut last = None;
    while let Some(next) = next(at).filter(|next| *next <= now) {
        (at, last) = (next, Some(next));
    }
    Ok((last, if missed > MANY { Missed::Many } else { Missed::Few }))
}
