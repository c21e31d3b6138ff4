//! `cargo xtask bench`: builds the programs as they are shipped and measures them beside their peers.

use anyhow::{Result, bail};

use crate::cargo::{self, cargo};

/// The programs of a node.
pub(crate) const PROGRAMS: [&str; 4] = ["cleat", "cleat-oci", "cleat-monitor", "cleat-cni"];

/// Runs one benchmark.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (command, rest) = match arguments.split_first() {
        Some((&"pod", rest)) => ("bench-pod", rest),
        Some((&"cluster", rest)) => ("bench-cluster", rest),
        Some((&"control", rest)) => ("bench-control", rest),
        Some((&"proxy", rest)) => ("bench-proxy", rest),
        _ => bail!(
            "which benchmark? `cargo xtask bench pod`, `… bench cluster`, `… bench control`, `… bench proxy`"
        ),
    };
    build("release")?;
    let programs = cargo::programs("release")?;
    let mut bench = std::process::Command::new(programs.join("lab"));
    cargo::run(bench.arg(command).arg("--programs").arg(&programs).args(rest))
}

/// Builds all programs in one cargo profile. Always the whole workspace: the features of a dependency are then the same
/// in every command, and nothing is built twice.
pub(crate) fn build(profile: &str) -> Result<()> {
    cargo::run(&mut cargo(&["build", "--workspace", "--bins", "--profile", profile]))
}
