//! The way of every request: who asks, may he, is it his turn; then the answer, the figures and the audit log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Method;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use proto_kube::{Status, User};

use crate::audit;
use crate::authn::{self, Peer, impersonate};
use crate::authorize::{attributes, selector};
use crate::cached;
use crate::info::RequestInfo;
use crate::metrics::InFlight;
use crate::query::Query;
use crate::random;
use crate::relay;
use crate::reply::{self, Body, Request, Response};
use crate::rest;
use crate::route;
use crate::server::{Context, Server};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A request as it is being understood.
struct Asked {
    info: RequestInfo,
    query: Query,
    user_agent: String,
    now: Timestamp,
    /// Who sent it, once that is known.
    user: Option<User>,
    /// As whom, if as somebody else.
    impersonated: Option<User>,
    /// Why it may pass, if it may.
    allowed: Option<String>,
    /// Why it may not, if it may not.
    refused: Option<String>,
}

/// Answers a request of a peer. The future is boxed: what lies below is too deep for the compiler to see through.
pub fn answer(server: Arc<Server>, peer: Arc<Peer>, request: Request) -> BoxFuture<'static, Response> {
    Box::pin(respond(server, peer, request))
}

/// The server as a part of this process reaches it, as the user `name` in `groups`: with every check but those of the
/// connection.
#[must_use]
pub fn local(server: &Arc<Server>, name: &str, groups: &[&str]) -> client::Local {
    let (server, peer) = (server.clone(), Arc::new(Peer::inside(name, groups)));
    Arc::new(move |request| {
        let request = request.map(|body| body.map_err(|never| match never {}).boxed_unsync());
        answer(server.clone(), peer.clone(), request)
    })
}

