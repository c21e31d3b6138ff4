//! The texts about apps.

use conformance::{Case, cases};

const CASES: &[Case] = cases! {};

/// What is not shown, and why.
const NOT_YET: &[(&str, &str)] = &[];

fn main() -> anyhow::Result<()> {
    conformance::run(CASES, NOT_YET)
}
