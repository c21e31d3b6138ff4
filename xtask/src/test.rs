//! `cargo xtask test`: every check of the project, in lanes. A lane that fails does not stop the others, and a lane
//! that could not run fails the command: what was not checked is said, not passed over.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cargo::{self, cargo};
use crate::room;
use crate::told::{self, Failure, Told};

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

/// Lanes that need root: their packages as arguments of `cargo test`, and the arguments of their programs.
const END_TO_END: [(&str, &[&str], &[&str]); 4] = [
    ("control", &["-p", "control-tests"], &["--test-threads", "4"]),
    ("node", &["-p", "lab", "-p", "node-tests"], &["--test-threads", "4"]),
    ("cluster", &["-p", "cluster-tests"], &["--test-threads", "2"]),
    ("conformance", &["-p", "conformance"], &[]),
];

/// The longest that the tests of a lane may take, with what they build: one that hangs must not take the others' time.
const LANE_MAX: Duration = Duration::from_secs(30 * 60);
/// The longest that all of it may take.
const RUN_MAX: Duration = Duration::from_secs(80 * 60);
/// So many failures of a lane are tried once more; where there are more, it is not the tests that are unsteady.
const AGAIN_MAX: usize = 20;

/// How a lane ended.
enum Outcome {
    Passed,
    /// Failed, and passed when what failed was run again: what it failed with.
    Unsteady(String),
    Failed(String),
    NotChecked(&'static str),
}

/// A lane with its outcome, the tests that failed in it, and its time.
struct Lane {
    name: &'static str,
    outcome: Outcome,
    failed: Vec<Failure>,
    took: Duration,
}

/// Runs the lanes and prints their summary.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let quick = match arguments {
        [] => false,
        ["--quick"] => true,
        other => bail!("unknown arguments {other:?}; `cargo xtask test [--quick]`"),
    };
    room::check()?;
    let end = Instant::now() + RUN_MAX;
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
    ]);
    let mut unit = vec!["--workspace"];
    for end_to_end in ["lab", "node-tests", "control-tests", "cluster-tests", "conformance"] {
        unit.extend(["--exclude", end_to_end]);
    }
    lanes.push(tests("unit", end, &unit, &[]));
    for (name, packages, options) in END_TO_END {
        lanes.push(match (root, quick) {
            (true, _) => tests(name, end, packages, options),
            (false, true) => continue,
            (false, false) => not_checked(name, "needs root: run it again as root"),
        });
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
    Lane { name, outcome, failed: Vec::new(), took: start.elapsed() }
}

/// A lane of tests, many of which drive real processes on a machine that is not ours alone. What fails is run once more;
/// that it was unsteady is said in the summary, and is a fault to mend.
fn tests(name: &'static str, end: Instant, packages: &[&str], options: &[&str]) -> Lane {
    let end = end.min(Instant::now() + LANE_MAX);
    let attempt = |name: &'static str, options: &[&str]| {
        let mut told = Told::default();
        let lane = lane(name, || {
            let mut command = cargo(&["test", "--no-fail-fast"]);
            // Where an error was made is in its words; only panics tell it by their stack.
            command.args(packages).arg("--").args(options).env("RUST_LIB_BACKTRACE", "0");
            let (heard, result) = told::run(&mut command, end);
            told = heard;
            result
        });
        (lane, told)
    };
    let (mut done, mut first) = attempt(name, options);
    let Outcome::Failed(error) = done.outcome else { return done };
    if Instant::now() >= end || first.failed.len() > AGAIN_MAX {
        return Lane { outcome: Outcome::Failed(error), failed: first.failed, ..done };
    }
    let failed: Vec<&str> = first.failed.iter().map(|failure| failure.test.as_str()).collect();
    // All of it, where it is not known what failed.
    let chosen = match first.unfinished == 0 && !failed.is_empty() {
        true => [options, &["--exact"], failed.as_slice()].concat(),
        false => options.to_vec(),
    };
    let (second, again) = attempt("what failed, once more", &chosen);
    // Who was not met by that name has not passed.
    let all_pass = failed.iter().all(|test| again.passed.contains(*test));
    for failure in &mut first.failed {
        failure.twice = again.failed.iter().any(|other| other.test == failure.test);
    }
    done.took += second.took;
    done.outcome = match second.outcome {
        Outcome::Passed if all_pass => Outcome::Unsteady(error),
        Outcome::Passed => Outcome::Failed(error),
        outcome => outcome,
    };
    Lane { failed: first.failed, ..done }
}

fn not_checked(name: &'static str, why: &'static str) -> Lane {
    Lane { name, outcome: Outcome::NotChecked(why), failed: Vec::new(), took: Duration::ZERO }
}

fn summary(lanes: &[Lane]) -> Result<()> {
    for Lane { name, failed, .. } in lanes {
        for Failure { test, words, twice } in failed {
            println!("\n{name}: {test} failed{}", if *twice { " twice" } else { "" });
            words.iter().for_each(|line| println!("    {line}"));
        }
    }
    println!("\n{:<12} {:>7}  result", "lane", "seconds");
    for Lane { name, outcome, took, .. } in lanes {
        let text = match outcome {
            Outcome::Passed => "ok",
            Outcome::Unsteady(error) => &format!("ok the second time, UNSTEADY: {error}"),
            Outcome::Failed(error) => &format!("FAILED: {error}"),
            Outcome::NotChecked(why) => &format!("NOT CHECKED: {why}"),
        };
        println!("{name:<12} {:>7.1}  {text}", took.as_secs_f64());
    }
    let good = |lane: &&Lane| matches!(lane.outcome, Outcome::Passed | Outcome::Unsteady(_));
    let bad = lanes.len() - lanes.iter().filter(good).count();
    if bad > 0 { bail!("{bad} of {} lanes are not ok", lanes.len()) } else { Ok(()) }
}
