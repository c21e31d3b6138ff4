//! What only a node can answer: logs, exec, attach, port-forward, and requests to pods, services and nodes themselves.
//! The request goes on over a connection of its own; what it becomes there is copied both ways, or translated where a
//! node's kubelet is older than the client.
//!
//! ```text
//! log, exec, attach, portforward ─> pod: which container, of which node ─┐
//! nodes/proxy ───────────────────────────────────────────────────────────┴─> kubelet: TLS with a certificate of ours
//! pods/proxy, services/proxy ─> proxy: which address ─> TCP or TLS          rewrite: links lead back through here
//! ```

mod kubelet;
mod pod;
mod proxy;
mod rewrite;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyStream, StreamBody};
use hyper::upgrade::OnUpgrade;
use proto_kube::status::{Result, Status};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::reply::{Body, Response};
use crate::rest::Call;

pub use kubelet::Nodes;

/// How long a connection to a node or a pod may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The other end of a client's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub SocketAddr);

/// What a request is beside its headers.
pub(crate) struct Asked {
    pub method: Method,
    pub uri: Uri,
    /// The client's connection, for when it switches protocols.
    pub upgrade: Option<OnUpgrade>,
    /// Where the client is; it is not known of parts of this process.
    pub client: Option<SocketAddr>,
}

/// Whether a subresource is answered here.
pub(crate) fn is_ours(subresource: &str) -> bool {
    matches!(subresource, "attach" | "exec" | "log" | "portforward" | "proxy")
}

/// Answers a request for a subresource that [`is_ours`].
///
/// # Errors
/// What is wrong with it, and 500 or 503 when what it is for cannot be reached.
pub(crate) async fn answer(call: &Call<'_>, asked: Asked, body: Body) -> Result<Response> {
    match call.subresource() {
        "proxy" => proxy::answer(call, asked, body).await,
        "log" => pod::log(call, asked).await,
        _ => pod::session(call, asked).await,
    }
}

/// Connects to a port.
async fn connect(host: &str, port: u16) -> std::result::Result<TcpStream, String> {
    let failed = |why: &dyn std::fmt::Display| format!("dial tcp {}: {why}", authority(host, port));
    let connecting = TcpStream::connect((host, port));
    let socket = match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(&reason(&error)))?,
        Err(_) => return Err(failed(&"i/o timeout")),
    };
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

/// Why a connection failed, as clients know it from upstream.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// `host:port`, with brackets around an address of IPv6.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The client's headers without what was meant for this server.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(http::header::AUTHORIZATION);
    let ours: Vec<_> = headers.keys().filter(|k| k.as_str().starts_with("impersonate-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    headers
}

/// A body that ends with the server.
fn until(body: Body, ends: CancellationToken) -> Body {
    use http_body_util::BodyExt as _;
    let frames = BodyStream::new(body).take_until(async move { ends.cancelled().await });
    StreamBody::new(frames).boxed_unsync()
}

fn unknown_port(port: &str) -> Status {
    Status::bad_request(format!("invalid port {port:?}"))
}
