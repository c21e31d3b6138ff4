//! Registries: where to find them, how to be let in, and how to get content out of them
//! (distribution-spec: pulling manifests, pulling blobs).

mod auth;
mod client;
mod credentials;
mod error;
mod hosts;
mod session;
mod transfer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

pub use credentials::Credentials;
pub use error::RegistryError;
pub(crate) use session::Session;

use client::HttpClient;
use hosts::Tls;

use crate::reference::Reference;

/// How long to wait, and how often to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte.
    pub stall: Duration,
    /// Attempts in a row that bring nothing.
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
    clients: Mutex<HashMap<ClientKey, HttpClient>>,
}

/// A client serves as long as its certificates' files do not change.
type ClientKey = (Tls, Vec<Option<SystemTime>>);

impl Registries {
    /// Registries configured as containerd's are by `<certs_d>/<host>/hosts.toml` (of several directories the first
    /// that has the host counts), with credentials from docker's `config.json`. What is absent is no error: a registry
    /// is asked by https then, and one on this machine (`localhost`, `127.0.0.1`) by http.
    pub fn new(certs_d: Vec<PathBuf>, docker_config: Option<PathBuf>) -> Registries {
        Registries::patient(certs_d, docker_config, Patience::default())
    }

    /// As [`Registries::new`], with other times.
    pub fn patient(certs_d: Vec<PathBuf>, docker_config: Option<PathBuf>, patience: Patience) -> Registries {
        Registries(Arc::new(Shared { certs_d, docker_config, patience, clients: Mutex::default() }))
    }

    /// A conversation about one image.
    pub(crate) async fn session(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Session, RegistryError> {
        let credentials = match (credentials, &self.0.docker_config) {
            (None, Some(config)) => credentials::find(config, reference).await?,
            (given, _) => given,
        };
        let mut places = Vec::new();
        for host in hosts::hosts(&self.0.certs_d, &reference.domain)? {
            let client = self.client(&host.tls)?;
            places.push((host, client));
        }
        Ok(Session::new(reference.clone(), credentials, places, self.0.patience))
    }

    fn client(&self, tls: &Tls) -> Result<HttpClient, RegistryError> {
        let pair = tls.client.iter().flat_map(|(certificate, key)| key.iter().chain([certificate]));
        let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let key = (tls.clone(), tls.ca.iter().chain(pair).map(modified).collect());
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = client::client(tls, &self.0.patience)?;
        clients.retain(|(other, _), _| other != tls);
        clients.insert(key, client.clone());
        Ok(client)
    }
}
