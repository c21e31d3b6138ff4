//! Registries: where to find them, how to be let in, and how to get content out of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What lets one into a registry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// User name and password.
    Basic {
        /// User.
        username: String,
        /// Password, or a token in its place.
        password: String,
    },
    /// An OAuth2 refresh token, exchanged for access tokens.
    IdentityToken(String),
    /// A bearer token, sent as it is.
    RegistryToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::Basic { .. } => "Basic(..)",
            Credentials::IdentityToken(_) => "IdentityToken(..)",
            Credentials::RegistryToken(_) => "RegistryToken(..)",
        })
    }
}

/// How long to wait, and how often to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte.
    pub stall: Duration,
    /// Attempts in all.
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_millis(500),
        }
    }
}

/// The configuration of registries, read again for each pull. Clones share connections.
#[derive(Debug, Clone)]
pub struct Registries(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    certs_d: Vec<PathBuf>,
    docker_config: Option<PathBuf>,
    patience: Patience,
}

impl Registries {
    /// Registries configured as containerd's are by `<certs_d>/<host>/hosts.toml` (of several directories the first
    /// that has the host counts), with credentials from docker's `config.json`. What is absent is no error.
    pub fn new(certs_d: Vec<PathBuf>, docker_config: Option<PathBuf>) -> Registries {
        Registries::patient(certs_d, docker_config, Patience::default())
    }

    /// As [`Registries::new`], with other times.
    pub fn patient(certs_d: Vec<PathBuf>, docker_config: Option<PathBuf>, patience: Patience) -> Registries {
        Registries(Arc::new(Shared { certs_d, docker_config, patience }))
    }
}
