//! Tokens of pods' service accounts. Each is asked for anew when four fifths of its time are over, or after a day;
//! while that fails the old one serves.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use agent_core::time::{later, seconds_later};
use agent_core::volume::{self, TokenRequest};
use agent_core::{pod, time};
use bytes::Bytes;
use client::{Cache, Client, ClientError};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use proto_kube::object;
use serde_json::json;

use crate::clock::Clock;

/// A token is not used longer, in seconds.
const AGE_MAX: i64 = 24 * 3600;
/// When another is tried for after the server refused, in seconds.
const AGAIN: i64 = 10;
/// The pods of a node do not ask all at once: each this much earlier at most, in seconds.
const SPREAD: u64 = 10;

struct Token {
    token: String,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

/// The tokens.
pub(crate) struct Tokens {
    client: Option<Client>,
    clock: Clock,
    kept: Mutex<HashMap<(String, TokenRequest), Token>>,
}

impl Tokens {
    /// Tokens of a cluster; without one there are none.
    pub(crate) fn new(cache: Option<&Cache>, clock: Clock) -> Self {
        Self { client: cache.map(|c| c.client().clone()), clock, kept: Mutex::default() }
    }

    /// All tokens that a pod's volumes have, and when they are to be looked at again.
    pub(crate) async fn of(&self, pod: &Pod, uid: &str) -> (volume::Tokens, Option<Timestamp>) {
        let (mut all, mut due) = (volume::Tokens::new(), None);
        for request in volume::tokens(pod) {
            let (token, at) = self.one(pod, uid, &request).await;
            due = [due, Some(at)].into_iter().flatten().min();
            all.insert(request, token);
        }
        (all, due)
    }

    /// Forgets the tokens of a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| of != uid);
    }

    async fn one(&self, pod: &Pod, uid: &str, request: &TokenRequest) -> (Result<String, String>, Timestamp) {
        let key = (uid.to_owned(), request.clone());
        let now = self.clock.now();
        let known = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .map(|known| (known.token.clone(), known.renew_at, known.expires_at));
        if let Some((token, renew_at, _)) = &known
            && now < *renew_at
        {
            return (Ok(token.clone()), *renew_at);
        }
        let again = seconds_later(now, AGAIN);
        match (self.ask(pod, uid, request).await, known) {
            (Ok(new), _) => {
                let answer = (Ok(new.token.clone()), new.renew_at);
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, new);
                answer
            }
            (Err(why), Some((token, _, expires_at))) if now < expires_at => {
                tracing::warn!(pod.uid = %uid, "a service account token cannot be renewed: {why}");
                (Ok(token), again)
            }
            (Err(why), _) => (Err(format!("failed to fetch token: {why}")), again),
        }
    }

    async fn ask(&self, pod: &Pod, uid: &str, request: &TokenRequest) -> Result<Token, String> {
        let client = self.client.as_ref().ok_or("this node has no API server")?;
        let audiences: Vec<&str> =
            Some(request.audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod::name(pod), "uid": uid});
        let spec =
            json!({"audiences": audiences, "expirationSeconds": request.seconds, "boundObjectRef": bound});
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let (namespace, account) = (pod::namespace(pod), pod::service_account(pod));
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body = Some(("application/json", Bytes::from(body.to_string())));
        let answer = client.call(http::Method::POST, &path, body).await.map_err(|e| text(&e))?;
        let token = object::text(&answer, &["status", "token"]).to_owned();
        let expires_at = object::text(&answer, &["status", "expirationTimestamp"]);
        let expires_at: Timestamp =
            expires_at.parse().map_err(|_| "the token does not say how long it is valid")?;
        // The server may give less, or a little more, time than was asked for.
        let seconds = answer["spec"]["expirationSeconds"].as_i64().unwrap_or(request.seconds);
        let issued_at = later(expires_at, SignedDuration::from_secs(-seconds));
        Ok(Token { token, renew_at: renew_at(issued_at, seconds, spread(uid)), expires_at })
    }
}

/// When a token is renewed that was given so many seconds.
fn renew_at(issued_at: Timestamp, seconds: i64, spread: i64) -> Timestamp {
    time::seconds_later(issued_at, (seconds - seconds / 5).min(AGE_MAX) - spread)
}

/// How much earlier a pod asks than it has to, in seconds.
fn spread(uid: &str) -> i64 {
    let sum = uid.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    i64::try_from(sum % (SPREAD + 1)).unwrap_or(0)
}

fn text(error: &ClientError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal() {
        let at = |seconds, spread| renew_at(Timestamp::UNIX_EPOCH, seconds, spread).as_second();
        assert_eq!(at(3600, 0), 2880);
        assert_eq!(at(600, 10), 470);
        assert_eq!(at(31_536_000, 0), 86_400, "never longer than a day");
        assert!((0..=10).contains(&spread("a-uid")));
    }
}
