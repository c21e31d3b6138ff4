//! What only the server knows of a certificate signing request: who asks, and when somebody judged it.

use kinds::certificates;
use serde_json::Value;

use super::call::Call;

/// Writes into a request that is made who asks, and into one that changes when its conditions did.
pub(crate) fn sign(call: &Call<'_>, object: &mut Value, old: Option<&Value>) {
    if call.stored.kind != "CertificateSigningRequest" {
        return;
    }
    match old {
        None => certificates::request_as(object, &call.ctx.user),
        Some(old) => certificates::stamp(object, old, call.ctx.now),
    }
}
