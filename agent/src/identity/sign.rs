//! Having a key certified by the cluster: a CertificateSigningRequest, and the wait for its answer.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Client, ClientError, Query};
use pki::{Key, Names};
use proto_kube::object;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::config::certificate_signing_requests as requests;

/// How often a request is looked at, at first and in the end.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(2);
/// After so long it is said what is waited for.
const SAY: Duration = Duration::from_secs(4);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignFailed {
    /// The API server does not take the request, or does not answer.
    #[error("the certificate signing request")]
    Request(#[source] ClientError),
    /// The cluster will not sign it.
    #[error("the certificate signing request {name} was refused: {why}")]
    Refused {
        /// The request.
        name: String,
        /// The reason and the message of its condition.
        why: String,
    },
    /// Nobody has decided about it.
    #[error(
        "nobody has signed the certificate signing request {name} within {seconds} s: approve it by `kubectl certificate approve {name}`"
    )]
    Pending {
        /// The request.
        name: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The key cannot be made or kept.
    #[error("the node's key")]
    Key(#[source] pki::Error),
}

/// What is to be certified, and by whom.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The node.
    pub(crate) node: String,
    /// `kubernetes.io/kube-apiserver-client-kubelet` or `kubernetes.io/kubelet-serving`.
    pub(crate) signer: &'static str,
    /// `client auth` or `server auth`.
    pub(crate) usage: &'static str,
    /// Names of a server.
    pub(crate) names: Names,
    /// Where the key waits for its certificate: after a crash the same request is taken up again.
    pub(crate) pending: PathBuf,
    /// How long it is waited for.
    pub(crate) patience: Duration,
}

impl Ask {
    /// Has it certified. Returns the certificate and the key, in PEM, one behind the other.
    pub(crate) async fn sign(&self, client: &Client) -> Result<String, SignFailed> {
        let key = self.key()?;
        let name = format!("node-csr-{}", digest(&key, self));
        let common_name = format!("system:node:{}", self.node);
        let asked =
            pki::request(&key, &common_name, &["system:nodes"], &self.names).map_err(SignFailed::Key)?;
        let request = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {"request": STANDARD.encode(asked), "signerName": self.signer,
                "usages": ["digital signature", self.usage]},
        });
        match client.create(requests(), "", &request, Query::default()).await {
            Ok(_) => {}
            // Our own, made before a crash: nobody else has this key.
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(SignFailed::Request(error)),
        }
        let certificate = self.wait(client, &name).await?;
        let _ = std::fs::remove_file(&self.pending);
        Ok(format!("{}\n{}", certificate.trim_end(), key.pem()))
    }

    fn key(&self) -> Result<Key, SignFailed> {
        if let Some(key) =
            std::fs::read_to_string(&self.pending).ok().and_then(|pem| Key::from_pem(&pem).ok())
        {
            return Ok(key);
        }
        let key = Key::generate().map_err(SignFailed::Key)?;
        pki::replace(&self.pending, key.pem().as_bytes(), 0o600).map_err(SignFailed::Key)?;
        Ok(key)
    }

    async fn wait(&self, client: &Client, name: &str) -> Result<String, SignFailed> {
        let began = Instant::now();
        let (mut pause, mut said) = (LOOK_MIN, false);
        loop {
            match client.get(requests(), "", name).await {
                Ok(request) => {
                    if let Some(answer) = answer(&request) {
                        // A request that is settled is of no more use; the next has another key.
                        return answer.map_err(|why| {
                            let _ = std::fs::remove_file(&self.pending);
                            SignFailed::Refused { name: name.to_owned(), why }
                        });
                    }
                }
                Err(error @ ClientError::Refused { code: 401 | 403 | 404, .. }) => {
                    let _ = std::fs::remove_file(&self.pending);
                    return Err(SignFailed::Request(error));
                }
                Err(error) => tracing::debug!(%error, "cannot look at the certificate signing request"),
            }
            if began.elapsed() >= self.patience {
                let seconds = self.patience.as_secs();
                return Err(SignFailed::Pending { name: name.to_owned(), seconds });
            }
            if began.elapsed() >= SAY && !said {
                said = true;
                tracing::warn!(
                    "waiting for the cluster to sign {name}: where there was a node {} lately, it takes a minute to see \
                     whether that one is alive",
                    self.node
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }
}

/// What became of a request: a certificate in PEM, or why there will be none; `None`: nothing yet.
fn answer(request: &Value) -> Option<Result<String, String>> {
    for condition in object::items(request, &["status", "conditions"]) {
        let kind = object::text(condition, &["type"]);
        if matches!(kind, "Denied" | "Failed") {
            let part = |key: &str| object::text(condition, &[key]);
            return Some(Err(format!("{kind}: {} {}", part("reason"), part("message"))));
        }
    }
    let certificate = object::at(request, &["status", "certificate"])?.as_str()?;
    let text = STANDARD.decode(certificate).ok().and_then(|pem| String::from_utf8(pem).ok());
    Some(text.ok_or_else(|| "its certificate is not PEM in base64".to_owned()))
}

/// Names a request by all that makes it this one.
fn digest(key: &Key, ask: &Ask) -> String {
    let mut hash = Sha256::new();
    hash.update(key.spki());
    hash.update(ask.signer);
    hash.update(&ask.node);
    hash.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_request() {
        assert_eq!(answer(&json!({"status": {}})), None);
        let approved = json!({"type": "Approved", "status": "True"});
        assert_eq!(answer(&json!({"status": {"conditions": [approved]}})), None);
        let signed = json!({"status": {"conditions": [approved], "certificate": STANDARD.encode("PEM")}});
        assert_eq!(answer(&signed), Some(Ok("PEM".into())));
        let denied = json!({"type": "Denied", "reason": "R", "message": "m"});
        assert_eq!(answer(&json!({"status": {"conditions": [denied]}})), Some(Err("Denied: R m".into())));
    }
}
