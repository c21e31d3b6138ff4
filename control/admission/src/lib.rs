//! The admission chain: what the cluster's own rules add to a write, and which writes they refuse. One file a plug-in,
//! in upstream's order. Webhooks and ValidatingAdmissionPolicies are data only: nothing here runs them.
#![forbid(unsafe_code)]

mod request;

pub use request::{Charge, Effects, Operation, Request};

use jiff::Timestamp;
use proto_kube::status::Result;
use proto_kube::view::View;
use serde_json::Value;

/// Lets each plug-in change the object on its way in. `object` is the new object after defaulting, or the body of a
/// subresource (`Binding`, `TokenRequest`); null for a deletion. Runs before validation of the kind.
///
/// # Errors
/// The refusal that answers the request.
pub fn admit(request: &Request<'_>, object: &mut Value, view: &dyn View, now: Timestamp) -> Result<Effects> {
    let _ = (request, object, view, now);
    Ok(Effects::default())
}

/// Lets each plug-in judge the object as it would be stored, after validation of the kind. What the effects demand is
/// to be written in the transaction of the object itself; when a charge conflicts, ask again.
///
/// # Errors
/// The refusal that answers the request.
pub fn validate(request: &Request<'_>, object: &Value, view: &dyn View, now: Timestamp) -> Result<Effects> {
    let _ = (request, object, view, now);
    Ok(Effects::default())
}
