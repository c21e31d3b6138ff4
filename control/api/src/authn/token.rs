//! Bearer tokens: those of service accounts, which die with what they are bound to, and bootstrap tokens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use pki::{Claims, Reference, Refusal};
use proto_kube::User;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{CREDENTIAL_ID, known_user};
use crate::server::Server;

/// For so long an object that is being deleted still carries its tokens.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// So many tokens are remembered whose signature is known to be right.
const REMEMBERED: usize = 4096;

/// Tokens whose signature has been checked, by their digest.
#[derive(Debug, Default)]
pub struct Checked(Mutex<HashMap<[u8; 32], Claims>>);

impl Checked {
    fn verify(&self, server: &Server, token: &str, now: Timestamp) -> Result<Claims, String> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_now = |c: &&Claims| c.nbf <= now.as_second() && now.as_second() < c.exp;
        if let Some(claims) = known().get(&digest).filter(is_now) {
            return Ok(claims.clone());
        }
        // Nobody waits while a signature is checked: whoever sends made-up tokens pays for them alone.
        let claims = server.pki.verify_token(&server.config.issuer, token, now).map_err(|why| match why {
            Refusal::Foreign => "invalid bearer token".to_owned(),
            why => format!("[invalid bearer token, {why}]"),
        })?;
        let mut known = known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest, claims.clone());
        Ok(claims)
    }

    /// Forgets all: the keys have changed.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Finds whose a token is, and which of `audiences` it is meant for.
///
/// # Errors
/// Why it is not good.
pub fn authenticate(
    server: &Server,
    token: &str,
    audiences: &[&str],
    now: Timestamp,
) -> Result<(User, Vec<String>), String> {
    if let Some((id, secret)) = pki::join::bootstrap_token(token) {
        let object = fetch(server, &format!("/registry/secrets/kube-system/bootstrap-token-{id}"));
        let object: Value = object.and_then(|o| serde_json::from_slice(&o).ok()).unwrap_or(Value::Null);
        let user = bootstrap_user(&object, id, secret, now)?;
        return Ok((user, audiences.iter().map(ToString::to_string).collect()));
    }
    let claims = server.tokens.verify(server, token, now)?;
    let meant: Vec<String> = claims.aud.iter().filter(|a| audiences.contains(&a.as_str())).cloned().collect();
    if meant.is_empty() {
        return Err(format!(
            "token audiences {:?} is invalid for the target audiences {audiences:?}",
            claims.aud
        ));
    }
    check_bound(server, &claims, now)?;
    Ok((service_account(&claims), meant))
}

fn fetch(server: &Server, key: &str) -> Option<bytes::Bytes> {
    server.store.get(key).map(|entry| entry.value.clone())
}

/// What of an object decides over the tokens bound to it.
#[derive(Deserialize)]
struct Head {
    metadata: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    uid: String,
    deletion_timestamp: Option<Timestamp>,
}

/// Whether everything that a token is bound to is still there.
fn check_bound(server: &Server, claims: &Claims, now: Timestamp) -> Result<(), String> {
    let bound = &claims.bound;
    let check = |path: &str, what: &str, reference: &Reference| {
        let key = format!("/registry/{path}/{}", reference.name);
        let head = fetch(server, &key).and_then(|object| serde_json::from_slice::<Head>(&object).ok());
        let Some(Head { metadata }) = head else {
            return Err(format!("{what} has been deleted"));
        };
        if metadata.uid != reference.uid {
            return Err(format!("{what} UID ({}) does not match claim ({})", metadata.uid, reference.uid));
        }
        let ends = metadata.deletion_timestamp.and_then(|t| t.checked_add(GRACE).ok());
        if ends.is_some_and(|ends| ends < now) { Err(format!("{what} has been deleted")) } else { Ok(()) }
    };
    let namespace = &bound.namespace;
    if claims.sub != format!("system:serviceaccount:{namespace}:{}", bound.serviceaccount.name) {
        return Err("the token's subject is not its service account".to_owned());
    }
    check(&format!("serviceaccounts/{namespace}"), "service account", &bound.serviceaccount)?;
    if let Some(pod) = &bound.pod {
        check(&format!("pods/{namespace}"), "pod", pod)?;
    }
    if let Some(secret) = &bound.secret {
        check(&format!("secrets/{namespace}"), "secret", secret)?;
    }
    // With a pod, the node only says where the pod was.
    match &bound.node {
        Some(node) if bound.pod.is_none() => check("minions", "node", node),
        _ => Ok(()),
    }
}

