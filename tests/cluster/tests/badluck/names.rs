//! Two machines claim one name.

use anyhow::{Result, ensure};
use lab::{Cluster, node, wait};

use super::{PATIENCE, expect_untouched, wait_pods, web};

const NAME: &str = "twin";

#[test]
fn of_two_machines_with_one_name_one_is_the_node() -> Result<()> {
    let mut cluster = Cluster::apart(2, &[])?;
    cluster.start_plane()?;
    // Both at once.
    join(&mut cluster, 0)?;
    join(&mut cluster, 1)?;
    let loser = wait_one_to_end(&mut cluster)?;
    let winner = 1 - loser;
    said(&cluster, loser, "NodeNameInUse")?;
    wait_node(&cluster)?;
    ensure!(agent(&cluster)? == id(&cluster, winner)?, "the node is not the one that runs");
    cluster.apply(&web("web", 1))?;
    let pods = wait_pods(&cluster, "web", 1)?;
    // As long as it lives nobody takes its name.
    join(&mut cluster, loser)?;
    ensure!(wait_one_to_end(&mut cluster)? == loser, "the node has lost its name");
    expect_untouched(&cluster, "web", &pods)?;
    ensure!(agent(&cluster)? == id(&cluster, winner)?, "the node is another");

    // A machine that is reset gives the name back.
    cluster.kubectl(&["delete", "deployment", "web"])?;
    cluster.node(winner).cleat(&["reset", "--yes"])?;
    wait::until_true("the node to end", PATIENCE, || !cluster.node_mut(winner).is_running())?;
    join(&mut cluster, loser)?;
    wait_agent(&cluster, loser)?;

    // One that just dies does not, until it is known to be dead; when it wakes up it sees that, and touches nothing.
    cluster.node_mut(loser).kill()?;
    join(&mut cluster, winner)?;
    wait_agent(&cluster, winner)?;
    cluster.run_node(loser, &["node", "--node-name", NAME])?;
    ensure!(wait_one_to_end(&mut cluster)? == loser, "the node has lost its name");
    said(&cluster, loser, "is alive elsewhere")?;
    ensure!(cluster.node(winner).log().contains("waiting for the cluster to sign"), "it did not wait");
    wait_node(&cluster)
}

fn join(cluster: &mut Cluster, number: usize) -> Result<()> {
    let (server, token) = cluster.invitation()?;
    cluster.run_node(number, &["join", &server, "--token", &token, "--node-name", NAME])
}

/// Waits until one of two machines has given up, and says which; the other runs on.
fn wait_one_to_end(cluster: &mut Cluster) -> Result<usize> {
    let ended = wait::until("one of two to give up", PATIENCE, || {
        let run = [0, 1].map(|number| cluster.node_mut(number).is_running());
        ensure!(
            run != [false, false],
            "both have given up:\n{}\n{}",
            cluster.node(0).log(),
            cluster.node(1).log()
        );
        Ok(run.iter().position(|runs| !runs).ok_or_else(|| "both run".to_owned()))
    })?;
    Ok(ended)
}

fn said(cluster: &Cluster, number: usize, what: &str) -> Result<()> {
    let log = cluster.node(number).log();
    ensure!(log.contains(what), "{log}");
    Ok(())
}

/// Which agent has the name, as its lease tells.
fn agent(cluster: &Cluster) -> Result<String> {
    let lease = cluster.get(&["lease", "-n", "kube-node-lease", NAME])?;
    Ok(lease["metadata"]["annotations"]["cleat.dev/agent"].as_str().unwrap_or_default().to_owned())
}

/// Which agent a machine's is.
fn id(cluster: &Cluster, number: usize) -> Result<String> {
    Ok(std::fs::read_to_string(cluster.node(number).data().join("agent/id"))?.trim().to_owned())
}

fn wait_node(cluster: &Cluster) -> Result<()> {
    cluster.wait("the node to be Ready", PATIENCE, &["node", NAME], node::is_ready).map(drop)
}

/// Waits until a machine's agent has the name, and is Ready.
fn wait_agent(cluster: &Cluster, number: usize) -> Result<()> {
    wait::until("the name to be its own", PATIENCE, || {
        let (has, is) = (agent(cluster)?, id(cluster, number).unwrap_or_default());
        Ok(if has == is { Ok(()) } else { Err(format!("{has:?}\n{}", cluster.node(number).log())) })
    })?;
    wait_node(cluster)
}
