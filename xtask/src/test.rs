//! `cargo xtask test`: every check of the project, in lanes. A lane that fails does not stop the others, and a lane
//! that could not run fails the command: what was not checked is said, not passed over.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cargo::{self, cargo};

/// Debian packages of the peers and tools that the end-to-end tests run against.
const PEERS: [&str; 18] = [
    "bind9-dnsutils",
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "crun",
    "curl",
    "docker-registry",
    "e2fsprogs",
    "etcd-server",
    "iproute2",
    "kmod",
    "nftables",
    "procps",
    "python3-pip",
    "qemu-system-x86",
    "runc",
    "skopeo",
    "util-linux",
];

/// How a lane ended.
enum Outcome {
    Passed,
    /// Failed, and passed when it was run again: what it failed with.
    Unsteady(String),
    Failed(String),
    NotChecked(&'static str),
}

/// A lane with its outcome and its time.
struct Lane {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// Runs the lanes and prints their summary.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let quick = match arguments {
        [] => false,
        ["--quick"] => true,
        other => bail!("unknown arguments {other:?}; `cargo xtask test [--quick]`"),
    };
    let root = !quick && cargo::is_root();
    // Before all else: unit tests compare with some of the peers too.
    let mut lanes = if root { vec![lane("peers", install)] } else { Vec::new() };
    lanes.extend([
        lane("format", || cargo::run(&mut cargo(&["fmt", "--all", "--check"]))),
        lane("tidy", crate::tidy::run),
        lane("build", || crate::bench::build("dev")),
        lane("clippy", || {
            cargo::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
        }),
        twice("unit", || {
            let mut test = cargo(&["test", "--workspace", "--no-fail-fast"]);
            for end_to_end in ["lab", "node-tests", "control-tests", "cluster-tests", "conformance"] {
                test.args(["--exclude", end_to_end]);
            }
            cargo::run(&mut test)
        }),
    ]);
    if root {
        lanes.push(twice("control", || {
            let tests = ["test", "-p", "control-tests", "--no-fail-fast"];
            cargo::run(cargo(&tests).args(["--", "--test-threads", "4"]))
        }));
        lanes.push(twice("node", || {
            let tests = ["test", "-p", "lab", "-p", "node-tests", "--no-fail-fast"];
            cargo::run(cargo(&tests).args(["--", "--test-threads", "4"]))
        }));
        lanes.push(twice("cluster", || {
            let tests = ["test", "-p", "cluster-tests", "--no-fail-fast"];
            cargo::run(cargo(&tests).args(["--", "--test-threads", "2"]))
        }));
        lanes.push(twice("conformance", || {
            cargo::run(&mut cargo(&["test", "-p", "conformance", "--no-fail-fast"]))
        }));
    } else if !quick {
        lanes.push(not_checked("conformance", "needs root: run it again as root"));
        lanes.push(not_checked("cluster", "needs root: run it again as root"));
        lanes.push(not_checked("control", "needs root: run it again as root"));
        lanes.push(not_checked("node", "needs root: run it again as root"));
    }
    summary(&lanes)
}

/// Installs what is missing of [`PEERS`].
fn install() -> Result<()> {
    let missing: Vec<&str> = PEERS.into_iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments);
        // A daemon that a package brings must not start on this machine.
        cargo::run(command.env("RUNLEVEL", "1"))
    };
    let refreshed = apt(&["update"]);
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&missing);
    match apt(&install).and(refreshed) {
        Ok(()) => Ok(()),
        Err(error) => bail!(
            "{error:#}: without the Debian packages {} nothing that runs against them is checked",
            missing.join(", ")
        ),
    }
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status}", package]);
    query.output().is_ok_and(|output| output.stdout == b"installed")
}

fn lane(name: &'static str, check: impl FnOnce() -> Result<()>) -> Lane {
    eprintln!("\n== {name}");
    let start = Instant::now();
    let outcome = match check() {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    Lane { name, outcome, took: start.elapsed() }
}

/// A lane of tests that drive real processes on a machine which is not ours alone. One that fails is run once more; that
/// it was unsteady is said in the summary, and is a fault to mend.
fn twice(name: &'static str, check: impl Fn() -> Result<()>) -> Lane {
    let first = lane(name, &check);
    let Outcome::Failed(error) = first.outcome else { return first };
    eprintln!("\n== {name} failed; once more");
    let second = lane(name, check);
    let took = first.took + second.took;
    match second.outcome {
        Outcome::Passed => Lane { name, outcome: Outcome::Unsteady(error), took },
        outcome => Lane { name, outcome, took },
    }
}

fn not_checked(name: &'static str, why: &'static str) -> Lane {
    Lane { name, outcome: Outcome::NotChecked(why), took: Duration::ZERO }
}

fn summary(lanes: &[Lane]) -> Result<()> {
    println!("\n{:<8} {:>7}  result", "lane", "seconds");
    for Lane { name, outcome, took } in lanes {
        let text = match outcome {
            Outcome::Passed => "ok",
            Outcome::Unsteady(error) => &format!("ok the second time, UNSTEADY: {error}"),
            Outcome::Failed(error) => &format!("FAILED: {error}"),
            Outcome::NotChecked(why) => &format!("NOT CHECKED: {why}"),
        };
        println!("{name:<8} {:>7.1}  {text}", took.as_secs_f64());
    }
    let good = |lane: &&Lane| matches!(lane.outcome, Outcome::Passed | Outcome::Unsteady(_));
    let bad = lanes.len() - lanes.iter().filter(good).count();
    if bad > 0 { bail!("{bad} of {} lanes are not ok", lanes.len()) } else { Ok(()) }
}
