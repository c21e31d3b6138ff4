//! Certificates end.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use lab::{Cluster, wait};

use super::{PATIENCE, expect_untouched, ready_since, wait_pods, web};

/// How long the certificates of this cluster are good.
const LIFE: &str = "60s";

#[test]
fn certificates_are_renewed_and_who_slept_too_long_joins_again() -> Result<()> {
    let mut cluster = Cluster::apart(1, &["--cluster-signing-duration", LIFE])?;
    cluster.start()?;
    cluster.apply(&web("web", 1))?;
    let pods = wait_pods(&cluster, "web", 1)?;
    let name = pods.values().next().and_then(|pod| pod["metadata"]["name"].as_str()).context("no pod")?;
    // The kubelet's API is asked through the API server, which looks at its certificate.
    let exec = |cluster: &Cluster| cluster.kubectl(&["exec", name, "--", "cat", "/w/index.html"]);
    let both = |cluster: &Cluster| Ok::<_, anyhow::Error>([end(cluster, "node")?, end(cluster, "serving")?]);
    let first =
        wait::until("both certificates", PATIENCE, || Ok(both(&cluster).map_err(|e| format!("{e:#}"))))?;
    exec(&cluster)?;
    let since = ready_since(&cluster)?;
    wait::until("the time of the first certificates to be over", PATIENCE, || {
        let now = both(&cluster)?;
        let over = first.iter().all(|end| *end < Timestamp::now());
        let renewed = now.iter().zip(&first).all(|(now, first)| now > first);
        Ok(if over && renewed { Ok(()) } else { Err(format!("{first:?} {now:?}")) })
    })?;
    ensure!(exec(&cluster)?.trim() == name, "the kubelet's API does not answer");
    super::wait_signs_of_life(&cluster)?;
    ensure!(ready_since(&cluster)? == since, "the node was away");

    // The machine is switched off until the time of its certificate is over.
    cluster.node_mut(0).stop()?;
    let last = end(&cluster, "node")?;
    wait::until_true("the last certificate to end", PATIENCE, || last < Timestamp::now())?;
    // It may have given up before anybody looks.
    if let Err(error) = cluster.run_node(0, &["node"]) {
        ensure!(error.to_string().contains("ended at once"), "{error:#}");
    }
    wait::until_true("`cleat node` to give up", PATIENCE, || !cluster.node_mut(0).is_running())?;
    let said = cluster.node(0).log();
    ensure!(said.contains("join again with a new token"), "{said}");
    let (server, token) = cluster.invitation()?;
    cluster.run_node(0, &["join", &server, "--token", &token])?;
    cluster.wait_ready()?;
    wait::until("the kubelet's API", PATIENCE, || Ok(exec(&cluster).map_err(|error| format!("{error:#}"))))?;
    expect_untouched(&cluster, "web", &pods)
}

/// When a certificate of the first node ends.
fn end(cluster: &Cluster, name: &str) -> Result<Timestamp> {
    let file = cluster.node(0).data().join(format!("node/{name}.pem"));
    let pem = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(pki::Certificate::from_pem(&pem)?.not_after)
}
