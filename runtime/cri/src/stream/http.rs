//! The door: HTTP requests for streaming URLs, answered by an upgrade to the protocol both sides speak.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use proto_cri::PortForwardRequest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::channel::{DEPTH, Outlet, Side};
use super::command::Channels;
use super::forward::Forward;
use super::negotiate::{self, CommandProtocol, ForwardProtocol};
use super::token::{self, Tokens};
use super::websocket::{self, Form};
use super::{Session, Streams, command, forward, spdy};

const SPDY: &str = "SPDY/3.1";
const WEBSOCKET: &str = "websocket";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// What a client that offers none of them is told.
const PROTOCOLS: &str = "v5.channel.k8s.io, v4.channel.k8s.io, portforward.k8s.io";
/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to open the streams of an exec or attach.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// Before accepting again when no descriptor was left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Answer = Response<String>;

/// Serves until `shutdown` is cancelled, then drops all sessions.
pub(super) async fn serve(
    socket: TcpListener,
    tokens: Arc<Tokens>,
    streams: Arc<impl Streams>,
    shutdown: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((socket, _)) => drop(connections.spawn(connection(socket, tokens.clone(), streams.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "the streaming server cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = shutdown.cancelled() => break,
        }
    }
    connections.shutdown().await;
}

/// HTTP first; when a request was granted, its session.
async fn connection(socket: TcpStream, tokens: Arc<Tokens>, streams: Arc<impl Streams>) {
    // Keystrokes and their echo are small; without it they wait for each other.
    let _ = socket.set_nodelay(true);
    let granted = Mutex::new(None);
    let service = service_fn(|request| {
        let answer = match grant(request, &tokens, &streams) {
            Ok((answer, work)) => {
                *granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
                answer
            }
            Err(refusal) => refusal.answer(),
        };
        async { Ok::<_, Infallible>(answer) }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    if let Err(error) = http.await {
        tracing::debug!(%error, "a streaming client hung up");
    }
    let work: Option<Work> = granted.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work.await;
    }
}

fn grant(
    mut request: Request<Incoming>,
    tokens: &Tokens,
    streams: &Arc<impl Streams>,
) -> Result<(Answer, Work), Refusal> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "a streaming URL is opened by GET or POST"));
    }
    let unknown = || refuse(StatusCode::NOT_FOUND, "no such streaming URL: it is good once, for a minute");
    let uri = request.uri().clone();
    let (kind, token) = uri.path().trim_start_matches('/').split_once('/').ok_or_else(unknown)?;
    let wanted = tokens.take(token).ok_or_else(unknown)?;
    let offer = Offer::read(request.headers())?;
    let on_upgrade = hyper::upgrade::on(&mut request);
    match (kind, wanted) {
        ("exec", token::Request::Exec(exec)) => {
            let wishes =
                Wishes { stdin: exec.stdin, stdout: exec.stdout, stderr: exec.stderr, tty: exec.tty };
            let streams = streams.clone();
            offer.command(on_upgrade, wishes, async move { streams.exec(exec).await })
        }
        ("attach", token::Request::Attach(attach)) => {
            let wishes =
                Wishes { stdin: attach.stdin, stdout: attach.stdout, stderr: attach.stderr, tty: attach.tty };
            let streams = streams.clone();
            offer.command(on_upgrade, wishes, async move { streams.attach(attach).await })
        }
        ("portforward", token::Request::PortForward(wanted)) => {
            offer.port_forward(on_upgrade, wanted, streams.clone())
        }
        _ => Err(unknown()),
    }
}

/// Why a client gets no session.
struct Refusal {
    code: StatusCode,
    text: String,
}

impl Refusal {
    fn answer(self) -> Answer {
        let mut answer = Response::new(format!("{}\n", self.text));
        *answer.status_mut() = self.code;
        if self.code == StatusCode::FORBIDDEN {
            answer.headers_mut().insert(ACCEPTED_PROTOCOLS, HeaderValue::from_static(PROTOCOLS));
        }
        answer
    }
}

fn refuse(code: StatusCode, text: &str) -> Refusal {
    Refusal { code, text: text.to_owned() }
}

/// Which streams a session has.
#[derive(Debug, Clone, Copy)]
struct Wishes {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// What the client can speak.
enum Offer {
    Spdy { protocols: Vec<String> },
    WebSocket { protocols: Vec<String>, accept: HeaderValue },
}

impl Offer {
    fn read(headers: &HeaderMap) -> Result<Offer, Refusal> {
        let upgrade = list(headers, &UPGRADE);
        let offers = |name: &str| upgrade.iter().any(|offer| offer.eq_ignore_ascii_case(name));
        if offers(WEBSOCKET) {
            let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| {
                refuse(StatusCode::BAD_REQUEST, "unable to upgrade: Sec-WebSocket-Key is missing")
            })?;
            let accept =
                HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header's value");
            return Ok(Offer::WebSocket { protocols: list(headers, &SEC_WEBSOCKET_PROTOCOL), accept });
        }
        if offers(SPDY) {
            return Ok(Offer::Spdy { protocols: list(headers, &STREAM_PROTOCOL) });
        }
        Err(refuse(StatusCode::BAD_REQUEST, "unable to upgrade: Upgrade must be SPDY/3.1 or websocket"))
    }

