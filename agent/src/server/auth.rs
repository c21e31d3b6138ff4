//! Who asks, and whether he may: by certificate or by token, and as the API server says.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::{Client, Query};
use http::{HeaderMap, Method, StatusCode};
use proto_kube::{User, object};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::reply::Refused;
use crate::config::known;

/// How long an answer of the API server is good; upstream's figures.
const TOKEN_LIFE: Duration = Duration::from_secs(120);
const ALLOWED_LIFE: Duration = Duration::from_secs(300);
const DENIED_LIFE: Duration = Duration::from_secs(30);
/// How many answers are kept of each kind.
const KEPT: usize = 4096;

/// Who decides what may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// The API server is asked (`SubjectAccessReview`).
    Webhook,
    /// Whoever is known may do everything.
    AlwaysAllow,
}

impl Authorization {
    /// As a `KubeletConfiguration` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "Webhook",
            Self::AlwaysAllow => "AlwaysAllow",
        }
    }
}

/// The verb of a request, as RBAC calls it.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources of `nodes` of which one must be allowed for a path: what it is about, and where there was a time
/// without that word, `proxy`.
fn subresources(path: &str) -> Vec<&'static str> {
    let below =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let own = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    if let Some((_, own)) = own.iter().find(|(root, _)| below(root)) {
        return vec![own];
    }
    let finer =
        [("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods")];
    finer.iter().find(|(root, _)| below(root)).map(|(_, own)| *own).into_iter().chain(["proxy"]).collect()
}

/// Answers of the API server, each good for a while.
struct Kept<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(_, until)| Instant::now() < *until).map(|(value, _)| value.clone())
    }

    fn put(&self, key: K, value: V, life: Duration) {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, (_, until)| now < *until);
        }
        if kept.len() >= KEPT {
            // Who asks in so many ways waits for the API server.
            kept.clear();
        }
        kept.insert(key, (value, now + life));
    }
}

/// The door's keeper.
pub(super) struct Auth {
    client: Option<Client>,
    node: String,
    tokens: Kept<[u8; 32], Option<User>>,
    allowed: Kept<(User, &'static str, &'static str), bool>,
}

impl Auth {
    pub(super) fn new(client: Option<Client>, node: &str) -> Self {
        Self { client, node: node.to_owned(), tokens: Kept::new(), allowed: Kept::new() }
    }

    /// The user of a bearer token; `None` when it is nobody's.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub(super) async fn bearer(&self, headers: &HeaderMap) -> Result<Option<User>, Refused> {
        let header =
            headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let Some((scheme, token)) = header.trim().split_once(' ') else { return Ok(None) };
        let (token, Some(client)) = (token.trim(), &self.client) else { return Ok(None) };
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Ok(None);
        }
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.tokens.get(&key) {
            return Ok(known);
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
        });
        let resource = known("authentication.k8s.io", "v1", "tokenreviews");
        let answered = client.create(resource, "", &review, Query::default()).await.map_err(|error| {
            tracing::warn!(%error, "a token cannot be reviewed");
            unauthorized()
        })?;
        let user =
            object::flag(&answered, &["status", "authenticated"]).then(|| user(&answered["status"]["user"]));
        self.tokens.put(key, user.clone(), TOKEN_LIFE);
        Ok(user)
    }

    /// Lets a request pass.
    ///
    /// # Errors
    /// 403 in upstream's words; 500 when the API server cannot be asked.
    pub(super) async fn authorize(&self, user: &User, method: &Method, path: &str) -> Result<(), Refused> {
        let (verb, subresources) = (verb(method), subresources(path));
        for subresource in &subresources {
            if self.may(user, verb, subresource).await? {
                return Ok(());
            }
        }
        let why = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        Err(Refused::new(StatusCode::FORBIDDEN, why))
    }

    async fn may(&self, user: &User, verb: &'static str, subresource: &'static str) -> Result<bool, Refused> {
        let key = (user.clone(), verb, subresource);
        if let Some(allowed) = self.allowed.get(&key) {
            return Ok(allowed);
        }
        let failed = |why: String| {
            tracing::warn!(why, "who may do what cannot be asked");
            let user = &user.name;
            Refused::internal(format!(
                "Authorization error (user={user}, verb={verb}, resource=nodes, subresource={subresource})"
            ))
        };
        let client = self.client.as_ref().ok_or_else(|| failed("there is no API server".to_owned()))?;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "resourceAttributes": {"verb": verb, "version": "v1", "resource": "nodes",
                    "subresource": subresource, "name": self.node},
                "user": user.name, "groups": user.groups, "uid": user.uid, "extra": user.extra,
            },
        });
        let resource = known("authorization.k8s.io", "v1", "subjectaccessreviews");
        let answered = client.create(resource, "", &review, Query::default()).await;
        let answered = answered.map_err(|error| failed(error.to_string()))?;
        let allowed = object::flag(&answered, &["status", "allowed"]);
        self.allowed.put(key, allowed, if allowed { ALLOWED_LIFE } else { DENIED_LIFE });
        Ok(allowed)
    }
}

pub(super) fn unauthorized() -> Refused {
    Refused::new(StatusCode::UNAUTHORIZED, "Unauthorized")
}

/// A user of a `TokenReview`'s answer.
fn user(value: &Value) -> User {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let extra = value["extra"].as_object().into_iter().flatten();
    User {
        name: object::text(value, &["username"]).to_owned(),
        uid: object::text(value, &["uid"]).to_owned(),
        groups: texts(&value["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_is_to_rbac() {
        for (path, expected) in [
            ("/stats/summary", "stats"),
            ("/metrics/cadvisor", "metrics"),
            ("/metricsx", "proxy"),
            ("/logs/", "log"),
            ("/checkpoint/a/b/c", "checkpoint"),
            ("/pods", "pods proxy"),
            ("/pods/", "pods proxy"),
            ("/runningpods/", "pods proxy"),
            ("/healthz/syncloop", "healthz proxy"),
            ("/configz", "configz proxy"),
            ("/flagz", "configz"),
            ("/exec/a/b/c", "proxy"),
            ("/containerLogs/a/b/c", "proxy"),
        ] {
            assert_eq!(subresources(path).join(" "), expected, "{path}");
        }
        assert_eq!(verb(&Method::HEAD), "");
        assert_eq!(verb(&Method::POST), "create");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_good_for_a_while_and_bounded() {
        let kept = Kept::new();
        kept.put(1, "a", DENIED_LIFE);
        assert_eq!(kept.get(&1), Some("a"));
        tokio::time::advance(DENIED_LIFE).await;
        assert_eq!(kept.get(&1), None);
        for number in 0..3 * KEPT {
            kept.put(number, "b", ALLOWED_LIFE);
        }
        assert!(kept.0.lock().unwrap().len() <= KEPT);
        assert_eq!(kept.get(&(3 * KEPT - 1)), Some("b"));
    }
}
