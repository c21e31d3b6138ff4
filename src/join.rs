//! `cleat join` and `cleat node`: this machine as a node of a cluster whose control plane is elsewhere.

use std::path::Path;
use std::time::Duration;

use agent::NodeIdentity;
use anyhow::{Context, bail};
use client::{Cache, Client};
use tokio_util::sync::CancellationToken;

use crate::args::{Agent, Join, NodeCommand};
use crate::cluster::Cluster;
use crate::daemon::{self, agent_config};
use crate::drain;
use crate::output::{BOLD, paint};
use crate::parts::Parts;
use crate::paths::Paths;
use crate::progress;
use crate::worker::{self, Membership, Orders, Worker};

/// What the node calls itself towards the API server.
const AGENT: &str = concat!("cleat/", env!("CARGO_PKG_VERSION"));
/// How long a control plane that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes this machine a node, then runs it.
pub(crate) async fn join(join: Join) -> anyhow::Result<()> {
    let paths = Paths::resolve(&join.node.dirs)?;
    let name = agent_config(&paths, &join.node.node, None)?.node_name;
    let (token, pins) = token(&join)?;
    let order = agent::Join { server: join.server, token, pins, node_name: name, patience: PATIENCE };
    let identity = NodeIdentity::join(&paths.node(), &order).await.context("joining the cluster")?;
    run(join.node, &paths, Some(identity)).await
}

/// Runs the node that this machine has become.
pub(crate) async fn node(node: NodeCommand) -> anyhow::Result<()> {
    let paths = Paths::resolve(&node.dirs)?;
    if node.kubeconfig.is_some() {
        return run(node, &paths, None).await;
    }
    let name = agent_config(&paths, &node.node, None)?.node_name;
    let identity = NodeIdentity::open(&paths.node(), &name)
        .context("this machine is a node of no cluster: `cleat join` makes it one")?;
    run(node, &paths, Some(identity)).await
}

/// The token and the hashes that pin the cluster's authority.
fn token(join: &Join) -> anyhow::Result<(String, Vec<String>)> {
    let (token, hash) = match join.token.split_once('@') {
        Some((token, hash)) => (token, Some(format!("sha256:{}", hash.trim_start_matches("sha256:")))),
        None => (join.token.as_str(), join.ca_hash.clone()),
    };
    let Some(pin) = hash else {
        bail!(
            "--token: without the hash of the cluster's authority anybody could pass for it; `cleat token create` \
             prints it behind an @, or give --ca-hash"
        );
    };
    Ok((token.to_owned(), vec![pin]))
}

/// The configuration of an agent that is a node of the cluster of a kubeconfig, and nothing beside it.
pub(crate) async fn agent(
    args: &Agent,
    kubeconfig: &Path,
    paths: &Paths,
    shutdown: &CancellationToken,
) -> anyhow::Result<agent::Config> {
    let config = client::Config::load(kubeconfig, None)?;
    let name = agent_config(paths, &args.node, None)?.node_name;
    let client = Client::new(&config, AGENT)?;
    let cluster = Cluster::wait(&client, shutdown).await?;
    let cache = Cache::scoped(client, agent::Api::scopes(&name));
    let member = Membership::of(paths, cache, &config, None);
    worker::agent(&args.node, args.manifests.as_deref(), paths, &cluster, &member)
}

async fn run(node: NodeCommand, paths: &Paths, identity: Option<NodeIdentity>) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a node makes namespaces, mounts and cgroups: run it as root");
    }
    let _lock = daemon::lock(paths, "cleat")?;
    let shutdown = daemon::shutdown_on_signal()?;
    let config = match (&identity, &node.kubeconfig) {
        (Some(identity), _) => identity.config().clone(),
        (None, Some(file)) => client::Config::load(file, None)?,
        (None, None) => bail!("--kubeconfig names the cluster"),
    };
    let name = agent_config(paths, &node.node, None)?.node_name;
    let client = Client::new(&config, AGENT)?;
    let cluster = Cluster::wait(&client, &shutdown).await?;
    drain::restore(&client, &name).await;
    // All Nodes are watched, for the network between them.
    let scopes = agent::Api::scopes(&name).into_iter().filter(|(resource, _)| resource.plural != "nodes");
    let cache = Cache::scoped(client, scopes.collect());
    let membership = Membership::of(paths, cache, &config, identity);
    let orders = Orders {
        node: &node.node,
        network: &node.network,
        runtime: &node.runtime,
        manifests: node.manifests.as_deref(),
    };
    let worker = Worker::open(&orders, paths, &cluster, membership).await?;
    println!(
        "{}",
        paint(&format!("cleat {} on node {name} of {}", env!("CARGO_PKG_VERSION"), config.server), BOLD)
    );
    println!("  state      {}", paths.data.display());
    println!("Ctrl-C stops cleat; the pods go on. `cleat node{}` takes them up again.\n", paths.flags());
    let screen = worker.images().map(|images| tokio::spawn(progress::pulls(images)));
    let mut parts = Parts::new();
    worker.start(&mut parts);
    let ran = parts.run(shutdown).await;
    screen.inspect(tokio::task::JoinHandle::abort);
    ran
}
