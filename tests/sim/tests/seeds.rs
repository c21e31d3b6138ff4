//! Many seeds, none of which breaks a law.
//!
//! `SIM_SEED=n cargo test -p sim -- --nocapture` runs one and prints each step of it; `SIM_SEEDS=n` runs so many, and
//! `SIM_FROM=n` begins there.

use sim::{Broken, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The steps of a seed; the end is a panic with all of them when it breaks a law.
fn check(seed: u64) -> usize {
    let again = format!("again: SIM_SEED={seed} cargo test -p sim");
    match std::panic::catch_unwind(|| run(seed, false)) {
        Ok(Ok((steps, _))) => return steps,
        Ok(Err(_)) => {}
        Err(_) => panic!("seed {seed} panics\n{again}"),
    }
    let Broken { law, steps, log } = run(seed, true).expect_err("a seed does the same again");
    let log = log.join("\n");
    panic!("{log}\nseed {seed}, after {steps} steps: {law}\n{again}");
}

#[test]
fn no_seed_breaks_a_law() {
    if let Some(seed) = number("SIM_SEED") {
        check(seed);
        let (steps, log) = run(seed, true).expect("it was good a moment ago");
        println!("{}\n{steps} steps", log.join("\n"));
        return;
    }
    let from = number("SIM_FROM").unwrap_or(0);
    let steps: usize = (from..from + number("SIM_SEEDS").unwrap_or(60)).map(check).sum();
    println!("{steps} steps");
}
