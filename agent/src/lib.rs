//! The node agent: sources, the one loop, effects, status, kubelet API.
//!
//! [`run`] starts a task each for the directory of manifests, the runtime's events, log rotation, the HTTP API and
//! the loop (`sync`), which owns all state and asks [`agent_core::plan`] what to do. Stopping the agent stops nothing
//! else: pods are left as they are, and the next start finds them.
#![forbid(unsafe_code)]

mod checkpoint;
mod clock;
mod config;
mod cri;
mod decode;
mod dns;
mod effect;
mod events;
mod labels;
mod log;
mod logs;
mod message;
mod node;
mod observe;
mod prober;
mod reach;
mod rotate;
mod runtime;
mod server;
mod source;
mod sync;
mod tls;
mod translate;
mod volume;

use std::path::PathBuf;
use std::sync::Arc;

pub use config::Config;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoints;
use crate::clock::Clock;
use crate::cri::Cri;
use crate::effect::Effects;
use crate::events::Events;
use crate::observe::Observer;
use crate::source::files::Files;

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
    /// This machine has no cgroups.
    #[error("the agent needs cgroups")]
    Cgroups {
        /// Why.
        #[source]
        source: linux::cgroup::CgroupError,
    },
}

/// Runs the agent until `shutdown`. Pods are left as they are: the next start finds them.
///
/// # Errors
/// Its checkpoints or its socket cannot be had, or the machine has no cgroups. A CRI server that does not answer is
/// waited for.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentFailed> {
    let cri = Cri::lazy(&config.cri_socket);
    let hierarchies = linux::cgroup::Hierarchies::read().map_err(|source| AgentFailed::Cgroups { source })?;
    serve(config, cri, Clock::System, Some(hierarchies), shutdown).await
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
        tracing::error!(
            "{error}: {}",
            std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
        );
    }
    let socket = config.socket();
    let listener = linux::socket::listen(&socket)
        .and_then(tokio::net::UnixListener::from_std)
        .map_err(|source| AgentFailed::Socket { path: socket.clone(), source })?;
    let (sender, inbox) = mpsc::unbounded_channel();
    let (view, viewer) = watch::channel(Arc::default());
    let effects = Arc::new(Effects {
        events: Events::new(clock, &config.node_name),
        pulls: Semaphore::new(config.pulls_max.max(1)),
        config,
        cri: cri.clone(),
        clock,
        checkpoints,
        hierarchies,
    });
    let config = &effects.config;
    let observer = Observer::new(cri.clone(), &config.node_name);
    let mut sync = sync::Sync::new(effects.clone(), observer, node::facts(config), sender.clone(), view);
    sync.restore(records);
    let mut tasks = JoinSet::new();
    match &config.manifests {
        Some(dir) => drop(tasks.spawn(Files::new(dir, &config.node_name, clock).run(sender.clone()))),
        None => drop(sender.send(sync::Happening::Source(source::Update::default()))),
    }
    tasks.spawn(runtime::listen(cri, sender));
    tasks.spawn(rotate::run(effects.clone()));
    tasks.spawn(server::Server { effects: effects.clone(), view: viewer }.run(listener, shutdown.clone()));
    let empty = sync.run(inbox, shutdown).await;
    tasks.shutdown().await;
    // Nobody listens any more; a client is told so at once.
    let _ = std::fs::remove_file(socket);
    if empty {
        effects.remove_cgroups().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
