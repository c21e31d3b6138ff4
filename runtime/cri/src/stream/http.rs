//! The door: HTTP requests for streaming URLs, answered by an upgrade to the protocol both sides speak.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::{Method, Request, StatusCode};
use ::stream::{Answer, Offer, Refusal, Wishes, Work};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::token::{self, Tokens};
use super::{Streams, command};

/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Before accepting again when no descriptor was left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        let text = "a streaming URL is opened by GET or POST";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let text = "no such streaming URL: it is good once, for a minute";
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, text);
    let uri = request.uri().clone();
    let (kind, token) = uri.path().trim_start_matches('/').split_once('/').ok_or_else(unknown)?;
    let wanted = tokens.take(token).ok_or_else(unknown)?;
    let offer = Offer::read(request.headers())?;
    let on_upgrade = hyper::upgrade::on(&mut request);
    let streams = streams.clone();
    match (kind, wanted) {
        ("exec", token::Request::Exec(exec)) => {
            let wishes =
                Wishes { stdin: exec.stdin, stdout: exec.stdout, stderr: exec.stderr, tty: exec.tty };
            let serve = async move |channels| command::run(channels, streams.exec(exec)).await;
            offer.command(on_upgrade, wishes, serve)
        }
        ("attach", token::Request::Attach(attach)) => {
            let wishes =
                Wishes { stdin: attach.stdin, stdout: attach.stdout, stderr: attach.stderr, tty: attach.tty };
            let serve = async move |channels| command::run(channels, streams.attach(attach)).await;
            offer.command(on_upgrade, wishes, serve)
        }
        ("portforward", token::Request::PortForward(wanted)) => {
            let sandbox = Sandbox { streams, id: wanted.pod_sandbox_id };
            offer.port_forward(on_upgrade, &wanted.port, Arc::new(sandbox))
        }
        _ => Err(unknown()),
    }
}

/// A sandbox whose ports are forwarded to.
struct Sandbox<S> {
    streams: Arc<S>,
    id: String,
}

impl<S: Streams> ::stream::forward::Dial for Sandbox<S> {
    async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        let failed = |status: tonic::Status| {
            format!("error forwarding port {port} to pod {}: {}", self.id, status.message())
        };
        self.streams.dial(&self.id, port).await.map_err(failed)
    }
}