async fn respond(server: Arc<Server>, peer: Arc<Peer>, request: Request) -> Response {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(relay::Client(peer.address));
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::new(parts.method.as_str(), parts.uri.path(), &query);
    let text = |name: HeaderName| {
        parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let id = Some(text(AUDIT_ID)).filter(|id| !id.is_empty() && id.len() <= 64).unwrap_or_else(random::uid);
    let uri =
        server.audit.as_ref().map(|_| parts.uri.path_and_query().map_or(String::new(), ToString::to_string));
    let small = cached::accepts_gzip(&parts.headers);
    let headless = parts.method == Method::HEAD;
    let under_way = server.metrics.begin(&info);
    let mut asked = Asked {
        info,
        query,
        user_agent: text(USER_AGENT),
        now: server.now(),
        user: None,
        impersonated: None,
        allowed: None,
        refused: None,
    };
    let mut response = match admit(&server, &peer, &parts, &mut asked) {
        Ok(user) => serve(&server, user, &asked, parts, body).await,
        Err(status) => reply::status(&status),
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(AUDIT_ID, id);
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    let code = response.status().as_u16();
    server.metrics.end(&asked.info, code, began.elapsed());
    if let Some(uri) = uri {
        write_down(&server, &peer, &asked, &id, &uri, code);
    }
    tracing::debug!(
        verb = asked.info.verb,
        path = asked.info.path,
        code,
        user = asked.user.as_ref().map_or("", |u| u.name.as_str()),
        took = ?began.elapsed(),
    );
    match asked.info.is_long_running() {
        _ if headless => head(response),
        true => hold(response, under_way),
        false if small => cached::shrink(response).await,
        false => response,
    }
}

/// Finds out who asks and whether he may; the answer is the user to act as.
fn admit(server: &Server, peer: &Peer, parts: &Parts, asked: &mut Asked) -> Result<User, Status> {
    let sender = authn::authenticate(server, peer, &parts.headers, asked.now)?;
    asked.user = Some(sender.clone());
    if sender.is_anonymous() && !route::is_public(&asked.info.path) {
        return Err(Status::unauthorized());
    }
    let refuse = |asked: &mut Asked, status: Status| {
        asked.refused = Some(status.message.clone());
        status
    };
    let user = match impersonate::wanted(&parts.headers)? {
        None => sender,
        Some(wanted) => {
            for question in impersonate::questions(&wanted) {
                let allowed = server.authority.authorize(&server.store, &sender, &question);
                allowed.map_err(|status| refuse(asked, status))?;
            }
            let user = impersonate::complete(wanted);
            asked.impersonated = Some(user.clone());
            user
        }
    };
    let fields = selector(&asked.info, &asked.query);
    let allowed = server.authority.permit(&server.store, &user, &attributes(&asked.info, fields.as_ref()));
    asked.allowed = Some(allowed.map_err(|status| refuse(asked, status))?);
    Ok(user)
}

/// Lets an admitted request have its turn, and answers it in time.
async fn serve(server: &Arc<Server>, user: User, asked: &Asked, parts: Parts, body: Body) -> Response {
    if asked.info.target.is_none() {
        return route::answer(server, &user, &asked.info, &asked.query, &parts.headers).await;
    }
    if let Some(target) = asked.info.target.as_ref().filter(|target| !target.is_served()) {
        return route::not_served(asked.info.verb, target);
    }
    let limit = match time_limit(&asked.query, server.config.request_timeout) {
        Ok(limit) => limit,
        Err(status) => return reply::status(&status),
    };
    let work = AssertUnwindSafe(run(server, user, asked, parts, body, limit)).catch_unwind();
    let result = if asked.info.is_long_running() {
        work.await
    } else {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => {
                let status = Status::timeout("request did not complete within the allotted timeout");
                return reply::status(&status);
            }
        }
    };
    result.unwrap_or_else(|_| {
        server.metrics.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(path = asked.info.path, verb = asked.info.verb, "a handler has panicked");
        reply::status(&Status::internal(
            "This request caused apiserver to panic. Look in the logs for details.",
        ))
    })
}

async fn run(
    server: &Arc<Server>,
    user: User,
    asked: &Asked,
    parts: Parts,
    body: Body,
    limit: Duration,
) -> Response {
    let context = Context {
        user,
        info: asked.info.clone(),
        query: asked.query.clone(),
        user_agent: asked.user_agent.clone(),
        now: asked.now,
    };
    if asked.info.is_long_running() {
        return rest::handle(server, context, Request::from_parts(parts, body)).await;
    }
    // The body is here before a seat is taken: a client that sends slowly keeps nobody waiting but itself. What is here
    // is counted until the answer.
    let mut share = server.config.bodies.share(&context.user.name);
    let body = match reply::read_within(body, server.config.body_limit, &mut share).await {
        Ok(body) => body,
        Err(status) => {
            let turned_away = u64::from(status.code == 429);
            server.metrics.turned_away.fetch_add(turned_away, Ordering::Relaxed);
            return reply::status(&status);
        }
    };
    let client = context.user.name.as_str().into();
    let namespace = asked.info.target.as_ref().map_or("", |t| t.namespace.as_str());
    let flow = format!("{} {namespace}", asked.user_agent).into();
    let Some(_seat) = server.gate.enter(&client, &flow, limit / 4).await else {
        server.metrics.turned_away.fetch_add(1, Ordering::Relaxed);
        let status = Status::too_many_requests("Too many requests, please try again later.", 1);
        return reply::status(&status);
    };
    rest::handle(server, context, Request::from_parts(parts, reply::full(body))).await
}

/// How long a request may take: what it asks for, and no longer than the server allows.
fn time_limit(query: &Query, most: Duration) -> Result<Duration, Status> {
    match query.text("timeout") {
        "" => Ok(most),
        text => {
            let limit = duration(text).ok_or_else(|| {
                let why =
                    format!("invalid timeout specified in the request URL - time: invalid duration {text:?}");
                Status::bad_request(why)
            })?;
            Ok(if limit.is_zero() { most } else { limit.min(most) })
        }
    }
}

/// A duration as Go writes it, such as `1m30s` or `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

fn write_down(server: &Server, peer: &Peer, asked: &Asked, id: &str, uri: &str, code: u16) {
    let Some(log) = &server.audit else { return };
    let nobody = User::default();
    let event = audit::Event {
        id,
        uri,
        info: &asked.info,
        user: asked.user.as_ref().unwrap_or(&nobody),
        impersonated: asked.impersonated.as_ref(),
        address: peer.address.ip(),
        user_agent: &asked.user_agent,
        code,
        decision: match (&asked.refused, &asked.allowed) {
            (Some(why), _) => Some(("forbid", why)),
            (None, Some(why)) => Some(("allow", why)),
            (None, None) => None,
        },
        received: asked.now,
        answered: server.now(),
    };
    if let Err(error) = log.write(&event) {
        server.metrics.audit_errors.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "an audit event is lost");
    }
}

/// The answer to HEAD: what GET would be answered, without the body. HTTP/2 takes one for a breach of the protocol.
fn head(response: Response) -> Response {
    use hyper::body::Body as _;
    let length = response.body().size_hint().exact();
    let mut response = response.map(|_| reply::full(Bytes::new()));
    if let Some(length) = length {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    response
}

/// Counts a request as under way until its body has ended.
fn hold(response: Response, under_way: InFlight) -> Response {
    use http_body_util::BodyExt as _;
    response.map(|body| {
        body.map_frame(move |frame| {
            let _counted = &under_way;
            frame
        })
        .boxed_unsync()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("32s", Some(32_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5h", Some(5_400_000)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5x", None),
            ("-5s", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
        let limit = |query: &str| time_limit(&Query::parse(query), Duration::from_secs(60));
        assert_eq!(limit("timeout=5s"), Ok(Duration::from_secs(5)));
        assert_eq!(limit("timeout=5m"), Ok(Duration::from_secs(60)));
        assert_eq!(limit("timeout=x").unwrap_err().code, 400);
    }
}
