//! The agent's HTTP API on its Unix socket: the kubelet's paths, readable with `curl --unix-socket`.
//!
//! `/healthz` · `/pods` (PodList) · `/api/v1/events` (EventList) ·
//! `/containerLogs/{namespace}/{pod}[/{uid}]/{container}` with `follow`, `previous`, `timestamps`, `tailLines`,
//! `sinceSeconds`, `sinceTime`, `limitBytes`

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::effect::Effects;
use crate::logs;
use crate::sync::View;

/// The body of a reply.
pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// What requests are answered from.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) effects: Arc<Effects>,
    pub(crate) view: watch::Receiver<Arc<View>>,
}

impl Server {
    /// Answers until told to stop.
    pub(crate) async fn run(self, listener: UnixListener, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let server = self.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                // A client that hangs up is no concern of ours.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "only GET is answered here");
        }
        let path = request.uri().path().trim_end_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["healthz"] => text(StatusCode::OK, "ok"),
            ["pods"] => {
                let view = self.view.borrow().clone();
                if view.ready {
                    return json_reply(StatusCode::OK, &view.list());
                }
                let text = "the agent is waiting for the CRI server; try again in a moment";
                failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text)
            }
            ["api", "v1", "events"] => json_reply(StatusCode::OK, &self.effects.events.list()),
            ["containerLogs", namespace, pod, container]
            | ["containerLogs", namespace, pod, _, container] => {
                let query = request.uri().query().unwrap_or_default();
                match logs::read(self, namespace, pod, container, query).await {
                    Ok(body) => Response::new(body),
                    Err((status, message)) => {
                        failure(status, status.canonical_reason().unwrap_or(""), &message)
                    }
                }
            }
            _ => failure(StatusCode::NOT_FOUND, "NotFound", &format!("there is no {path:?} here")),
        }
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
}

fn json_reply(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// A `Status` object, as the API answers failures.
fn failure(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let reason = reason.replace(' ', "");
    let value = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16()});
    json_reply(status, &value)
}
