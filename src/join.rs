//! `cleat join` and `cleat node`: this machine as a node of a cluster whose control plane is elsewhere.

use std::path::Path;
use std::time::Duration;

use agent::{IdentityFailed, NodeIdentity};
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
    let place = Place::take(&join.node)?;
    let order = agent::Join {
        pins: vec![pin(&join)?],
        server: join.server.0,
        token: join.token.token,
        node_name: place.name.clone(),
        patience: PATIENCE,
    };
    let identity = NodeIdentity::join(&place.paths.node(), &order).await.context("joining the cluster")?;
    run(join.node, &place, Some(identity)).await
}

/// Runs the node that this machine has become.
pub(crate) async fn node(node: NodeCommand) -> anyhow::Result<()> {
    let place = Place::take(&node)?;
    let identity = match node.kubeconfig {
        Some(_) => None,
        None => Some(match NodeIdentity::open(&place.paths.node(), &place.name) {
            Err(nothing @ IdentityFailed::Kept { .. }) => {
                return Err(nothing)
                    .context("this machine is a node of no cluster: `cleat join` makes it one");
            }
            opened => opened?,
        }),
    };
    run(node, &place, identity).await
}

/// The machine as the place of one node, and of no other as long as this lives.
struct Place {
    paths: Paths,
    name: String,
    _lock: daemon::Lock,
}

impl Place {
    fn take(node: &NodeCommand) -> anyhow::Result<Self> {
        daemon::require_root()?;
        let paths = Paths::resolve(&node.dirs)?;
        let mut config = agent_config(&paths, &node.node, node.manifests.as_deref())?;
        // Read here only so that a wrong file is refused before the cluster is asked for anything.
        if let Some(file) = &node.node.config {
            config.read_kubelet_configuration(file).context("--config")?;
        }
        let _lock = daemon::lock(&paths, "cleat")?;
        Ok(Self { name: config.node_name, paths, _lock })
    }
}

/// The hash that pins the cluster's authority.
fn pin(join: &Join) -> anyhow::Result<String> {
    let Some(pin) = join.token.pin.as_ref().or(join.ca_hash.as_ref()) else {
        bail!(
            "--token: without the hash of the cluster's authority anybody could pass for it; `cleat token create` \
             prints it behind an @, or give --ca-hash"
        );
    };
    Ok(pin.0.clone())
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

async fn run(node: NodeCommand, place: &Place, identity: Option<NodeIdentity>) -> anyhow::Result<()> {
    let Place { paths, name, .. } = place;
    let shutdown = daemon::shutdown_on_signal()?;
    let config = match (&identity, &node.kubeconfig) {
        (Some(identity), _) => identity.config().clone(),
        (None, Some(file)) => client::Config::load(file, None)?,
        (None, None) => bail!("--kubeconfig names the cluster"),
    };
    let client = Client::new(&config, AGENT)?;
    let cluster = Cluster::wait(&client, &shutdown).await?;
    drain::restore(&client, name).await;
    // All Nodes are watched, for the network between them.
    let scopes = agent::Api::scopes(name).into_iter().filter(|(resource, _)| resource.plural != "nodes");
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
