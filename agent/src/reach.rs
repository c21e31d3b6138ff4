//! Reaching into a container from outside, for probes and hooks: commands, HTTP, TCP, gRPC health.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container as Spec, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proto_cri::ExecSyncRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::cri::{Cri, within};
use crate::tls;

/// How much of a body or of a command's output is looked at, in bytes.
const OUTPUT_BYTES_MAX: usize = 10 * 1024;
const REDIRECTS_MAX: usize = 10;

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// All is well.
    Yes,
    /// It is, and something is odd.
    Odd,
    /// It is not.
    No,
    /// The attempt itself has failed: it tells nothing of the container.
    Nothing,
}

/// What an attempt came to, and what it said, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) told: Told,
    pub(crate) text: String,
}

impl Answer {
    fn new(told: Told, text: impl Into<String>) -> Self {
        Self { told, text: text.into() }
    }

    pub(crate) fn yes(text: impl Into<String>) -> Self {
        Self::new(Told::Yes, text)
    }

    pub(crate) fn no(text: impl Into<String>) -> Self {
        Self::new(Told::No, text)
    }

    pub(crate) fn nothing(text: impl Into<String>) -> Self {
        Self::new(Told::Nothing, text)
    }

    /// Whether it succeeded.
    pub(crate) fn ok(&self) -> bool {
        matches!(self.told, Told::Yes | Told::Odd)
    }
}

/// A container, as it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    pub(crate) cri: &'a Cri,
    pub(crate) id: &'a str,
    pub(crate) spec: &'a Spec,
    /// The pod's address.
    pub(crate) ip: Option<IpAddr>,
}

/// Runs a command in the container; it has to exit with 0.
pub(crate) async fn exec(place: &Place<'_>, action: &ExecAction, limit: Duration) -> Answer {
    let request = ExecSyncRequest {
        container_id: place.id.to_owned(),
        cmd: action.command.clone().unwrap_or_default(),
        timeout: i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX),
    };
    // The runtime kills the command when its time is over; that answer is worth a moment.
    let given = limit;
    let limit = limit + Duration::from_secs(2);
    match within(limit, place.cri.runtime.clone().exec_sync(request)).await {
        Ok(reply) => {
            let output = [&reply.stdout[..], &reply.stderr[..]].concat();
            let text = String::from_utf8_lossy(&output[..output.len().min(OUTPUT_BYTES_MAX)]).into_owned();
            match reply.exit_code {
                0 => Answer::yes(text),
                _ => Answer::no(text),
            }
        }
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
            let command = action.command.clone().unwrap_or_default().join(" ");
            Answer::no(format!("command timed out: {command:?} timed out after {}s", given.as_secs()))
        }
        Err(status) => Answer::nothing(status.message()),
    }
}

/// Opens a TCP connection.
pub(crate) async fn tcp(place: &Place<'_>, action: &TCPSocketAction, limit: Duration) -> Answer {
    let target = match target(place, action.host.as_deref(), &action.port) {
        Ok(target) => target,
        Err(text) => return Answer::nothing(text),
    };
    match tokio::time::timeout(limit, dial(&target)).await {
        Ok(Ok(_)) => Answer::yes(""),
        Ok(Err(error)) => Answer::no(error.to_string()),
        Err(_) => Answer::no(format!("dial tcp {}: i/o timeout", shown(&target))),
    }
}

/// GETs; the status has to be 200 to 399. A redirect to another host is not followed and counts as success.
pub(crate) async fn http_get(place: &Place<'_>, action: &HTTPGetAction, limit: Duration) -> Answer {
    http(place, action, limit, |status| (200..400).contains(&status)).await
}

/// GETs, as a hook does; any answer is a success.
pub(crate) async fn http_call(place: &Place<'_>, action: &HTTPGetAction, limit: Duration) -> Answer {
    http(place, action, limit, |_| true).await
}

