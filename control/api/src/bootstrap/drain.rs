//! The end of a namespace: everything in it is deleted, and when nothing is left the namespace may go. The deletions are
//! requests like any client's, so that finalizers and grace periods hold.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Method;
use proto_kube::resource::{self, Resource, VERBS};
use proto_kube::{User, object};
use serde_json::{Value, json};
use store::Range;

use crate::authn::{AUTHENTICATED, token::service_account_groups};
use crate::info::RequestInfo;
use crate::query::Query;
use crate::reply;
use crate::rest;
use crate::server::{Context, Server};

/// As whom the deletions are made.
const ACCOUNT: &str = "system:serviceaccount:kube-system:namespace-controller";
/// How long until a namespace is looked at again in which something waits for its finalizers or its grace period: at
/// first, and at most.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(5);

/// The namespaces that are being emptied, by their identifiers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drain(Arc<Mutex<HashSet<String>>>);

impl Drain {
    /// Empties a namespace that is on its way out, unless that is under way already.
    pub(crate) fn start(&self, server: &Arc<Server>, namespace: &Value) {
        let (uid, name) = (object::uid(namespace).to_owned(), object::name(namespace).to_owned());
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone()) {
            return;
        }
        let (server, under_way) = (server.clone(), self.0.clone());
        tokio::spawn(async move {
            let ends = server.ends.clone();
            tokio::select! {
                () = ends.cancelled() => {}
                () = empty(&server, &name, &uid) => {}
            }
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        });
    }
}

async fn empty(server: &Arc<Server>, name: &str, uid: &str) {
    let mut pause = SOON;
    // A namespace of the same name may be made as soon as this one is gone.
    while current(server, name).is_some_and(|n| object::uid(&n) == uid) {
        for resource in resources() {
            if !is_empty(server, resource, name) {
                let path = format!("{}/namespaces/{name}/{}", root(resource), resource.plural);
                send(server, Method::DELETE, path, Value::Null).await;
            }
        }
        if resources().all(|resource| is_empty(server, resource, name)) {
            release(server, name).await;
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATER);
    }
}

/// Takes our finalizer from a namespace; what others have to do first is theirs.
async fn release(server: &Arc<Server>, name: &str) {
    let Some(mut namespace) = current(server, name) else { return };
    let others: Vec<Value> =
        object::items(&namespace, &["spec", "finalizers"]).filter(|f| *f != "kubernetes").cloned().collect();
    namespace["spec"]["finalizers"] = json!(others);
    send(server, Method::PUT, format!("/api/v1/namespaces/{name}/finalize"), namespace).await;
}

fn current(server: &Server, name: &str) -> Option<Value> {
    let entry = server.store.get(&format!("/registry/namespaces/{name}"))?;
    serde_json::from_slice(&entry.value).ok()
}

/// What a namespace can hold, each kind once.
fn resources() -> impl Iterator<Item = &'static Resource> {
    resource::all().iter().filter(|r| {
        r.namespaced
            && r.verbs() == VERBS
            && resource::all().iter().find(|o| o.prefix() == r.prefix()) == Some(r)
    })
}

fn is_empty(server: &Server, resource: &Resource, namespace: &str) -> bool {
    let Some(prefix) = resource.prefix() else { return true };
    let range = Range { limit: Some(1), ..Range::default() };
    server.store.range(&format!("{prefix}{namespace}/"), range).is_ok_and(|page| page.entries.is_empty())
}

fn root(resource: &Resource) -> String {
    match resource.group {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    }
}

/// Sends a request to ourselves. The future is boxed: what lies below is too deep for the compiler to see through.
fn send(server: &Arc<Server>, method: Method, path: String, body: Value) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let query = Query::default();
        let mut groups = service_account_groups("kube-system");
        groups.push(AUTHENTICATED.to_owned());
        let context = Context {
            user: User { name: ACCOUNT.to_owned(), groups, ..User::default() },
            info: RequestInfo::new(method.as_str(), &path, &query),
            query,
            user_agent: "namespace-controller".to_owned(),
            now: server.now(),
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = http::Request::new(reply::full(body));
        *request.method_mut() = method;
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        let json = http::HeaderValue::from_static("application/json");
        request.headers_mut().insert(http::header::CONTENT_TYPE, json);
        let code = rest::handle(server, context, request).await.status();
        if !code.is_success() && code != http::StatusCode::NOT_FOUND && code != http::StatusCode::CONFLICT {
            tracing::warn!(path, %code, "emptying a namespace");
        }
    })
}
