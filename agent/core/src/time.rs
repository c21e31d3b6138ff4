//! Arithmetic on instants that ends at the ends of time instead of failing.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `at` plus `by`.
#[must_use]
pub fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `at` plus whole seconds.
#[must_use]
pub fn seconds_later(at: Timestamp, seconds: i64) -> Timestamp {
    later(at, SignedDuration::from_secs(seconds))
}

/// Whole seconds from `now` until `at`, rounded up; negative when `at` has passed.
#[must_use]
pub fn seconds_until(at: Timestamp, now: Timestamp) -> i64 {
    let left = at.duration_since(now);
    left.as_secs() + i64::from(left.subsec_nanos() > 0)
}

/// The Kubernetes form of an instant.
#[must_use]
pub fn k8s(at: Timestamp) -> Time {
    Time(at)
}

/// The instant of CRI nanoseconds since the epoch; the epoch for a value out of range.
#[must_use]
pub fn from_nanoseconds(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}
