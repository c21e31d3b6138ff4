//! The node agent: sources, the one loop, effects, status, kubelet API.
#![forbid(unsafe_code)]

mod config;

pub use config::Config;
use tokio_util::sync::CancellationToken;

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
#[error("agent: {0}")]
pub struct AgentFailed(String);

/// The places where a crash test may have the agent killed, for `linux::crash::point`.
pub const CRASH_POINTS: &[&str] = &[];

/// Runs the agent until `shutdown`. Pods are left as they are: the next start finds them.
///
/// # Errors
/// A directory or the socket cannot be made.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentFailed> {
    drop(config);
    shutdown.cancelled().await;
    Ok(())
}