    fn command(
        self,
        on_upgrade: OnUpgrade,
        wishes: Wishes,
        starting: impl Future<Output = Result<Session, Status>> + Send + 'static,
    ) -> Result<(Answer, Work), Refusal> {
        match self {
            Offer::Spdy { protocols } => {
                let protocol = negotiate::spdy_command(&protocols).ok_or_else(|| no_common(&protocols))?;
                let work =
                    upgraded(on_upgrade, move |socket| spdy_command(socket, protocol, wishes, starting));
                Ok((switch_to_spdy(protocol.name), work))
            }
            Offer::WebSocket { protocols, accept } => {
                let protocol =
                    negotiate::websocket_command(&protocols).ok_or_else(|| no_common(&protocols))?;
                let work =
                    upgraded(on_upgrade, move |socket| websocket_command(socket, protocol, wishes, starting));
                Ok((switch_to_websocket(accept, protocol.name), work))
            }
        }
    }

    fn port_forward(
        self,
        on_upgrade: OnUpgrade,
        wanted: PortForwardRequest,
        streams: Arc<impl Streams>,
    ) -> Result<(Answer, Work), Refusal> {
        let sandbox = wanted.pod_sandbox_id;
        match self {
            Offer::Spdy { protocols } => {
                let name = negotiate::spdy_forward(&protocols).ok_or_else(|| no_common(&protocols))?;
                let work = upgraded(on_upgrade, move |socket| spdy_forward(socket, streams, sandbox));
                Ok((switch_to_spdy(name), work))
            }
            Offer::WebSocket { protocols, accept } => {
                match negotiate::websocket_forward(&protocols).ok_or_else(|| no_common(&protocols))? {
                    ForwardProtocol::Tunnel => {
                        let work = upgraded(on_upgrade, async move |socket| {
                            let (near, carry) = websocket::tunnel(websocket(socket).await, Side::Server);
                            tokio::join!(carry, spdy_forward(near, streams, sandbox));
                        });
                        Ok((switch_to_websocket(accept, Some(negotiate::TUNNEL)), work))
                    }
                    ForwardProtocol::Channels { name, base64 } => {
                        let ports = ports(&wanted.port, base64)?;
                        let form = Form { base64, close: false };
                        let work = upgraded(on_upgrade, move |socket| {
                            websocket_forward(socket, form, ports, streams, sandbox)
                        });
                        Ok((switch_to_websocket(accept, name), work))
                    }
                }
            }
        }
    }
}

/// Channels have one-byte numbers, in base64 one digit; two are used a port.
fn ports(wanted: &[i32], base64: bool) -> Result<Vec<u16>, Refusal> {
    let most = if base64 { 5 } else { 127 };
    let ports: Result<Vec<u16>, _> = wanted.iter().map(|port| u16::try_from(*port)).collect();
    match ports {
        Ok(ports) if (1..=most).contains(&ports.len()) => Ok(ports),
        _ => Err(refuse(
            StatusCode::BAD_REQUEST,
            &format!("this protocol forwards 1 to {most} ports, named in the CRI call"),
        )),
    }
}

/// The comma-separated values of a header that may be there several times.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(','));
    items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

fn no_common(offered: &[String]) -> Refusal {
    let text = format!("unable to upgrade: no common protocol, the client offers {}", offered.join(", "));
    refuse(StatusCode::FORBIDDEN, &text)
}

fn switch(upgrade: &'static str) -> Answer {
    let mut answer = Response::new(String::new());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(upgrade));
    answer
}

fn switch_to_spdy(protocol: Option<&'static str>) -> Answer {
    let mut answer = switch(SPDY);
    if let Some(protocol) = protocol {
        answer.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    }
    answer
}

fn switch_to_websocket(accept: HeaderValue, protocol: Option<&'static str>) -> Answer {
    let mut answer = switch(WEBSOCKET);
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    answer
}

fn upgraded<F>(on_upgrade: OnUpgrade, session: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static) -> Work
where
    F: Future<Output = ()> + Send,
{
    Box::pin(async move {
        match on_upgrade.await {
            Ok(socket) => session(TokioIo::new(socket)).await,
            Err(error) => tracing::debug!(%error, "a streaming client hung up before its session"),
        }
    })
}

async fn websocket(socket: TokioIo<Upgraded>) -> WebSocketStream<TokioIo<Upgraded>> {
    WebSocketStream::from_raw_socket(socket, Role::Server, Some(websocket::config())).await
}

