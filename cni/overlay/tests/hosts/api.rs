//! As much of an API server as the overlay uses: Nodes are listed, watched and patched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use client::{Body, Cache, Client, Local};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Value>,
    revision: u64,
    watchers: Vec<UnboundedSender<Bytes>>,
    /// Answers 503 to everything.
    away: bool,
    patches: usize,
}

#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<State>>);

impl Api {
    pub(crate) fn cache(&self) -> Cache {
        let api = self.clone();
        let local: Local = Arc::new(move |request| {
            let api = api.clone();
            Box::pin(async move { api.answer(request).await })
        });
        Cache::new(Client::local(local, "overlay/test"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> Option<Value> {
        self.state().nodes.get(name).cloned()
    }

    pub(crate) fn patches(&self) -> usize {
        self.state().patches
    }

    pub(crate) fn set_away(&self, away: bool) {
        let mut state = self.state();
        state.away = away;
        if away {
            state.watchers.clear();
        }
    }

    /// Creates or replaces a Node.
    pub(crate) fn put(&self, mut node: Value) {
        let mut state = self.state();
        state.revision += 1;
        node["metadata"]["resourceVersion"] = state.revision.to_string().into();
        let name = node["metadata"]["name"].as_str().unwrap().to_owned();
        let kind = if state.nodes.contains_key(&name) { "MODIFIED" } else { "ADDED" };
        state.tell(kind, &node);
        state.nodes.insert(name, node);
    }

    pub(crate) fn delete(&self, name: &str) -> Value {
        let mut state = self.state();
        state.revision += 1;
        let mut node = state.nodes.remove(name).unwrap();
        node["metadata"]["resourceVersion"] = state.revision.to_string().into();
        state.tell("DELETED", &node);
        node
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let query = parts.uri.query().unwrap_or_default();
        if self.state().away {
            return Response::builder().status(503).body(full(json!({ "code": 503 }))).unwrap();
        }
        match parts.method {
            Method::GET if query.contains("watch=true") => Response::new(self.watch(query)),
            Method::GET => {
                let state = self.state();
                let items: Vec<&Value> = state.nodes.values().collect();
                let version = state.revision.to_string();
                Response::new(full(json!({ "metadata": { "resourceVersion": version }, "items": items })))
            }
            Method::PATCH => {
                let patch: Value = serde_json::from_slice(&body).unwrap();
                let name = parts.uri.path().split('/').nth(4).unwrap().to_owned();
                let mut node = self.node(&name).unwrap();
                merge(&mut node, &patch);
                self.state().patches += 1;
                self.put(node.clone());
                Response::new(full(node))
            }
            other => panic!("{other} {}", parts.uri),
        }
    }

    fn watch(&self, query: &str) -> Body {
        let since = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let since: u64 = since.unwrap().parse().unwrap();
        let (sender, receiver) = unbounded_channel();
        let mut state = self.state();
        for node in state.nodes.values() {
            if node["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > since {
                sender.send(line("MODIFIED", node)).unwrap();
            }
        }
        state.watchers.push(sender);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|bytes| (Ok(hyper::body::Frame::data(bytes)), receiver))
        });
        StreamBody::new(stream).boxed_unsync()
    }
}

impl State {
    fn tell(&mut self, kind: &str, node: &Value) {
        self.watchers.retain(|watcher| watcher.send(line(kind, node)).is_ok());
    }
}

fn line(kind: &str, node: &Value) -> Bytes {
    format!("{}\n", json!({ "type": kind, "object": node })).into()
}

fn full(value: Value) -> Body {
    Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync()
}

/// RFC 7396; good enough for the conditions of a status, which are replaced as a whole.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            value => merge(&mut target[key], value),
        }
    }
}
