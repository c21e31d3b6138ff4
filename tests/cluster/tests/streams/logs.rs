//! Logs that are followed while they are rotated, and while their pod ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};
use lab::{Cluster, pypi};

/// One that counts, quickly enough to fill its log; and one that takes its time to end.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: count }
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - { name: first, image: "busybox:1.35", command: [sh, -c, "echo prepared"] }
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, 'i=0; while :; do for n in 1 2 3 4 5 6 7 8 9 10; do i=$((i+1)); printf "%0200d\n" $i; done; sleep 0.1; done']
---
apiVersion: v1
kind: Pod
metadata: { name: slow }
spec:
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, 'trap "echo ending; sleep 3; echo ended; exit 0" TERM; echo running; while :; do sleep 1 & wait $!; done']
"#;

fn follow(cluster: &Cluster, words: &[&str]) -> Result<(std::process::Child, BufReader<ChildStdout>)> {
    let mut command = cluster.client(pypi::kubectl()?);
    let mut child = command.args(["logs", "-f"]).args(words).stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(child.stdout.take().context("piped")?);
    Ok((child, output))
}

#[test]
fn logs_are_followed_to_their_end() -> Result<()> {
    let mut cluster = Cluster::prepared(1, &[])?;
    cluster.configure("containerLogMaxSize: 16Ki\n");
    cluster.start()?;
    cluster.apply(PODS)?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/count", "pod/slow", "--timeout=120s"])?;
    ensure!(cluster.kubectl(&["logs", "count", "-c", "first"])? == "prepared\n");
    let (mut child, mut slow) = follow(&cluster, &["slow"])?;
    let mut line = String::new();
    slow.read_line(&mut line)?;
    ensure!(line == "running\n", "{line:?}");
    cluster.kubectl(&["delete", "pod", "slow", "--wait=false"])?;
    let mut rest = String::new();
    slow.read_to_string(&mut rest)?;
    ensure!(rest == "ending\nended\n", "{rest:?}");
    child.wait()?;
    rotated(&cluster)
}

/// No line is missing and none comes twice while files are renamed.
fn rotated(cluster: &Cluster) -> Result<()> {
    let (mut child, mut lines) = follow(cluster, &["count", "-c", "c", "--tail=1"])?;
    let uid = cluster.kubectl(&["get", "pod", "count", "-o", "jsonpath={.metadata.uid}"])?;
    let folder = cluster.node(0).data().join(format!("logs/pods/default_count_{uid}/c"));
    let newest = || -> Result<String> {
        let names =
            fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        Ok(names.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default())
    };
    let (mut rotations, mut seen, mut last) = (0, newest()?, None);
    while rotations < 2 {
        for _ in 0..100 {
            let mut line = String::new();
            ensure!(lines.read_line(&mut line)? > 0, "the log ended after {last:?}");
            let number: u64 = line.trim().parse().with_context(|| line.clone())?;
            ensure!(last.is_none_or(|last| number == last + 1), "{number} follows {last:?}");
            last = Some(number);
        }
        let now = newest()?;
        if now != seen {
            (rotations, seen) = (rotations + 1, now);
        }
    }
    child.kill()?;
    child.wait()?;
    let stamped = cluster.kubectl(&["logs", "count", "-c", "c", "--timestamps", "--tail=100"])?;
    let (mut times, mut numbers): (Vec<&str>, Vec<u64>) = (Vec::new(), Vec::new());
    for line in stamped.lines() {
        let (time, number) = line.split_once(' ').context("no time")?;
        times.push(time);
        numbers.push(number.parse()?);
    }
    // What was written meanwhile is told as well.
    ensure!(numbers.len() >= 100 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    // kubectl asks for whole seconds.
    let second = times[50].split('.').next().unwrap_or_default();
    let since = format!("--since-time={second}Z");
    let since = cluster.kubectl(&["logs", "count", "-c", "c", "--timestamps", &since])?;
    let first = since.lines().next().context("nothing")?;
    ensure!(first.starts_with(second), "{first} is not of {second}");
    Ok(())
}
