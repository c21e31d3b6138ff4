//! `cargo xtask bench`: builds the programs as they are shipped and measures them beside their peers.

use anyhow::{Result, bail};

use crate::cargo::{self, cargo};

/// The programs of a node; the packages that hold them.
pub(crate) const PROGRAMS: [(&str, &str); 4] =
    [("cleat", "cleat"), ("oci", "cleat-oci"), ("monitor", "cleat-monitor"), ("cni-plugins", "cleat-cni")];

/// Runs one benchmark.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let Some((&"pod", rest)) = arguments.split_first() else {
        bail!("which benchmark? `cargo xtask bench pod`");
    };
    build("release")?;
    cargo::run(&mut cargo(&["build", "--release", "-p", "lab", "--bin", "lab"]))?;
    let programs = cargo::programs("release")?;
    let mut bench = std::process::Command::new(programs.join("lab"));
    cargo::run(bench.arg("bench-pod").arg("--programs").arg(&programs).args(rest))
}

/// Builds the programs of a node in one cargo profile.
pub(crate) fn build(profile: &str) -> Result<()> {
    let mut build = cargo(&["build", "--profile", profile]);
    for (package, program) in PROGRAMS {
        build.args(["-p", package, "--bin", program]);
    }
    cargo::run(&mut build)
}
