//! The texts about pods and what runs in them.

mod containers;

use conformance::{Case, cases};

const CASES: &[Case] = cases! {
    "[sig-node] Containers should be able to override the image's default arguments (container cmd) [NodeConformance] [Conformance]" => | containers::arguments,
};

/// What is not shown, and why.
const NOT_YET: &[(&str, &str)] = &[];

fn main() -> anyhow::Result<()> {
    conformance::run(CASES, NOT_YET)
}
