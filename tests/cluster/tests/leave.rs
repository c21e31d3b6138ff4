//! A node that leaves gives its pods away first, and a machine that is reset is as it was.

use anyhow::{Result, ensure};
use lab::{Cluster, node};

const WEB: &str = include_str!("../../../examples/web.yaml");

#[test]
fn who_leaves_gives_its_pods_away_and_leaves_nothing() -> Result<()> {
    let mut cluster = Cluster::prepared(2, &[])?;
    let before = [cluster.node(0).snapshot()?, cluster.node(1).snapshot()?];
    cluster.start()?;
    let (first, second) = (cluster.name(0)?, cluster.name(1)?);
    // All go to the second node first.
    cluster.kubectl(&["cordon", &first])?;
    cluster.apply(WEB)?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    cluster.kubectl(&["uncordon", &first])?;
    let said = cluster.node(1).cleat(&["reset", "--yes"])?;
    ensure!(said.contains("pods given away") && said.contains("nothing is left"), "{said}");
    before[1].expect_nothing_new(10, || cluster.node(1).snapshot())?;
    cluster.wait("the web on the first node", 60, &["pods", "-l", "app=web"], |list| {
        let all = list["items"].as_array().cloned().unwrap_or_default();
        all.len() == 3 && all.iter().all(|pod| pod["spec"]["nodeName"] == *first && node::is_ready(pod))
    })?;
    ensure!(cluster.get(&["node", &second])?["spec"]["unschedulable"] == true, "it still takes pods");
    let said = cluster.node(0).cleat(&["reset", "--yes"])?;
    ensure!(said.contains("nothing is left"), "{said}");
    before[0].expect_nothing_new(10, || cluster.node(0).snapshot())?;
    Ok(())
}

#[test]
fn a_cluster_that_was_ended_comes_back_as_it_was() -> Result<()> {
    let mut cluster = Cluster::new(1)?;
    cluster.apply(WEB)?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let uids =
        |cluster: &Cluster| cluster.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
    let before = uids(&cluster)?;
    let said = cluster.node(0).cleat(&["down"])?;
    ensure!(said.contains("4 pods ended"), "{said}");
    cluster.start_node(0)?;
    cluster.wait_ready()?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"])?;
    ensure!(uids(&cluster)? == before, "the pods were replaced");
    Ok(())
}
