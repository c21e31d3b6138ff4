//! As much of an API server as a watch cache uses, in this process: objects are listed, watched and patched. It does as
//! it is told, and fails when it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use client::{Body, Cache, Client, Local};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use proto_kube::{Resource, object, resource};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// The objects of a cluster. Clones are the same cluster.
#[derive(Clone, Default)]
pub struct Objects(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By the resource's path, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    revision: u64,
    /// By the resource's path.
    watchers: Vec<(String, UnboundedSender<Bytes>)>,
    /// The revision of the last deletion: who resumes a watch from before it would never hear of it.
    deleted: u64,
    away: bool,
    patches: usize,
}

impl Objects {
    /// A cache of these objects.
    #[must_use]
    pub fn cache(&self) -> Cache {
        let objects = self.clone();
        let local: Local = Arc::new(move |request| {
            let objects = objects.clone();
            Box::pin(async move { objects.answer(request).await })
        });
        Cache::new(Client::local(local, "lab/objects"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object; an empty namespace for those without.
    #[must_use]
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Value> {
        self.state().objects.get(&(resource.path("", ""), namespace.into(), name.into())).cloned()
    }

    /// How many patches it has taken.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.state().patches
    }

    /// Answers 503 to everything, and ends all watches, or no more.
    pub fn set_away(&self, away: bool) {
        let mut state = self.state();
        state.away = away;
        if away {
            state.watchers.clear();
        }
    }

    /// Creates or replaces an object.
    pub fn put(&self, resource: &Resource, mut object: Value) {
        let mut state = self.state();
        let version = state.next();
        object::metadata(&mut object).insert("resourceVersion".into(), version.into());
        let key = key(resource, &object);
        let kind = if state.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        state.tell(&key.0, kind, &object);
        state.objects.insert(key, object);
    }

    /// Deletes an object, and gives it.
    pub fn delete(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Value> {
        let mut state = self.state();
        let mut object = state.objects.remove(&(resource.path("", ""), namespace.into(), name.into()))?;
        let version = state.next();
        state.deleted = state.revision;
        object::metadata(&mut object).insert("resourceVersion".into(), version.into());
        state.tell(&resource.path("", ""), "DELETED", &object);
        Some(object)
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        if self.state().away {
            return refuse(503);
        }
        match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&path, query),
            Method::GET => {
                let state = self.state();
                let of = |(key, object)| (key_path(key) == path).then_some(object);
                let items: Vec<&Value> = state.objects.iter().filter_map(of).collect();
                let version = state.revision.to_string();
                Response::new(full(&json!({ "metadata": { "resourceVersion": version }, "items": items })))
            }
            Method::PATCH => {
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let patch: Value = serde_json::from_slice(&body).unwrap_or_default();
                self.patch(&path, &patch)
            }
            _ => refuse(405),
        }
    }

    fn patch(&self, path: &str, patch: &Value) -> Response<Body> {
        let path = path.strip_suffix("/status").unwrap_or(path);
        let found = {
            let mut state = self.state();
            state.patches += 1;
            let named = |(key, _): &(&(String, String, String), &Value)| {
                resource::all().iter().any(|r| r.path("", "") == key.0 && r.path(&key.1, &key.2) == path)
            };
            state.objects.iter().find(named).map(|(key, object)| (key.0.clone(), object.clone()))
        };
        let Some((of, mut object)) = found else { return refuse(404) };
        merge(&mut object, patch);
        if let Some(resource) = resource::all().iter().find(|r| r.path("", "") == of) {
            self.put(resource, object.clone());
        }
        Response::new(full(&object))
    }

    fn watch(&self, path: &str, query: &str) -> Response<Body> {
        let since = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let since: u64 = since.and_then(|since| since.parse().ok()).unwrap_or(0);
        let (sender, receiver) = unbounded_channel();
        let mut state = self.state();
        if since < state.deleted {
            return refuse(410);
        }
        for (key, object) in &state.objects {
            let version = object::text(object, &["metadata", "resourceVersion"]).parse::<u64>().unwrap_or(0);
            if key_path(key) == path && version > since {
                let _ = sender.send(line("MODIFIED", object));
            }
        }
        state.watchers.push((path.to_owned(), sender));
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|bytes| (Ok(hyper::body::Frame::data(bytes)), receiver))
        });
        Response::new(StreamBody::new(stream).boxed_unsync())
    }
}

impl State {
    fn next(&mut self) -> String {
        self.revision += 1;
        self.revision.to_string()
    }

    fn tell(&mut self, path: &str, kind: &str, object: &Value) {
        self.watchers.retain(|(of, watcher)| of != path || watcher.send(line(kind, object)).is_ok());
    }
}

fn key(resource: &Resource, object: &Value) -> (String, String, String) {
    (resource.path("", ""), object::namespace(object).to_owned(), object::name(object).to_owned())
}

fn key_path(key: &(String, String, String)) -> &str {
    &key.0
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({ "type": kind, "object": object })).into()
}

fn full(value: &Value) -> Body {
    Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync()
}

fn refuse(code: u16) -> Response<Body> {
    let mut response = Response::new(full(&json!({ "kind": "Status", "code": code })));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match (value, target.as_object_mut()) {
            (Value::Null, Some(target)) => drop(target.remove(key)),
            _ => merge(&mut target[key], value),
        }
    }
}

#[cfg(test)]
mod tests;
