//! Tokens by which nodes join: those whose time is over go, and the others sign what a node must know that joins.

mod clean;
mod sign;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use proto_kube::object;
use serde_json::Value;

use crate::Controller;

/// Those who look after them.
pub(crate) fn all() -> Vec<Box<dyn Controller>> {
    vec![Box::new(clean::Cleaner), Box::new(sign::Signer)]
}

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "bootstrap-token-";

fn is_token(secret: &Value) -> bool {
    secret["type"] == TYPE && object::namespace(secret) == NAMESPACE
}

/// A part of a token.
fn data(secret: &Value, key: &str) -> String {
    let bytes = STANDARD.decode(object::text(secret, &["data", key])).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// When a token ends: never, or at a time. One that is no time is over.
fn end(secret: &Value) -> Option<Timestamp> {
    let text = data(secret, "expiration");
    (!text.is_empty()).then(|| text.parse().unwrap_or(Timestamp::MIN))
}

/// The tokens among secrets that may sign, by their identifiers: identifier and secret.
fn signing(secrets: &[Arc<Value>], now: Timestamp) -> impl Iterator<Item = (String, String)> {
    let valid = move |secret: &&Arc<Value>| {
        is_token(secret)
            && !object::is_terminating(secret)
            && end(secret).is_none_or(|end| end > now)
            && data(secret, "usage-bootstrap-signing") == "true"
    };
    secrets.iter().filter(valid).filter_map(|token| {
        let (id, secret) = (data(token, "token-id"), data(token, "token-secret"));
        let named = object::name(token).strip_prefix(PREFIX) == Some(id.as_str());
        (named && !id.is_empty() && !secret.is_empty()).then_some((id, secret))
    })
}

#[cfg(test)]
mod tests;
