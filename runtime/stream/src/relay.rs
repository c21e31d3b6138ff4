//! Between two connections: a request goes on over a connection of its own, and what it upgrades to is copied both ways,
//! or translated where the far side does not speak what the client does.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::channel::{CHUNK, Headers, Inlet, Outlet, Side};
use crate::negotiate;
use crate::offer::{self, Offer, SPDY, STREAM_PROTOCOL, Work};
use crate::session::{self, Channels, Report, Wishes};
use crate::{spdy, status, websocket};

/// Why a body broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body on its way in or out.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How long one direction may still go on when the other has ended.
const LINGER: Duration = Duration::from_secs(5);
/// Headers that concern one connection and not the next.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
];
const WEBSOCKET_HEADERS: [HeaderName; 5] = [
    HeaderName::from_static("sec-websocket-key"),
    HeaderName::from_static("sec-websocket-version"),
    HeaderName::from_static("sec-websocket-extensions"),
    SEC_WEBSOCKET_PROTOCOL,
    HeaderName::from_static("sec-websocket-accept"),
];

/// A body that is all there.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Whether a request asks for another protocol than HTTP.
#[must_use]
pub fn is_upgrade(headers: &http::HeaderMap) -> bool {
    let tokens =
        headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    headers.contains_key(UPGRADE) && tokens.map(str::trim).any(|t| t.eq_ignore_ascii_case("upgrade"))
}

/// Sends a request over a connection of its own. `near` is the client's side, for when the far one switches protocols:
/// then both are copied until one of them has ended. The connection ends with the answer's body, and when that is dropped.
///
/// # Errors
/// When the far side does not answer in HTTP.
pub async fn forward<S>(
    far: S,
    mut request: Request<Body>,
    near: Option<OnUpgrade>,
) -> Result<Response<Body>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrades = near.is_some() && is_upgrade(request.headers());
    let kept = request.headers().get(UPGRADE).cloned().filter(|_| upgrades);
    strip(request.headers_mut());
    if let Some(protocol) = kept {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(UPGRADE, protocol);
    }
    let mut response = send(far, request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(near) = near
    {
        let far = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            match tokio::try_join!(near, far) {
                Ok((near, far)) => splice(TokioIo::new(near), TokioIo::new(far)).await,
                Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
            }
        });
    } else {
        strip(response.headers_mut());
    }
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

async fn send<S>(far: S, mut request: Request<Body>) -> Result<Response<hyper::body::Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    *request.version_mut() = Version::HTTP_11;
    if !request.headers().contains_key(HOST)
        && let Some(host) = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok())
    {
        request.headers_mut().insert(HOST, host);
    }
    // What a server is asked for is a path; the authority has become the header.
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = path.into();
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(far)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a relayed connection broke");
        }
    });
    sender.send_request(request).await
}

/// Drops what concerns one connection alone.
fn strip(headers: &mut http::HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let named: Vec<HeaderName> = named.filter_map(|name| name.trim().parse().ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(UPGRADE);
}

/// What a client's new websocket is translated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Exec or attach, with these streams.
    Command(Wishes),
    /// Port-forward.
    PortForward,
}

/// Sends a request for a session as SPDY, and translates between that and the client's websocket.
///
/// # Errors
/// When the far side does not answer in HTTP.
pub async fn translate<S>(
    far: S,
    request: Request<Body>,
    near: OnUpgrade,
    session: Session,
) -> Result<Response<Body>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let offer = match Offer::read(request.headers()) {
        Ok(Offer::WebSocket { protocols, accept }) => chosen(&protocols, session).map(|c| (c, accept)),
        _ => None,
    };
    let Some((protocol, accept)) = offer else { return forward(far, request, Some(near)).await };
    let mut response = send(far, as_spdy(request, &protocol)).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip(response.headers_mut());
        return Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()));
    }
    let far = hyper::upgrade::on(&mut response);
    let name = protocol.name();
    let work: Work = match (protocol, session) {
        (Chosen::Command(protocol), Session::Command(wishes)) => offer::upgraded(near, async move |socket| {
            let Ok(far) = far.await else { return };
            let socket = offer::server(socket).await;
            let carry = |channels| carry(channels, wishes, TokioIo::new(far));
            session::over_websocket(socket, protocol, wishes, carry).await;
        }),
        _ => offer::upgraded(near, async move |socket| {
            let Ok(far) = far.await else { return };
            let (near, run) = websocket::tunnel(offer::server(socket).await, Side::Server);
            tokio::join!(run, splice(near, TokioIo::new(far)));
        }),
    };
    tokio::spawn(work);
    Ok(offer::to_websocket(accept, name).map(full))
}

/// What the client's websocket is to be.
enum Chosen {
    Command(negotiate::CommandProtocol),
    Tunnel,
}

