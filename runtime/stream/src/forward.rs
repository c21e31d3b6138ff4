//! Port-forward: between a client's channels and connections to a sandbox's ports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use crate::channel::{CHUNK, DEPTH, Inlet, Outlet, Side};
use crate::spdy::{self, Connection, Stream};
use crate::websocket::{self, Form};

/// How long the two streams of a connection may be apart.
const PAIR_LIFE: Duration = Duration::from_secs(30);

/// What port-forward needs from the node.
pub trait Dial: Send + Sync + 'static {
    /// Connects to a port. The text of a failure reaches the user.
    fn dial(&self, port: u16) -> impl Future<Output = Result<TcpStream, String>> + Send;
}

/// One connection to forward.
struct Forward {
    port: u16,
    inlet: Inlet,
    data: Outlet,
    error: Outlet,
    /// The client wants no more of it.
    reset: CancellationToken,
    /// The transport can close one direction of a channel. Where it cannot, the connection ends with the server's
    /// direction.
    half_close: bool,
}

impl Forward {
    /// Connects and copies until both directions have ended.
    async fn run(self, dial: &impl Dial) {
        let Self { port, inlet, data, error, reset, half_close } = self;
        match dial.dial(port).await {
            Ok(socket) => {
                let (mut read, mut write) = socket.into_split();
                let up = async {
                    let written = upload(inlet, &mut write).await;
                    let _ = write.shutdown().await;
                    written
                };
                let down = async {
                    let mut buffer = vec![0; CHUNK];
                    while let Ok(read @ 1..) = read.read(&mut buffer).await {
                        if data.send(Bytes::copy_from_slice(&buffer[..read])).await.is_err() {
                            return;
                        }
                    }
                    data.finish().await;
                };
                let both = async {
                    let mut up = std::pin::pin!(up);
                    let mut down = std::pin::pin!(down);
                    tokio::select! {
                        written = &mut up => if written.is_ok() { down.await },
                        () = &mut down => if half_close { let _ = up.await; },
                    }
                };
                tokio::select! {
                    () = both => {}
                    () = reset.cancelled() => {}
                }
            }
            Err(why) => {
                let _ = error.send(why).await;
                data.reset().await;
            }
        }
        error.finish().await;
    }
}

async fn upload(mut inlet: Inlet, to: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    while let Some(data) = inlet.recv().await {
        to.write_all(&data).await?;
    }
    Ok(())
}

/// A stream's place in a connection, from its headers.
#[derive(Debug, PartialEq, Eq)]
struct Label {
    is_error: bool,
    port: u16,
    request: String,
}

/// `None` for a stream that is no part of port-forward.
fn label(stream: &Stream) -> Option<Label> {
    let is_error = match stream.header("streamtype")? {
        "error" => true,
        "data" => false,
        _ => return None,
    };
    let port = stream.header("port")?.parse().ok().filter(|port| *port > 0)?;
    // Old clients send no request id; their data stream is the one after the error stream.
    let implied = || if is_error { stream.id } else { stream.id.saturating_sub(2) }.to_string();
    let request = stream.header("requestid").map_or_else(implied, str::to_owned);
    Some(Label { is_error, port, request })
}

struct Waiting {
    since: Instant,
    stream: Stream,
    is_error: bool,
}

/// Serves port-forward over SPDY: forwards each pair of streams that the client opens, until the client is gone.
pub(crate) async fn over_spdy<S>(socket: S, dial: Arc<impl Dial>)
where
    S: AsyncRead + AsyncWrite,
{
    let gone = CancellationToken::new();
    let (connection, run) = spdy::connect(socket, Side::Server, gone.clone());
    tokio::join!(run, pairs(connection, dial, gone));
}

async fn pairs(mut connection: Connection, dial: Arc<impl Dial>, gone: CancellationToken) {
    let mut waiting = HashMap::<String, Waiting>::new();
    let mut forwards = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = connection.incoming.recv() => stream,
            Some(_) = forwards.join_next() => continue,
            () = gone.cancelled() => return,
        };
        let Some(stream) = stream else { return };
        let Some(Label { is_error, port, request }) = label(&stream) else {
            stream.outlet.reset().await;
            continue;
        };
        let now = Instant::now();
        waiting.retain(|_, half| now < half.since + PAIR_LIFE);
        match waiting.remove(&request) {
            Some(other) if other.is_error != is_error => {
                let (error, data) = if is_error { (stream, other.stream) } else { (other.stream, stream) };
                let forward = Forward {
                    port,
                    inlet: data.inlet,
                    data: data.outlet,
                    error: error.outlet,
                    reset: data.reset,
                    half_close: true,
                };
                let dial = dial.clone();
                forwards.spawn(async move { forward.run(&*dial).await });
            }
            Some(other) => {
                stream.outlet.reset().await;
                waiting.insert(request, other);
            }
            None => drop(waiting.insert(request, Waiting { since: now, stream, is_error })),
        }
    }
}

/// Serves port-forward over numbered channels: each port has one for data and one for an error; both begin with the
/// port's number.
pub(crate) async fn over_websocket<S>(
    socket: WebSocketStream<S>,
    form: Form,
    ports: Vec<u16>,
    dial: Arc<impl Dial>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
        forward.run(&*dial).await;
    }));
    tokio::join!(websocket::run(socket, form, Side::Server, inlets, from, gone), session);
}
