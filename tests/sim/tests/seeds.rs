//! Many seeds, none of which breaks a law.
//!
//! `SIM_SEED=n cargo test -p sim -- --nocapture` runs one and prints each step of it; `SIM_SEEDS=n` runs so many, and
//! `SIM_FROM=n` begins there.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use sim::{Broken, run, run_away};

/// How many seeds a plain run is.
const SEEDS: u64 = 2000;
/// Of how many the control plane is away for an hour in the end.
const AWAY: u64 = 100;

/// Seeds that found a fault, and which.
const FOUND: [(u64, &str); 2] = [
    (216, "a job's pod that was noted as failed when it was deleted counted as succeeded too"),
    (264, "who could send others away rested on when one of them left"),
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a seed is run by.
type Run = fn(u64, bool) -> Result<(usize, Vec<String>), Broken>;

/// The steps of a seed; when it breaks a law, which, and all that happened.
fn check(run: Run, seed: u64) -> Result<usize, String> {
    let again = format!("again: SIM_SEED={seed} cargo test -p sim -- --nocapture");
    match std::panic::catch_unwind(|| run(seed, false)) {
        Ok(Ok((steps, _))) => return Ok(steps),
        Ok(Err(_)) => {}
        Err(_) => return Err(format!("seed {seed} panics, see above\n{again}")),
    }
    let Broken { law, steps, log } = run(seed, true).expect_err("a seed does the same again");
    Err(format!("{}\nseed {seed}, step {steps}: {law}\n{again}", log.join("\n")))
}

/// Runs seeds, until one fails.
fn check_all(run: Run, seeds: Range<u64>) {
    let (next, steps, failed) = (AtomicU64::new(seeds.start), AtomicUsize::new(0), Mutex::default());
    let work = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < seeds.end
        {
            match check(run, seed) {
                Ok(count) => drop(steps.fetch_add(count, Ordering::Relaxed)),
                Err(why) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    *failed.lock().expect("nobody panics with it") = why;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    assert!(failed.is_empty(), "{failed}");
    println!("{} seeds, {} steps", seeds.end - seeds.start, steps.into_inner());
}

#[test]
fn what_was_found_stays_mended() {
    for (seed, fault) in FOUND {
        check(run, seed).unwrap_or_else(|why| panic!("{why}\nonce it was: {fault}"));
    }
}

#[test]
fn no_seed_breaks_a_law() {
    if let Some(seed) = number("SIM_SEED") {
        check_all(run, seed..seed + 1);
        let (_, log) = run(seed, true).expect("it was good a moment ago");
        return println!("{}", log.join("\n"));
    }
    let from = number("SIM_FROM").unwrap_or(0);
    check_all(run, from..from + number("SIM_SEEDS").unwrap_or(SEEDS));
}

#[test]
fn an_hour_without_control_plane_costs_nobody_anything() {
    check_all(run_away, 0..AWAY);
}
