//! Runs cases beside each other on one cluster, and says what became of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use client::{Client, Config};
use lab::Cluster;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::{Bed, Case, PATIENCE};

/// The machines of the cluster.
const NODES: usize = 2;
/// So many cases at once.
const BESIDE: usize = 6;
/// After so many that fail the rest is not run: it is the cluster that fails, and each would wait for its end.
const FAILED_MAX: usize = 10;
/// The longest that a case may take, as a multiple of the longest wait in it.
const WAITS_MAX: u32 = 4;

/// The main function of a test program: runs the cases whose name contains one of the arguments, all without any.
///
/// # Errors
/// When a case fails, and when a text has two cases.
pub fn run(cases: &'static [Case], not_yet: &[(&str, &str)]) -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for (at, case) in cases.iter().enumerate() {
        let twice = cases[..at].iter().any(|other| other.name == case.name);
        if twice || not_yet.iter().any(|(name, _)| *name == case.name) {
            bail!("there are two cases of {:?}", case.name);
        }
    }
    if arguments.iter().any(|argument| argument == "--table") {
        cases.iter().for_each(|case| println!("passes\t{}", case.name));
        not_yet.iter().for_each(|(name, why)| println!("not yet\t{name}\t{why}"));
        return Ok(());
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let named = |case: &Case, word: &str| if exact { case.name == word } else { case.name.contains(word) };
    let chosen: Vec<&'static Case> =
        cases.iter().filter(|case| words.is_empty() || words.iter().any(|word| named(case, word))).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let count = chosen.len();
    println!("running {count} cases; {} texts have none yet", not_yet.len());
    let cluster = Arc::new(Cluster::new(NODES)?);
    // The threads of the runtime are in the network of the first machine, as is the one that starts them.
    let failed = cluster.node(0).machine().in_network(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(all(&cluster, chosen))
    })??;
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("test result: {word}. {} passed; {} failed", count - failed.len(), failed.len());
    if !failed.is_empty() {
        for number in 0..NODES {
            println!("the log of node {number}:\n{}", cluster.node(number).log());
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("cases fail:\n{}", failed.join("\n")) }
}

/// Runs all and gives the names of those that fail.
async fn all(cluster: &Arc<Cluster>, cases: Vec<&'static Case>) -> Result<Vec<&'static str>> {
    let config = Config::load(&cluster.node(0).data().join("control/admin.kubeconfig"), None)?;
    let client = Client::new(&config, "conformance/1")?;
    let places = Arc::new(Semaphore::new(BESIDE));
    let mut running = JoinSet::new();
    let (alone, beside): (Vec<_>, Vec<_>) = cases.into_iter().enumerate().partition(|(_, case)| case.alone);
    let bed = |number: usize| Bed {
        client: client.clone(),
        namespace: format!("case-{number}"),
        cluster: cluster.clone(),
    };
    let failures = Arc::new(AtomicUsize::new(0));
    for (number, case) in beside {
        let (bed, places, failures) = (bed(number), places.clone(), failures.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            one(bed, case, &failures).await
        });
    }
    let mut failed = Vec::new();
    while let Some(done) = running.join_next().await {
        failed.extend(done?);
    }
    for (number, case) in alone {
        failed.extend(one(bed(number), case, &failures).await);
    }
    Ok(failed)
}

/// Runs a case, tells how it went, and gives its name when it fails. `failures` counts those that did.
async fn one(bed: Bed, case: &'static Case, failures: &AtomicUsize) -> Option<&'static str> {
    if failures.load(Ordering::Relaxed) >= FAILED_MAX {
        println!("case {} ... FAILED (not run: {FAILED_MAX} others have failed)", case.name);
        return Some(case.name);
    }
    let began = Instant::now();
    let result = in_namespace(bed, case).await;
    let took = began.elapsed().as_secs_f64();
    match result {
        Ok(()) => println!("case {} ... ok ({took:.1} s)", case.name),
        Err(error) => {
            failures.fetch_add(1, Ordering::Relaxed);
            println!("case {} ... FAILED ({took:.1} s)\n{error:?}\n", case.name);
            return Some(case.name);
        }
    }
    None
}

/// The namespace goes when the case has passed, in its own time; that of a failed one stays to be looked at.
async fn in_namespace(bed: Bed, case: &Case) -> Result<()> {
    let namespace = bed.namespace.clone();
    bed.create("namespaces", json!({"metadata": {"name": namespace}})).await?;
    bed.until("serviceaccounts", "default", |_| true).await?;
    // A task of its own: one that panics fails alone.
    let task = tokio::spawn((case.run)(bed.clone()));
    let abort = task.abort_handle();
    let Ok(result) = tokio::time::timeout(PATIENCE * WAITS_MAX, task).await else {
        abort.abort();
        bail!("it does not end");
    };
    result.context("it panicked")??;
    bed.delete("namespaces", &namespace).await
}
