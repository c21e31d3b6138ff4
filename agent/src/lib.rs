//! The node agent: sources, the one loop, effects, status, kubelet API.
//!
//! [`run`] starts a task each for the directory of manifests, the runtime's events, log rotation, the HTTP API and
//! the loop (`sync`), which owns all state and asks [`agent_core::plan`] what to do. Stopping the agent stops nothing
//! else: pods are left as they are, and the next start finds them.
#![forbid(unsafe_code)]

mod checkpoint;
mod clock;
mod cluster;
mod config;
mod credentials;
mod cri;
mod decode;
mod dns;
mod effect;
mod events;
mod evict;
mod identity;
mod kubelet;
mod labels;
mod log;
mod logs;
mod message;
mod mirror;
mod node;
mod objects;
mod observe;
mod prober;
mod reach;
mod report;
mod rotate;
mod runtime;
mod server;
mod source;
mod stats;
mod sync;
mod tls;
mod tokens;
mod translate;
mod volume;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::{Client, ClientError};

pub use config::{Api, Config};
pub use identity::{IdentityFailed, Join, NodeIdentity, ServingCertificate, SignFailed};
pub use kubelet::KubeletConfigurationError;
pub use node::machine::{keep_name, kept_name};
pub use pki::Identity;
pub use server::{Authorization, Serving};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoints;
use crate::clock::Clock;
use crate::cluster::Joining;
use crate::cri::Cri;
use crate::effect::Effects;
use crate::events::Events;
use crate::node::lease::Taken;
use crate::objects::Objects;
use crate::observe::Observer;
use crate::source::files::Files;
use crate::tokens::Tokens;

/// The places in a pod's life where a crash test may have the agent killed, for `linux::crash::point`.
pub const CRASH_POINTS: &[&str] = &[
    "agent.checkpoint.written",
    "agent.cgroup.made",
    "agent.volumes.made",
    "agent.sandbox.made",
    "agent.image.pulled",
    "agent.container.made",
    "agent.container.started",
    "agent.post_start",
    "agent.pre_stop",
    "agent.container.stopping",
    "agent.container.stopped",
    "agent.sandbox.stopped",
    "agent.container.removed",
    "agent.sandbox.removed",
    "agent.forget.cleaned",
];

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentFailed {
    /// Its checkpoints cannot be kept below the data directory.
    #[error("the agent cannot keep its checkpoints in {}: {reason}", path.display())]
    Checkpoints {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its socket cannot be made.
    #[error("the agent cannot listen on {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kubelet's API cannot be served.
    #[error("the agent cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// This machine has no cgroups.
    #[error("the agent needs cgroups")]
    Cgroups {
        /// Why.
        #[source]
        source: linux::cgroup::CgroupError,
    },
    /// It cannot keep who it is.
    #[error("the agent cannot keep its identity below {}", path.display())]
    Identity {
        /// The data directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another agent runs a node of this name. The pods are left as they are.
    #[error(
        "node {node} is alive elsewhere: its lease is renewed by {by}; give this node another name (--node-name), or stop the other one"
    )]
    NameTaken {
        /// The node's name.
        node: String,
        /// The other agent.
        by: String,
    },
}

/// Gives the node's name back after the agent of `data_dir` has ended for good: another machine can have it at once.
/// Nothing happens when another agent has it by now.
///
/// # Errors
/// When the API server does not answer, or refuses.
pub async fn release(client: &Client, node: &str, data_dir: &Path) -> Result<(), ClientError> {
    // Without an identity it never had a name.
    let Ok(id) = node::machine::identity(data_dir) else { return Ok(()) };
    node::lease::release(client, node, &id).await
}

/// Runs the agent until `shutdown`. Pods are left as they are: the next start finds them.
///
/// # Errors
/// Its checkpoints or its socket cannot be had, or the machine has no cgroups. A CRI server that does not answer is
/// waited for.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentFailed> {
    let cri = Cri::lazy(&config.cri_socket);
    let hierarchies = match config.cgroup_root.is_empty() {
        true => None,
        false => Some(linux::cgroup::Hierarchies::read().map_err(|source| AgentFailed::Cgroups { source })?),
    };
    serve(config, cri, Clock::System, hierarchies, shutdown).await
}

