//! Who the node is to the API server: a certificate that the cluster has signed for it. It is had by a bootstrap token
//! ([`NodeIdentity::join`]), kept in a directory, and renewed by itself.
//!
//! ```text
//!  DIR/ca.crt       the cluster's authority
//!  DIR/node.pem     the certificate and its key; always both at once
//!  DIR/serving.pem  the certificate of the kubelet's API and its key
//!  DIR/kubeconfig   names the server and these two: what kubectl and the next start read
//! ```

mod renew;
mod serving;
mod sign;

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, ClientError, Credentials, DiscoverError, KubeconfigError};
use jiff::Timestamp;
use pki::{Certificate, Names};
use tokio::sync::watch;

use self::sign::Ask;
pub(crate) use renew::{renew_client, renew_serving};
pub use serving::ServingCertificate;
pub use sign::SignFailed;

/// What a node calls itself while it has no certificate.
const AGENT: &str = concat!("cleat-join/", env!("CARGO_PKG_VERSION"));
/// The signer of nodes' certificates.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// The first and the longest pause before a server that does not answer is asked again.
const AGAIN_MIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// How to join a cluster.
#[derive(Debug, Clone)]
pub struct Join {
    /// The API server, `HOST:PORT` or a URL.
    pub server: String,
    /// A bootstrap token, `id.secret`.
    pub token: String,
    /// Hashes of the cluster's authority, `sha256:HEX`, of which one has to be right; none trusts what the token has
    /// signed.
    pub pins: Vec<String>,
    /// The node's name.
    pub node_name: String,
    /// How long the server and the signer are waited for.
    pub patience: Duration,
}

/// Why the node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFailed {
    /// The token has not the form of one.
    #[error("the token is not of the form abcdef.0123456789abcdef; `cleat token create` makes one")]
    Token,
    /// The cluster is not to be trusted, or not there.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The API server cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API server does not take the token.
    #[error("{server} does not know the token {id}, or it has expired: `cleat token create` makes another")]
    Unknown {
        /// The address.
        server: String,
        /// The public part of the token.
        id: String,
    },
    /// It gave no certificate.
    #[error(transparent)]
    Sign(#[from] SignFailed),
    /// What was kept cannot be read, or cannot be kept.
    #[error("the node's credentials in {}", path.display())]
    Kept {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its time is over.
    #[error(
        "the node's certificate in {} was good until {until}: join again with a new token (`cleat token create` on the control plane prints the command)",
        path.display()
    )]
    Expired {
        /// The directory.
        path: PathBuf,
        /// When it ended.
        until: Timestamp,
    },
    /// The directory is another node's.
    #[error("the credentials in {} are those of {found}, not of node {node}", path.display())]
    Other {
        /// The directory.
        path: PathBuf,
        /// Whose.
        found: String,
        /// Whose they should be.
        node: String,
    },
}

/// A node's identity.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    dir: PathBuf,
    node: String,
    config: client::Config,
    credentials: Credentials,
    authority: watch::Sender<String>,
    /// How to get a new one when this one's time is over.
    again: Option<Join>,
}

impl NodeIdentity {
    /// Takes up what an earlier join has left in a directory, or joins the cluster now.
    ///
    /// # Errors
    /// See [`IdentityFailed`]; a server that does not answer is waited for.
    pub async fn join(dir: &Path, join: &Join) -> Result<Self, IdentityFailed> {
        match Self::open(dir, &join.node_name) {
            Ok(known) if known.is_of(join) => return Ok(Self { again: Some(join.clone()), ..known }),
            Err(other @ IdentityFailed::Other { .. }) => return Err(other),
            // Nothing of use is there.
            Ok(_) | Err(_) => {}
        }
        bootstrap(dir, join).await?;
        Ok(Self { again: Some(join.clone()), ..Self::open(dir, &join.node_name)? })
    }

    /// Takes up what an earlier join has left in a directory.
    ///
    /// # Errors
    /// There is nothing, it is another node's, or its time is over.
    pub fn open(dir: &Path, node: &str) -> Result<Self, IdentityFailed> {
        let config = client::Config::load(&dir.join("kubeconfig"), None).map_err(|e| kept(dir, e))?;
        let nothing = || KubeconfigError::Malformed { path: dir.join("node.pem"), why: "it is empty".into() };
        let (certificate, key) = config.certificate.clone().ok_or_else(|| kept(dir, nothing()))?;
        let read = Certificate::from_pem(&String::from_utf8_lossy(&certificate)).map_err(|e| kept(dir, e))?;
        if read.common_name != format!("system:node:{node}") {
            let (path, found) = (dir.to_path_buf(), read.common_name);
            return Err(IdentityFailed::Other { path, found, node: node.to_owned() });
        }
        if read.not_after <= Timestamp::now() {
            return Err(IdentityFailed::Expired { path: dir.to_path_buf(), until: read.not_after });
        }
        let credentials = Credentials::new(&certificate, &key)?;
        let config = client::Config { certificate: None, credentials: Some(credentials.clone()), ..config };
        let authority = String::from_utf8_lossy(config.authority.as_deref().unwrap_or_default()).into_owned();
        Ok(Self {
            dir: dir.to_path_buf(),
            node: node.to_owned(),
            config,
            credentials,
            authority: watch::Sender::new(authority),
            again: None,
        })
    }

