//! What goes wrong with registries.

use std::path::PathBuf;

use crate::digest::Digest;

/// Why a registry did not give what was wanted. Each variant names the registry (host and port).
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file of the registries' configuration is wrong.
    #[error("{}: {reason}", path.display())]
    Config {
        /// `hosts.toml`, `config.json`, or a certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection failed, or broke and could not be resumed.
    #[error("{host}: {what}: {reason}")]
    Connection {
        /// The registry.
        host: String,
        /// What was being transferred.
        what: String,
        /// All that is known.
        reason: String,
    },
    /// No byte came for too long.
    #[error("{host}: {what}: no data for {seconds} s")]
    Stalled {
        /// The registry.
        host: String,
        /// What was being transferred.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The registry refused, or cannot for now (429 and 5xx).
    #[error("{host}: {what}: status {status}{detail}")]
    Status {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// What the registry says about it.
        detail: String,
    },
    /// 404.
    #[error("{host}: {what} not found{detail}")]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry says about it.
        detail: String,
    },
    /// 401 or 403, after all credentials were tried.
    #[error(
        "{host}: {what}: access denied ({reason}): check that the image exists and the pull credentials are right"
    )]
    Unauthorized {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What is missing or refused.
        reason: String,
    },
    /// A redirect that leads nowhere, or to where it must not.
    #[error("{host}: {what}: redirect to {location:?} not followed: {reason}")]
    Redirect {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// Where to.
        location: String,
        /// Why not.
        reason: &'static str,
    },
    /// The length is not what was announced.
    #[error("{host}: {what} has {found} bytes instead of {expected}")]
    Length {
        /// The registry.
        host: String,
        /// What was transferred.
        what: String,
        /// The length by the manifest.
        expected: u64,
        /// What the registry announced or sent.
        found: u64,
    },
    /// The content is not what was asked for.
    #[error("{host}: {what} is damaged: its digest is {found} instead of {expected}")]
    Digest {
        /// The registry.
        host: String,
        /// What was transferred.
        what: String,
        /// Digest asked for.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// More than such a document may have.
    #[error("{host}: {what} is larger than {limit} bytes")]
    TooLarge {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// Bytes.
        limit: u64,
    },
    /// Who takes the data has stopped doing so.
    #[error("transfer of {what} stopped")]
    Stopped {
        /// What was transferred.
        what: String,
    },
}

impl RegistryError {
    /// Whether the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            RegistryError::Connection { .. } | RegistryError::Stalled { .. } => true,
            RegistryError::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            _ => false,
        }
    }
}
