//! Requests for certificates: which are granted without asking anybody, the signing of those that are granted, and the
//! end of old ones.

mod approve;
mod clean;
mod sign;

use proto_kube::object;
use serde_json::Value;

use crate::Controller;

/// Those who look after them.
pub(crate) fn all() -> Vec<Box<dyn Controller>> {
    vec![Box::new(approve::Approver::default()), Box::new(sign::Signer), Box::new(clean::Cleaner)]
}

fn condition<'a>(request: &'a Value, kind: &str) -> Option<&'a Value> {
    object::items(request, &["status", "conditions"]).find(|c| c["type"] == kind)
}

fn is_issued(request: &Value) -> bool {
    !object::text(request, &["status", "certificate"]).is_empty()
}

/// Whether a request has been decided.
fn is_decided(request: &Value) -> bool {
    ["Approved", "Denied", "Failed"].iter().any(|kind| condition(request, kind).is_some())
}

#[cfg(test)]
mod tests;
