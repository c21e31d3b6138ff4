//! Client certificates that are replaced while a client runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use crate::request::ClientError;
use crate::tls;

/// A certificate and its key that may be replaced: connections that begin later show the new one. Clones share it.
#[derive(Clone)]
pub struct Credentials(Arc<Current>);

struct Current {
    key: RwLock<Arc<CertifiedKey>>,
    /// How many times it was replaced.
    age: AtomicU64,
}

impl Credentials {
    /// From a certificate (with those between it and the authority) and its key, both in PEM.
    ///
    /// # Errors
    /// When they are of no use, or do not belong together.
    pub fn new(certificate: &[u8], key: &[u8]) -> Result<Self, ClientError> {
        let key = RwLock::new(tls::certified_key(certificate, key)?);
        Ok(Self(Arc::new(Current { key, age: AtomicU64::new(0) })))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// As [`Credentials::new`]; the old one stays then.
    pub fn replace(&self, certificate: &[u8], key: &[u8]) -> Result<(), ClientError> {
        let new = tls::certified_key(certificate, key)?;
        *self.0.key.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.0.age.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Changes with every replacement.
    pub(crate) fn age(&self) -> u64 {
        self.0.age.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("age", &self.age()).finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
