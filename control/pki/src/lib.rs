//! The cluster CA, its certificates, and signed service-account tokens.
//!
//! All keys live in one file, `pki.json`, which is replaced whole: there is no moment at which a certificate lies
//! without its key. `State::renew` says what is due by a time, [`Pki`] writes it down before anybody sees it.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod csr;
mod der;
mod far;
mod file;
pub mod join;
pub mod key;
mod request;
mod state;
mod tls;
pub mod token;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

pub use certificate::{Certificate, Names};
pub use csr::{Csr, Signer};
pub use far::{Standing, client};
pub use file::replace;
pub use key::Key;
pub use request::request;
pub use tls::{Clients, serve};
pub use token::{Bound, Claims, Reference, Refusal};

use state::State;

/// Why a key or certificate could not be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// A private key cannot be read.
    #[error("not a P-256 private key: {why}")]
    Key {
        /// What is wrong.
        why: String,
    },
    /// A certificate cannot be read, or nobody we trust stands behind it.
    #[error("certificate: {why}")]
    Certificate {
        /// What is wrong.
        why: String,
    },
    /// A signing request cannot be read.
    #[error("certificate signing request: {why}")]
    Csr {
        /// What is wrong.
        why: String,
    },
    /// A token cannot be made.
    #[error("token: {why}")]
    Token {
        /// What is wrong.
        why: String,
    },
    /// TLS does not take our keys.
    #[error("TLS")]
    Tls(#[source] rustls::Error),
    /// The file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{}: {why}; move it away to begin with a new authority", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A certificate with its key, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `BEGIN CERTIFICATE`
    pub certificate: String,
    /// `BEGIN PRIVATE KEY`
    pub key: String,
}

/// The cluster's authorities and keys.
pub struct Pki {
    /// `None` keeps everything in memory.
    file: Option<PathBuf>,
    names: Names,
    /// Held while something new is made and written.
    renewing: Mutex<()>,
    current: RwLock<Arc<Current>>,
}

/// The state, and what is made of it once and used often.
struct Current {
    state: State,
    bundle: String,
    server: Arc<ServerConfig>,
    clients: tls::Clients,
    servers: far::Servers,
}

impl Current {
    fn new(state: State) -> Result<Self, Error> {
        let bundle = state.bundle();
        let chain = key::certificates(&state.serving.certificate)?;
        let server = tls::server(chain, &state.serving.key)?;
        let authorities = key::certificates(&bundle)?;
        let (clients, servers) = (tls::Clients::new(&authorities)?, far::Servers::new(&authorities)?);
        Ok(Self { state, bundle, server, clients, servers })
    }
}

impl Pki {
    /// Reads the keys of `<dir>/pki.json`, makes what is missing or due, and keeps it. Without a directory all is made
    /// anew and nothing kept. `names` are those of the serving certificate.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(dir: Option<&Path>, names: Names, now: Timestamp) -> Result<Self, Error> {
        let file = dir.map(|dir| dir.join("pki.json"));
        let kept = file.as_deref().map(file::read).transpose()?.flatten();
        let (state, changed) = State::renew(kept, &names, now)?;
        match &file {
            Some(file) if changed => file::write(file, &state)?,
            Some(file) => file::publish(file, &state)?,
            None => {}
        }
        let current = RwLock::new(Arc::new(Current::new(state)?));
        Ok(Self { file, names, renewing: Mutex::new(()), current })
    }

    /// Makes what is due by now: authorities and certificates near their end, signing keys in use for a year. Tells
    /// whether there is anything new.
    ///
    /// # Errors
    /// When it cannot be written; the old keys then stay in use.
    pub fn renew(&self, now: Timestamp) -> Result<bool, Error> {
        let _one_at_a_time = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = state::Kept::from(self.current().state.clone());
        let (state, changed) = State::renew(Some(kept), &self.names, now)?;
        if changed {
            if let Some(file) = &self.file {
                file::write(file, &state)?;
            }
            let current = Arc::new(Current::new(state)?);
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        }
        Ok(changed)
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The certificates of all authorities to be trusted, in PEM: the one that signs first.
    #[must_use]
    pub fn bundle(&self) -> String {
        self.current().bundle.clone()
    }

    /// The certificate of the cluster's administrator (`system:masters`).
    #[must_use]
    pub fn admin(&self) -> Identity {
        self.current().state.admin.identity()
    }

    /// TLS for a server: ask anew for each connection, so that a renewed certificate is used.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.current().server.clone()
    }

    /// Reads the certificate a client has shown.
    ///
    /// # Errors
    /// When no authority of ours stands behind it, or its time is over or has not come.
    pub fn client(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Certificate, Error> {
        self.current().clients.check(chain, now)
    }

    /// Tells who stands behind the certificate that a server has shown which was reached under `name`.
    ///
    /// # Errors
    /// When it claims to be the cluster's and is not, is not for this server, or its time is over or has not come.
    pub fn serving(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: Timestamp,
    ) -> Result<Standing, Error> {
        self.current().servers.check(chain, name, now)
    }

    /// Signs a request that `signer` has nothing against. Returns the certificate in PEM. `asked` is how long it is to
    /// be valid: a year if not told.
    ///
    /// # Errors
    /// When signing fails. The rules of [`Signer::check`] are not looked at here.
    pub fn sign(
        &self,
        csr: &Csr,
        signer: Signer,
        asked: Option<Duration>,
        now: Timestamp,
    ) -> Result<String, Error> {
        self.current().state.sign(csr, signer, asked, now)
    }

    /// A certificate for a client of the cluster, with a key of its own.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn issue_client(&self, user: &str, groups: &[&str], now: Timestamp) -> Result<Identity, Error> {
        self.current().state.issue_client(user, groups, now).map(|leaf| leaf.identity())
    }

    /// Signs a service-account token.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn sign_token(&self, claims: &Claims) -> Result<String, Error> {
        token::sign(&self.current().state.token_key().key, claims)
    }

    /// Checks signature, issuer and time of a service-account token.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn verify_token(&self, issuer: &str, token: &str, now: Timestamp) -> Result<Claims, Refusal> {
        token::verify(self.current().state.token_keys(), issuer, token, now)
    }

    /// The public keys of service-account tokens.
    #[must_use]
    pub fn jwks(&self) -> Value {
        token::jwks(self.current().state.token_keys())
    }
}
