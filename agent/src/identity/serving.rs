//! The certificate of the kubelet's API, as the cluster has signed it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use pki::{Certificate, Key, Names};
use tokio::sync::watch;

use super::sign::Ask;
use super::{IdentityFailed, kept};

/// The signer of servers' certificates on nodes.
const SIGNER: &str = "kubernetes.io/kubelet-serving";

/// A file with the certificate and its key, and who watches it change.
#[derive(Debug, Clone)]
pub struct ServingCertificate {
    path: PathBuf,
    current: watch::Sender<Option<pki::Identity>>,
}

impl ServingCertificate {
    /// What an earlier start has left in `dir`, if its time is not over. The agent that is given it
    /// ([`crate::Api::serving`]) sees to a first one, and to the next.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self::open_at(dir, Timestamp::now())
    }

    /// What the kubelet's API is served with: nothing until the cluster has signed it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<pki::Identity>> {
        self.current.subscribe()
    }

    fn open_at(dir: &Path, now: Timestamp) -> Self {
        let path = dir.join("serving.pem");
        let known = std::fs::read_to_string(&path).ok().and_then(|pem| split(&pem));
        let good = |identity: &pki::Identity| {
            Certificate::from_pem(&identity.certificate).is_ok_and(|read| read.not_after > now)
        };
        Self { path, current: watch::Sender::new(known.filter(good)) }
    }

    /// The certificate in PEM, if it is for these names; else empty.
    pub(super) fn of(&self, names: &Names) -> String {
        let current = self.current.borrow();
        let pem = current.as_ref().map(|identity| identity.certificate.clone()).unwrap_or_default();
        let fits = Certificate::from_pem(&pem).is_ok_and(|read| read.names == *names);
        if fits { pem } else { String::new() }
    }

    /// What to ask the cluster for.
    pub(super) fn ask(&self, node: &str, names: &Names, patience: Duration) -> Ask {
        Ask {
            node: node.to_owned(),
            signer: SIGNER,
            usage: "server auth",
            names: names.clone(),
            pending: self.path.with_extension("key"),
            patience,
        }
    }

    /// Shows a new one from now on, and after the next start.
    pub(super) fn keep(&self, pem: &str) -> Result<(), IdentityFailed> {
        let identity = split(pem).ok_or_else(|| kept(&self.path, "it is no certificate with its key"))?;
        pki::replace(&self.path, pem.as_bytes(), 0o600).map_err(|e| kept(&self.path, e))?;
        self.current.send_replace(Some(identity));
        Ok(())
    }
}

/// A certificate and its key from one text.
fn split(pem: &str) -> Option<pki::Identity> {
    let chain = pki::key::certificates(pem).ok().filter(|chain| !chain.is_empty())?;
    let certificate = chain.iter().map(|der| pki::key::pem("CERTIFICATE", der)).collect();
    Some(pki::Identity { certificate, key: Key::from_pem(pem).ok()?.pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let serving = ServingCertificate::open_at(dir.path(), now);
        assert!(serving.current.borrow().is_none());
        let pki = pki::Pki::open(None, Names::default(), now).unwrap();
        let signed = pki.issue_client("n", &[], now).unwrap();
        serving.keep(&format!("{}{}", signed.certificate, signed.key)).unwrap();
        assert_eq!(ServingCertificate::open_at(dir.path(), now).current.borrow().as_ref(), Some(&signed));
        assert_eq!(serving.of(&Names::default()), signed.certificate);
        assert_eq!(serving.of(&Names::new(["n"])), "", "it is for other names");
        let later = now + jiff::SignedDuration::from_hours(24 * 400);
        assert!(
            ServingCertificate::open_at(dir.path(), later).current.borrow().is_none(),
            "its time is over"
        );
        assert!(serving.keep("PEM").is_err());
    }
}
