//! Port-forward: between a client's channels and connections to a sandbox's ports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Streams;
use super::channel::{CHUNK, Inlet, Outlet};
use super::spdy::{Connection, Stream};

/// How long the two streams of a connection may be apart.
const PAIR_LIFE: Duration = Duration::from_secs(30);

/// One connection to forward.
pub(super) struct Forward {
    pub(super) port: u16,
    pub(super) inlet: Inlet,
    pub(super) data: Outlet,
    pub(super) error: Outlet,
    /// The client wants no more of it.
    pub(super) reset: CancellationToken,
    /// The transport can close one direction of a channel. Where it cannot, the connection ends with the server's
    /// direction.
    pub(super) half_close: bool,
}

impl Forward {
    /// Connects and copies until both directions have ended.
    pub(super) async fn run(self, streams: &impl Streams, sandbox: &str) {
        let Self { port, inlet, data, error, reset, half_close } = self;
        match streams.dial(sandbox, port).await {
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
            Err(status) => {
                let message = format!("error forwarding port {port} to pod {sandbox}: {}", status.message());
                let _ = error.send(message).await;
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

/// Forwards each pair of streams that the client opens, until the client is gone.
pub(super) async fn spdy(
    mut connection: Connection,
    streams: Arc<impl Streams>,
    sandbox: String,
    gone: CancellationToken,
) {
    let mut waiting = HashMap::<String, Waiting>::new();
    let mut forwards = JoinSet::new();
    let sandbox: Arc<str> = sandbox.into();
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
                let (streams, sandbox) = (streams.clone(), sandbox.clone());
                forwards.spawn(async move { forward.run(&*streams, &sandbox).await });
            }
            Some(other) => {
                stream.outlet.reset().await;
                waiting.insert(request, other);
            }
            None => drop(waiting.insert(request, Waiting { since: now, stream, is_error })),
        }
    }
}