/// The user that a service account's token stands for.
fn service_account(claims: &Claims) -> User {
    const PREFIX: &str = "authentication.kubernetes.io/";
    let bound = &claims.bound;
    let mut extra = vec![(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", claims.jti)])];
    for (kind, reference) in [("pod", &bound.pod), ("node", &bound.node)] {
        let Some(reference) = reference else { continue };
        extra.push((format!("{PREFIX}{kind}-name"), vec![reference.name.clone()]));
        if !reference.uid.is_empty() {
            extra.push((format!("{PREFIX}{kind}-uid"), vec![reference.uid.clone()]));
        }
    }
    if claims.jti.is_empty() {
        extra.remove(0);
    }
    let groups = service_account_groups(&bound.namespace);
    User { uid: bound.serviceaccount.uid.clone(), ..known_user(claims.sub.clone(), groups, extra) }
}

/// The groups that every service account of a namespace is in.
pub(crate) fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// The user that a bootstrap token stands for, by the secret that describes the token.
fn bootstrap_user(secret: &Value, id: &str, shown: &str, now: Timestamp) -> Result<User, String> {
    const GROUP: &str = "system:bootstrappers";
    let data = |key: &str| {
        let text = secret["data"][key].as_str().and_then(|code| STANDARD.decode(code).ok());
        text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default()
    };
    // The digests are compared, so that the time it takes tells nothing of the secret.
    let right = Sha256::digest(data("token-secret")) == Sha256::digest(shown) && data("token-id") == id;
    if !right
        || secret["type"] != "bootstrap.kubernetes.io/token"
        || !secret["metadata"]["deletionTimestamp"].is_null()
        || data("usage-bootstrap-authentication") != "true"
    {
        return Err("the bootstrap token is not known".to_owned());
    }
    let expiration = data("expiration");
    if !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |end| end <= now) {
        return Err("the bootstrap token has expired".to_owned());
    }
    let extra = data("auth-extra-groups");
    let mut groups = vec![GROUP.to_owned()];
    for group in extra.split(',').map(str::trim).filter(|g| !g.is_empty()) {
        if !group.starts_with("system:bootstrappers:") {
            return Err(format!("the bootstrap token's group {group:?} is not one of {GROUP}:"));
        }
        groups.push(group.to_owned());
    }
    Ok(known_user(format!("system:bootstrap:{id}"), groups, []))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bootstrap_tokens_follow_their_secret() {
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let base = json!({
            "type": "bootstrap.kubernetes.io/token", "metadata": {"name": "bootstrap-token-abcdef"},
            "data": {"token-id": STANDARD.encode("abcdef"), "token-secret": STANDARD.encode("0123456789abcdef"),
                "usage-bootstrap-authentication": STANDARD.encode("true")},
        });
        let with = |key: &str, value: &str| {
            let mut secret = base.clone();
            secret["data"][key] = STANDARD.encode(value).into();
            secret
        };
        let groups = |secret: &Value| {
            bootstrap_user(secret, "abcdef", "0123456789abcdef", now).ok().map(|u| (u.name, u.groups))
        };
        let (name, found) = groups(&base).unwrap();
        assert_eq!(name, "system:bootstrap:abcdef");
        assert_eq!(found, ["system:bootstrappers", "system:authenticated"]);
        assert_eq!(groups(&with("auth-extra-groups", "system:bootstrappers:x")).unwrap().1.len(), 3);
        assert!(groups(&with("expiration", "2026-11-22T00:00:00Z")).is_some());
        for bad in [
            with("expiration", "2026-11-20T00:00:00Z"),
            with("expiration", "soon"),
            with("auth-extra-groups", "system:masters"),
            with("token-secret", "0123456789abcdeg"),
            with("token-id", "other1"),
            with("usage-bootstrap-authentication", "false"),
            Value::Null,
        ] {
            assert_eq!(groups(&bad), None, "{bad}");
        }
    }
}
