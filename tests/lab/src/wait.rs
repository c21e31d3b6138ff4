//! Waiting for a condition instead of for a time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(40);

/// Asks `probe` until it says `Ok(Ok(found))`, and gives what it found. `Ok(Err(seen))` is "not yet, I see this": what
/// was seen last stands in the error when `seconds` are over. `Err` ends the waiting at once.
pub fn until<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Result<Result<T, String>>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match probe()? {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() > end => bail!("{what}: not within {seconds} s; last seen: {seen}"),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// [`until`] for a plain condition.
pub fn until_true(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, seconds, || Ok(if condition() { Ok(()) } else { Err("it is not so".to_owned()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_told() {
        let mut calls = 0;
        let found = until("three", 5, || {
            calls += 1;
            Ok(if calls == 3 { Ok(calls) } else { Err(calls.to_string()) })
        });
        assert_eq!(found.unwrap(), 3);
        let error = until::<()>("never", 0, || Ok(Err("nothing".to_owned()))).unwrap_err();
        assert_eq!(error.to_string(), "never: not within 0 s; last seen: nothing");
    }
}
