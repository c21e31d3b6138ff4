//! How long to wait before something is tried again.

use jiff::{SignedDuration, Timestamp};

use crate::observed::{Container, Exit, Failure};
use crate::time::later;

/// The first delay of a crashing container and of a failing image pull, in seconds.
const FIRST_SECONDS: i64 = 10;
/// The longest delay, in seconds.
const LONGEST_SECONDS: i64 = 300;
/// A container that ran this long has not crashed, in seconds.
const STABLE_SECONDS: i64 = 600;
/// The longest delay of any other failed action, in seconds.
const RETRY_LONGEST_SECONDS: i64 = 60;

/// `first * 2^(n-1)` seconds, at most `longest`; none for `n = 0`.
fn doubling(first: i64, longest: i64, n: u32) -> SignedDuration {
    let seconds = match n {
        0 => 0,
        n => first.saturating_mul(1_i64 << (n - 1).min(30)).min(longest),
    };
    SignedDuration::from_secs(seconds)
}

/// How many attempts in a row have ended too soon, when the attempt after `last` is made. It is written on that
/// attempt, so that the delay survives a restart of the agent and the removal of older attempts.
#[must_use]
pub fn crashes(last: &Container) -> u32 {
    match last.exit() {
        Some(exit) if ran_seconds(exit) >= STABLE_SECONDS => 1,
        _ => last.crashes.saturating_add(1),
    }
}

/// How long it ran; what could not be started has no time of its start.
fn ran_seconds(exit: &Exit) -> i64 {
    match exit.started_at == Timestamp::UNIX_EPOCH {
        true => 0,
        false => exit.finished_at.duration_since(exit.started_at).as_secs(),
    }
}

/// When a container that has ended may be started again: at once after its first crash, then after 10 s, 20 s and so
/// on up to 300 s. Also returns that delay.
#[must_use]
pub fn restart_at(last: &Container) -> (Timestamp, SignedDuration) {
    let Some(exit) = last.exit() else { return (Timestamp::MIN, SignedDuration::ZERO) };
    let delay = doubling(FIRST_SECONDS, LONGEST_SECONDS, crashes(last) - 1);
    (later(exit.finished_at, delay), delay)
}

/// Whether what ended or failed at `since` still waits for `until`. A time to come was told by a clock that has gone back
/// since: nobody knows how long ago it was, and nothing waits for it to come again.
#[must_use]
pub fn waits(now: Timestamp, since: Timestamp, until: Timestamp) -> bool {
    since <= now && now < until
}

/// When a failed image pull may be tried again.
#[must_use]
pub fn pull_at(failure: &Failure) -> Timestamp {
    later(failure.at, doubling(FIRST_SECONDS, LONGEST_SECONDS, failure.count))
}

/// When any other failed action may be tried again.
#[must_use]
pub fn retry_at(failure: &Failure) -> Timestamp {
    later(failure.at, doubling(1, RETRY_LONGEST_SECONDS, failure.count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_for_a_clock_that_went_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(waits(at(5), at(0), at(10)) && !waits(at(10), at(0), at(10)));
        assert!(!waits(at(-300), at(0), at(10)));
    }
    use crate::observed::State;

    fn crashed(crashes: u32, ran_seconds: i64) -> Container {
        let started_at = Timestamp::from_second(1_700_000_000).unwrap();
        let finished_at = crate::time::seconds_later(started_at, ran_seconds);
        Container {
            id: "i".into(),
            name: "c".into(),
            sandbox: "s".into(),
            attempt: crashes,
            crashes,
            image: String::new(),
            image_ref: String::new(),
            made_of: None,
            user: None,
            limits: None,
            state: State::Exited(Exit {
                started_at,
                finished_at,
                exit_code: 1,
                reason: "Error".into(),
                message: String::new(),
            }),
        }
    }

    #[test]
    fn delays_double_to_five_minutes() {
        let delays: Vec<i64> = (0..8).map(|n| restart_at(&crashed(n, 1)).1.as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(restart_at(&crashed(u32::MAX - 1, 1)).1.as_secs(), 300);
    }

    #[test]
    fn ten_minutes_of_running_forgive() {
        assert_eq!(restart_at(&crashed(6, 599)).1.as_secs(), 300);
        assert_eq!(restart_at(&crashed(6, 600)).1.as_secs(), 0);
        assert_eq!(crashes(&crashed(6, 600)), 1);
        assert_eq!(crashes(&crashed(6, 5)), 7);
        let mut never = crashed(6, 5);
        let State::Exited(exit) = &mut never.state else { unreachable!() };
        exit.started_at = Timestamp::UNIX_EPOCH;
        assert_eq!(crashes(&never), 7, "containerd tells no start of what it could not start");
    }

    #[test]
    fn pulls_wait_longer_than_other_actions() {
        let failure = |count| Failure {
            reason: String::new(),
            message: String::new(),
            at: Timestamp::UNIX_EPOCH,
            count,
        };
        let pulls: Vec<i64> = (1..8).map(|n| pull_at(&failure(n)).as_second()).collect();
        assert_eq!(pulls, [10, 20, 40, 80, 160, 300, 300]);
        let retries: Vec<i64> = (1..9).map(|n| retry_at(&failure(n)).as_second()).collect();
        assert_eq!(retries, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