async fn http(
    place: &Place<'_>,
    action: &HTTPGetAction,
    limit: Duration,
    is_good: impl Fn(u16) -> bool,
) -> Answer {
    let (host, port) = match target(place, action.host.as_deref(), &action.port) {
        Ok(target) => target,
        Err(text) => return Answer::nothing(text),
    };
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = action.path.clone().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host };
    let url = format!("{scheme}://{bracketed}:{port}{slash}{path}");
    match tokio::time::timeout(limit, follow(url.clone(), action, is_good)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::no(format!("Get {url:?}: {error}")),
        Err(_) => Answer::no(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn follow(
    url: String,
    action: &HTTPGetAction,
    is_good: impl Fn(u16) -> bool,
) -> Result<Answer, Failure> {
    let mut uri: http::Uri = url.parse()?;
    let first = uri.host().map(str::to_owned);
    for _ in 0..REDIRECTS_MAX {
        let (status, location, body) = get(&uri, action).await?;
        let next = location.filter(|_| status.is_redirection());
        let Some(next) = next else {
            let text = format!("HTTP probe failed with statuscode: {}", status.as_u16());
            return Ok(if is_good(status.as_u16()) { Answer::yes(body) } else { Answer::no(text) });
        };
        let next = resolve(&uri, &next)?;
        if next.host().map(str::to_owned) != first {
            let text = format!("Probe terminated redirects, Response body: {body}");
            return Ok(Answer::new(Told::Odd, text));
        }
        uri = next;
    }
    Err("stopped after 10 redirects".into())
}

fn resolve(base: &http::Uri, location: &str) -> Result<http::Uri, Failure> {
    let to: http::Uri = location.parse()?;
    if to.scheme().is_some() {
        return Ok(to);
    }
    let mut parts = base.clone().into_parts();
    let path = if location.starts_with('/') { location.to_owned() } else { format!("/{location}") };
    parts.path_and_query = Some(path.parse()?);
    Ok(http::Uri::from_parts(parts)?)
}

async fn get(
    uri: &http::Uri,
    action: &HTTPGetAction,
) -> Result<(http::StatusCode, Option<String>, String), Failure> {
    let host = uri.host().ok_or("no host")?.trim_matches(['[', ']']).to_owned();
    let https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let stream = dial(&(host, port)).await?;
    let mut request = http::Request::get(uri.path_and_query().map_or("/", |p| p.as_str()));
    let given = |name: &str| action.http_headers.iter().flatten().any(|h| h.name.eq_ignore_ascii_case(name));
    for (name, value) in [
        ("host", uri.authority().map_or("", |a| a.as_str())),
        ("user-agent", "kube-probe/1.37"),
        ("accept", "*/*"),
        ("connection", "close"),
    ] {
        if !given(name) {
            request = request.header(name, value);
        }
    }
    for header in action.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    match https {
        true => exchange(tls::connect(stream).await?, request).await,
        false => exchange(stream, request).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Empty<Bytes>>,
) -> Result<(http::StatusCode, Option<String>, String), Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let location = response.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_owned);
        // A larger body is as good as its beginning.
        let body = match Limited::new(response.into_body(), OUTPUT_BYTES_MAX).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => String::new(),
        };
        Ok::<_, Failure>((status, location, body))
    };
    tokio::select! {
        answer = exchange => answer,
        result = drive(connection) => Err(result),
    }
}

/// Drives a connection while its exchange goes on; only an error ends that.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) -> Failure {
    match connection.await {
        Err(error) => error.into(),
        Ok(()) => std::future::pending().await,
    }
}

/// The messages of `grpc.health.v1`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// Asks the standard gRPC health service.
pub(crate) async fn grpc(place: &Place<'_>, action: &GRPCAction, limit: Duration) -> Answer {
    let target = match target(place, None, &IntOrString::Int(action.port)) {
        Ok(target) => target,
        Err(text) => return Answer::nothing(text),
    };
    let service = action.service.clone().unwrap_or_default();
    match tokio::time::timeout(limit, grpc_check(target, service)).await {
        Ok(Ok(SERVING)) => Answer::yes("service healthy"),
        Ok(Ok(status)) => Answer::no(format!("service unhealthy (responded with status {status})")),
        Ok(Err(error)) => Answer::no(format!("error: health rpc failed: {error}")),
        Err(_) => Answer::no("timeout: health rpc did not complete in time"),
    }
}

async fn grpc_check(target: (String, u16), service: String) -> Result<i32, Failure> {
    let connector = tower::service_fn(move |_| {
        let target = target.clone();
        async move { dial(&target).await.map(TokioIo::new) }
    });
    let channel =
        tonic::transport::Endpoint::from_static("http://probe").connect_with_connector(connector).await?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let reply = client.unary(tonic::Request::new(HealthCheckRequest { service }), path, codec).await?;
    Ok(reply.into_inner().status)
}

/// Connects; an error says whereto, as others word it.
async fn dial(target: &(String, u16)) -> io::Result<TcpStream> {
    TcpStream::connect((target.0.as_str(), target.1)).await.map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("dial tcp {}: connect: {what}", shown(target)))
    })
}

/// `host:port`, a host that is an IPv6 address in brackets.
fn shown((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Host and port to reach; a port's name is looked up in the container's ports.
fn target(place: &Place<'_>, host: Option<&str>, port: &IntOrString) -> Result<(String, u16), String> {
    let host = match host.filter(|h| !h.is_empty()) {
        Some(host) => host.to_owned(),
        None => place.ip.map(|ip| ip.to_string()).ok_or("the pod has no address yet")?,
    };
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = place.spec.ports.iter().flatten();
            let named = ports.into_iter().find(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    number.map(|n| (host, n)).ok_or_else(|| format!("container {} has no port {port:?}", place.spec.name))
}

#[cfg(test)]
mod tests;
