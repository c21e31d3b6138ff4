//! The disk of the store hangs, again and again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Cluster;

use super::{answered_by, expect_untouched, ready_since, wait_pods, wait_signs_of_life, web};

#[test]
fn a_disk_that_hangs_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::apart(2, &[])?;
    cluster.use_disk()?;
    cluster.start()?;
    cluster.apply(&web("web", 2))?;
    let before = wait_pods(&cluster, "web", 2)?;
    let since = ready_since(&cluster)?;
    let done = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&cluster, &done));
        let hung = hang(&cluster);
        done.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer panicked");
        hung.map(|()| written)
    })?;
    ensure!(acknowledged.len() > 5, "only {} writes", acknowledged.len());
    // What was asked for while the disk hung has come.
    let more = wait_pods(&cluster, "web", 4)?;
    wait_signs_of_life(&cluster)?;
    ensure!(ready_since(&cluster)? == since, "a node was given up");
    // Killed while the disk hangs.
    let frozen = cluster.freeze_disk()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(2));
            drop(frozen);
        });
        cluster.plane().kill()
    })?;
    cluster.start_plane()?;
    wait_signs_of_life(&cluster)?;
    let there: BTreeSet<String> =
        cluster.kubectl(&["get", "configmaps", "-o", "name"])?.lines().map(str::to_owned).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !there.contains(*name)).collect();
    ensure!(lost.is_empty(), "of {} acknowledged writes are lost: {lost:?}", acknowledged.len());
    ensure!(ready_since(&cluster)? == since, "a node was given up");
    ensure!(before.keys().all(|uid| more.contains_key(uid)), "pods were replaced");
    expect_untouched(&cluster, "web", &more)?;
    answered_by(&cluster, 0, "web", &more)
}

/// Lets the disk hang: thrice for a while, and once for so long that clients ask again.
fn hang(cluster: &Cluster) -> Result<()> {
    for seconds in [3, 3, 12, 3] {
        let frozen = cluster.freeze_disk()?;
        // Who only reads is not held up.
        cluster.get(&["pods"])?;
        let scale = cluster.client(lab::pypi::kubectl()?);
        thread::scope(|scope| {
            let scaled = scope.spawn(move || {
                let mut scale = scale;
                scale.args(["scale", "deployment/web", "--replicas=4"]).output()
            });
            thread::sleep(Duration::from_secs(seconds));
            drop(frozen);
            let said = scaled.join().expect("no panic")?;
            ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            Ok(())
        })?;
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Creates one object after the other, and gives those that the server has acknowledged.
fn write(cluster: &Cluster, done: &AtomicBool) -> BTreeSet<String> {
    let mut written = BTreeSet::new();
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("written-{number}");
        if cluster.kubectl(&["create", "configmap", &name]).is_ok() {
            written.insert(format!("configmap/{name}"));
        }
    }
    written
}