    /// How the node reaches the API server; its certificate is replaced when it is renewed.
    #[must_use]
    pub fn config(&self) -> &client::Config {
        &self.config
    }

    /// The cluster's authorities, in PEM.
    #[must_use]
    pub fn authority(&self) -> watch::Receiver<String> {
        self.authority.subscribe()
    }

    /// Where it is kept.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is one of the cluster that is to be joined.
    fn is_of(&self, join: &Join) -> bool {
        let server = join.server.trim_start_matches("https://").trim_end_matches('/');
        let authority = String::from_utf8_lossy(self.config.authority.as_deref().unwrap_or_default());
        let known = pki::key::certificates(&authority).unwrap_or_default();
        let pins = known.iter().filter_map(|der| pki::join::pin(&pki::key::pem("CERTIFICATE", der)).ok());
        let plain = |pin: &str| pin.trim_start_matches("sha256:").to_lowercase();
        let pinned = join.pins.is_empty()
            || pins.into_iter().any(|own| join.pins.iter().any(|p| plain(p) == plain(&own)));
        pinned && self.config.server.trim_start_matches("https://") == server
    }

    fn pem(&self) -> PathBuf {
        self.dir.join("node.pem")
    }
}

fn kept(dir: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> IdentityFailed {
    IdentityFailed::Kept { path: dir.to_path_buf(), source: source.into() }
}

/// Joins: finds out whom to trust, has a key certified, and keeps all of it.
async fn bootstrap(dir: &Path, join: &Join) -> Result<(), IdentityFailed> {
    let (id, _) = pki::join::bootstrap_token(&join.token).ok_or(IdentityFailed::Token)?;
    let began = tokio::time::Instant::now();
    let (mut pause, mut said) = (AGAIN_MIN, String::new());
    let config = loop {
        match client::discover(&join.server, &join.pins, Some(&join.token)).await {
            Ok(config) => break config,
            Err(error) if began.elapsed() < join.patience && may_pass(&error) => {
                let why = crate::effect::chain(&error);
                if said != why {
                    tracing::warn!("{why}; trying again for {} s", join.patience.as_secs());
                    said = why;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    };
    let asking = client::Config { token: Some(join.token.clone()), ..config.clone() };
    let client = Client::new(&asking, AGENT)?;
    let signed = ask(dir, &join.node_name, join.patience).sign(&client).await;
    let pem = signed.map_err(|failed| match failed {
        SignFailed::Request(error) if error.code() == Some(401) => {
            IdentityFailed::Unknown { server: config.server.clone(), id: id.to_owned() }
        }
        failed => failed.into(),
    })?;
    keep(dir, &config, &pem)
}

/// The request for a node's client certificate.
fn ask(dir: &Path, node: &str, patience: Duration) -> Ask {
    Ask {
        node: node.to_owned(),
        signer: SIGNER,
        usage: "client auth",
        names: Names::default(),
        pending: dir.join("node.key"),
        patience,
    }
}

/// Whether what went wrong may pass by itself: the control plane may just be starting.
fn may_pass(error: &DiscoverError) -> bool {
    let DiscoverError::Silent { source, .. } = error else { return false };
    match source {
        ClientError::Connection { .. } | ClientError::Timeout { .. } => true,
        ClientError::Refused { code, .. } => matches!(code, 404 | 429 | 500..),
        _ => false,
    }
}

fn keep(dir: &Path, config: &client::Config, pem: &str) -> Result<(), IdentityFailed> {
    let write =
        |name: &str, text: &[u8], mode| pki::replace(&dir.join(name), text, mode).map_err(|e| kept(dir, e));
    // The kubeconfig comes last: with it all of it is there.
    match std::fs::remove_file(dir.join("kubeconfig")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(kept(dir, error)),
        _ => {}
    }
    write("ca.crt", config.authority.as_deref().unwrap_or_default(), 0o644)?;
    write("node.pem", pem.as_bytes(), 0o600)?;
    write("kubeconfig", kubeconfig(&config.server).as_bytes(), 0o600)
}

/// The file by which others find the server and the files beside it.
fn kubeconfig(server: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: cluster
  cluster: {{server: '{server}', certificate-authority: ca.crt}}
users:
- name: node
  user: {{client-certificate: node.pem, client-key: node.pem}}
contexts:
- name: node
  context: {{cluster: cluster, user: node}}
current-context: node
"
    )
}
