//! Signs approved requests for certificates.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use pki::{Csr, Pki, Signer};
use proto_kube::{Resource, object, resource};
use serde_json::{Value, json};

/// The request with its certificate, or with the condition that says why there is none; nothing where our authority does
/// not stand behind the signer, or the request is not approved or done already.
pub(crate) fn signed(pki: &Pki, request: &Value, now: Timestamp) -> Option<(&'static Resource, Value)> {
    let condition = |kind: &str| object::items(request, &["status", "conditions"]).any(|c| c["type"] == kind);
    let done = !object::text(request, &["status", "certificate"]).is_empty();
    if done || !condition("Approved") || condition("Denied") || condition("Failed") {
        return None;
    }
    let signer = Signer::named(object::text(request, &["spec", "signerName"]))?;
    let mut changed = request.clone();
    match certificate(pki, signer, request, now) {
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
fn certificate(pki: &Pki, signer: Signer, request: &Value, now: Timestamp) -> Result<String, String> {
    let pem = STANDARD.decode(object::text(request, &["spec", "request"])).map_err(|e| e.to_string())?;
    let csr = Csr::from_pem(&pem).map_err(|e| e.to_string())?;
    let usages: Vec<&str> = object::items(request, &["spec", "usages"]).filter_map(Value::as_str).collect();
    signer.check(&csr, &usages)?;
    let seconds = object::at(request, &["spec", "expirationSeconds"]).and_then(Value::as_u64);
    let signed = pki.sign(&csr, signer, seconds.map(Duration::from_secs), now).map_err(|e| e.to_string())?;
    Ok(STANDARD.encode(signed))
}