async fn websocket_command(
    socket: TokioIo<Upgraded>,
    protocol: CommandProtocol,
    wishes: Wishes,
    starting: impl Future<Output = Result<Session, Status>>,
) {
    let form = Form { base64: protocol.base64, close: protocol.version >= 5 };
    let gone = CancellationToken::new();
    let (to, from) = mpsc::channel(DEPTH);
    let mut inlets = HashMap::new();
    let mut inlet = |channel, wished: bool| {
        wished.then(|| {
            let (sender, inlet) = mpsc::channel(DEPTH);
            inlets.insert(channel, sender);
            inlet
        })
    };
    let outlet = |channel: u8, wished: bool| wished.then(|| Outlet::new(channel.into(), to.clone()));
    let channels = Channels {
        stdin: inlet(STDIN, wishes.stdin),
        resize: inlet(RESIZE, wishes.tty),
        stdout: outlet(STDOUT, wishes.stdout),
        stderr: outlet(STDERR, wishes.stderr),
        error: Outlet::new(ERROR.into(), to),
        report: protocol.report(),
        gone: gone.clone(),
    };
    let session = async {
        // Clients wait for a first message, which may be empty, on the lowest channel that they read.
        let first = channels.stdout.as_ref().or(channels.stderr.as_ref()).unwrap_or(&channels.error);
        let _ = first.send("").await;
        command::run(channels, starting).await;
    };
    tokio::join!(websocket::run(websocket(socket).await, form, Side::Server, inlets, from, gone), session);
}

async fn spdy_command(
    socket: TokioIo<Upgraded>,
    protocol: CommandProtocol,
    wishes: Wishes,
    starting: impl Future<Output = Result<Session, Status>>,
) {
    let gone = CancellationToken::new();
    let (connection, run) = spdy::connect(socket, Side::Server, gone.clone());
    let session = async {
        let opening =
            tokio::time::timeout(STREAMS_TIMEOUT, spdy_channels(connection, protocol, wishes, gone));
        match opening.await {
            Ok(Ok(channels)) => command::run(channels, starting).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a streaming client hung up before it opened its streams")
            }
            Err(_elapsed) => tracing::warn!("a streaming client did not open its streams within 30 s"),
        }
    };
    tokio::join!(run, session);
}

/// Waits for the streams that the client opens: error, and what it wishes.
async fn spdy_channels(
    mut connection: spdy::Connection,
    protocol: CommandProtocol,
    wishes: Wishes,
    gone: CancellationToken,
) -> io::Result<Channels> {
    let resize = wishes.tty && protocol.has_resize();
    let wished = [true, wishes.stdin, wishes.stdout, wishes.stderr, resize];
    let mut missing = wished.into_iter().filter(|wished| *wished).count();
    let (mut stdin, mut stdout, mut stderr, mut error, mut resize) = (None, None, None, None, None);
    while missing > 0 {
        let stream = connection.incoming.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        let known = match stream.header("streamtype").unwrap_or_default() {
            "stdin" => stdin.replace(stream.inlet).is_none(),
            "resize" => resize.replace(stream.inlet).is_none(),
            "stdout" => stdout.replace(stream.outlet).is_none(),
            "stderr" => stderr.replace(stream.outlet).is_none(),
            "error" => error.replace(stream.outlet).is_none(),
            _ => {
                stream.outlet.reset().await;
                false
            }
        };
        missing -= usize::from(known);
    }
    let error = error.ok_or_else(|| io::Error::other("the client opened no error stream"))?;
    Ok(Channels { stdin, stdout, stderr, error, resize, report: protocol.report(), gone })
}

async fn spdy_forward<S>(socket: S, streams: Arc<impl Streams>, sandbox: String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let gone = CancellationToken::new();
    let (connection, run) = spdy::connect(socket, Side::Server, gone.clone());
    tokio::join!(run, forward::spdy(connection, streams, sandbox, gone));
}

/// Each port has a channel for data and one for an error; both begin with the port's number.
async fn websocket_forward(
    socket: TokioIo<Upgraded>,
    form: Form,
    ports: Vec<u16>,
    streams: Arc<impl Streams>,
    sandbox: String,
) {
    let gone = CancellationToken::new();
    let (to, from) = mpsc::channel(DEPTH);
    let (mut inlets, mut forwards) = (HashMap::new(), Vec::new());
    for (port, channel) in ports.into_iter().zip((0..=u8::MAX).step_by(2)) {
        let (sender, inlet) = mpsc::channel(DEPTH);
        inlets.insert(channel, sender);
        let outlet = |channel: u8| Outlet::new(channel.into(), to.clone());
        let (data, error, reset) = (outlet(channel), outlet(channel + 1), gone.clone());
        forwards.push(Forward { port, inlet, data, error, reset, half_close: false });
    }
    drop(to);
    let session = futures_util::future::join_all(forwards.into_iter().map(|forward| async {
        let port = forward.port.to_le_bytes().to_vec();
        // A transport that is gone ends the forward too.
        let _ = forward.data.send(port.clone()).await;
        let _ = forward.error.send(port).await;
        forward.run(&*streams, &sandbox).await;
    }));
    tokio::join!(websocket::run(websocket(socket).await, form, Side::Server, inlets, from, gone), session);
}