impl Chosen {
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Command(protocol) => protocol.name,
            Self::Tunnel => Some(negotiate::TUNNEL),
        }
    }
}

fn chosen(protocols: &[String], session: Session) -> Option<Chosen> {
    match session {
        Session::Command(_) => negotiate::websocket_command(protocols).map(Chosen::Command),
        Session::PortForward => protocols.iter().any(|p| p == negotiate::TUNNEL).then_some(Chosen::Tunnel),
    }
}

/// The same request, asking for SPDY.
fn as_spdy(mut request: Request<Body>, protocol: &Chosen) -> Request<Body> {
    let offered = match protocol {
        Chosen::Command(protocol) if protocol.version >= 4 => "v4.channel.k8s.io",
        Chosen::Command(_) => "channel.k8s.io",
        Chosen::Tunnel => negotiate::PORT_FORWARD,
    };
    *request.method_mut() = Method::POST;
    *request.body_mut() = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let headers = request.headers_mut();
    strip(headers);
    for name in &WEBSOCKET_HEADERS {
        headers.remove(name);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(offered));
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    request
}

/// Carries a session's channels over a SPDY connection to who serves it.
async fn carry<S>(channels: Channels, wishes: Wishes, far: S)
where
    S: AsyncRead + AsyncWrite,
{
    let Channels { stdin, stdout, stderr, error, resize, report, gone } = channels;
    let (connection, run) = spdy::connect(far, Side::Client, CancellationToken::new());
    let session = async move {
        let kind = |kind: &str| -> Headers { vec![("streamtype".to_owned(), kind.to_owned())] };
        let open = async |name: &str, wished: bool| match wished {
            true => connection.open(kind(name)).await.map(Some),
            false => Ok(None),
        };
        // In the order of upstream's clients: a server may count on the error stream to be the first.
        let has_resize = wishes.tty && report == Report::Json;
        let opened = async {
            let far_error = connection.open(kind("error")).await?;
            let far_stdin = open("stdin", wishes.stdin).await?;
            let far_stdout = open("stdout", wishes.stdout).await?;
            let far_stderr = open("stderr", wishes.stderr).await?;
            let far_resize = open("resize", has_resize).await?;
            Ok::<_, crate::Gone>((far_error, far_stdin, far_stdout, far_stderr, far_resize))
        };
        let Ok((far_error, far_stdin, far_stdout, far_stderr, far_resize)) = opened.await else { return };
        far_error.outlet.finish().await;
        let (out_inlet, out_outlet) = halves(far_stdout);
        let (err_inlet, err_outlet) = halves(far_stderr);
        for outlet in [out_outlet, err_outlet].into_iter().flatten() {
            outlet.finish().await;
        }
        let heard = async {
            tokio::join!(
                pump(out_inlet, stdout.as_ref()),
                pump(err_inlet, stderr.as_ref()),
                last_words(far_error.inlet, &error, report),
            )
        };
        let said = async {
            let (in_, size) = (halves(far_stdin).1, halves(far_resize).1);
            tokio::join!(pump(stdin, in_.as_ref()), pump(resize, size.as_ref()));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = heard => {}
            () = said => {}
        }
    };
    tokio::select! {
        () = async { tokio::join!(session, run); } => {}
        () = gone.cancelled() => {}
    }
}

/// Passes on how the session ended; where nobody says so, the connection has broken.
async fn last_words(mut from: Inlet, to: &Outlet, report: Report) {
    let mut told = report == Report::Text;
    while let Some(data) = from.recv().await {
        told = true;
        if to.send(data).await.is_err() {
            return;
        }
    }
    if !told {
        let _ = to.send(status::to_json(&Err("the connection to the node broke".to_owned()))).await;
    }
}

fn halves(stream: Option<spdy::Stream>) -> (Option<Inlet>, Option<Outlet>) {
    stream.map_or((None, None), |stream| (Some(stream.inlet), Some(stream.outlet)))
}

/// Copies a channel until its end, and ends the other one.
async fn pump(from: Option<Inlet>, to: Option<&Outlet>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    while let Some(data) = from.recv().await {
        if to.send(data).await.is_err() {
            return;
        }
    }
    to.finish().await;
}

/// Copies both ways until one side has ended; the other is then given a moment. What is read is written before more is
/// read: who does not read stops who writes.
pub async fn splice(near: impl AsyncRead + AsyncWrite, far: impl AsyncRead + AsyncWrite) {
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let up = copy(&mut near_read, &mut far_write);
    let down = copy(&mut far_read, &mut near_write);
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    tokio::select! {
        () = &mut up => drop(tokio::time::timeout(LINGER, down).await),
        () = &mut down => drop(tokio::time::timeout(LINGER, up).await),
    }
}

async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // The other side may have gone already.
    let _ = to.shutdown().await;
}
