//! Signs approved requests for certificates.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use pki::{Csr, Pki, Signer};
use proto_kube::{Resource, object, resource};
use serde_json::{Value, json};

/// The least that a request is granted of what it asks for: twice what a certificate is dated back.
const LEAST: Duration = Duration::from_secs(600);

/// Who signs, and for how long.
#[derive(Clone)]
pub struct Signing {
    /// The cluster's keys.
    pub pki: Arc<Pki>,
    /// How long a certificate is good that does not ask for less.
    pub duration: Duration,
}

/// The request with its certificate, or with the condition that says why there is none; nothing where our authority does
/// not stand behind the signer, or the request is not approved or done already.
pub(crate) fn signed(
    signing: &Signing,
    request: &Value,
    now: Timestamp,
) -> Option<(&'static Resource, Value)> {
    let condition = |kind: &str| object::items(request, &["status", "conditions"]).any(|c| c["type"] == kind);
    let done = !object::text(request, &["status", "certificate"]).is_empty();
    if done || !condition("Approved") || condition("Denied") || condition("Failed") {
        return None;
    }
    let signer = Signer::named(object::text(request, &["spec", "signerName"]))?;
    let mut changed = request.clone();
    match certificate(signing, signer, request, now) {
        Ok(certificate) => changed["status"]["certificate"] = certificate.into(),
        Err(why) => {
            let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let failed = json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure",
                "message": why, "lastTransitionTime": time, "lastUpdateTime": time});
            changed["status"]["conditions"].as_array_mut()?.push(failed);
        }
    }
    Some((resource::find("certificates.k8s.io", "v1", "certificatesigningrequests")?, changed))
}

/// The certificate that a request asks for, in base64 of PEM.
fn certificate(
    Signing { pki, duration }: &Signing,
    signer: Signer,
    request: &Value,
    now: Timestamp,
) -> Result<String, String> {
    let pem = STANDARD.decode(object::text(request, &["spec", "request"])).map_err(|e| e.to_string())?;
    let csr = Csr::from_pem(&pem).map_err(|e| e.to_string())?;
    let usages: Vec<&str> = object::items(request, &["spec", "usages"]).filter_map(Value::as_str).collect();
    signer.check(&csr, &usages)?;
    let seconds = object::at(request, &["spec", "expirationSeconds"]).and_then(Value::as_u64);
    let life = lifetime(seconds, *duration);
    let signed = pki.sign(&csr, signer, Some(life), now).map_err(|e| e.to_string())?;
    Ok(STANDARD.encode(signed))
}

/// How long a certificate is to be good.
fn lifetime(asked_seconds: Option<u64>, most: Duration) -> Duration {
    asked_seconds.map_or(most, |seconds| Duration::from_secs(seconds).max(LEAST).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_there_is() {
        let seconds = |asked, most| lifetime(asked, Duration::from_secs(most)).as_secs();
        assert_eq!(seconds(None, 7200), 7200);
        assert_eq!(seconds(Some(3600), 7200), 3600);
        assert_eq!(seconds(Some(9000), 7200), 7200);
        assert_eq!(seconds(Some(1), 7200), 600);
        assert_eq!(seconds(Some(3600), 60), 60);
    }
}