async fn serve(
    config: Config,
    cri: Cri,
    clock: Clock,
    hierarchies: Option<linux::cgroup::Hierarchies>,
    shutdown: CancellationToken,
) -> Result<(), AgentFailed> {
    let unkept = |error: checkpoint::CheckpointFailed| {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        AgentFailed::Checkpoints { path: config.pods_dir(), reason }
    };
    let checkpoints = Checkpoints::open(&config.pods_dir()).map_err(unkept)?;
    let (records, unread) = checkpoints.read().map_err(unkept)?;
    for error in unread {
        tracing::error!("{}", effect::chain(&error));
    }
    let socket = config.socket();
    let listener = linux::socket::listen(&socket)
        .and_then(tokio::net::UnixListener::from_std)
        .map_err(|source| AgentFailed::Socket { path: socket.clone(), source })?;
    let port = listen(config.serving.as_ref()).await?;
    let (sender, inbox) = mpsc::unbounded_channel();
    let (view, viewer) = watch::channel(Arc::default());
    let facts = node::facts(&config);
    let effects = Arc::new(Effects {
        events: Events::new(clock, &config.node_name),
        objects: Objects::new(config.api.as_ref().map(|api| &api.cache), sender.clone()),
        tokens: Tokens::new(config.api.as_ref().map(|api| &api.cache), clock),
        pulls: Semaphore::new(config.pulls_max.max(1)),
        config,
        cri: cri.clone(),
        clock,
        checkpoints,
        hierarchies,
        port: watch::Sender::new(0),
    });
    let config = &effects.config;
    let observer = Observer::new(cri.clone(), &config.node_name);
    let mut tasks = JoinSet::new();
    let (runtime, runtimes) = watch::channel(None);
    let joining = cluster::prepare(&effects, &facts, runtimes, (&sender, viewer.clone()), &mut tasks)?;
    let (joining, cluster) = joining.unzip();
    let mut sync = sync::Sync::new(effects.clone(), observer, facts, sender.clone(), view, cluster);
    sync.restore(records);
    match &config.manifests {
        Some(dir) => drop(tasks.spawn(Files::new(dir, &config.node_name, clock).run(sender.clone()))),
        None => drop(sender.send(sync::Happening::Source(source::Update::default()))),
    }
    tasks.spawn(runtime::follow(cri.clone(), runtime, sender.clone()));
    tasks.spawn(evict::run(effects.clone(), viewer.clone(), sender.clone()));
    tasks.spawn(runtime::listen(cri, sender));
    tasks.spawn(rotate::run(effects.clone()));
    let server = server::Server { effects: effects.clone(), view: viewer, memory: Arc::default() };
    if let (Some(serving), Some(port)) = (config.serving.clone(), port) {
        tasks.spawn(server.clone().run_https(port, serving, shutdown.clone()));
    }
    tasks.spawn(server.run(listener, shutdown.clone()));
    let ends = shutdown.child_token();
    let loop_ends = async {
        let empty = sync.run(inbox, ends.clone()).await;
        ends.cancel();
        empty
    };
    let (empty, failed) = tokio::join!(loop_ends, Joining::until(joining, ends.clone()));
    tasks.shutdown().await;
    // Nobody listens any more; a client is told so at once.
    let _ = std::fs::remove_file(socket);
    if empty {
        effects.remove_cgroups().await;
    }
    match failed {
        Some(Taken { by }) => Err(AgentFailed::NameTaken { node: effects.config.node_name.clone(), by }),
        None => Ok(()),
    }
}

/// Takes the node's port, where the kubelet's API is to be served.
async fn listen(serving: Option<&Serving>) -> Result<Option<tokio::net::TcpListener>, AgentFailed> {
    let Some(serving) = serving else { return Ok(None) };
    let bound = server::bind(serving).await;
    bound.map(Some).map_err(|source| AgentFailed::Listen { address: serving.listen, source })
}

#[cfg(test)]
mod tests;
