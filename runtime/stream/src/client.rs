//! The client's half: runs a session at a streaming URL of a runtime or of an API server, over websocket.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_util::sync::CancellationToken;

use crate::channel::{CHUNK, DEPTH, Headers, Inlet, Outlet, Side};
use crate::session::{ERROR, RESIZE, STDERR, STDIN, STDOUT, TerminalSize};
use crate::websocket::{self, Form};
use crate::{negotiate, spdy, status};

/// Why a session did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not `http://host:port/…`.
    #[error("{0:?} is no streaming URL of the form http://HOST:PORT/PATH")]
    Url(String),
    /// The server cannot be reached.
    #[error("cannot connect to the streaming server at {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The server does not grant the session: the URL has been used, or is older than a minute, or the server
    /// speaks none of our protocols.
    #[error("the streaming server refused the session: {text}")]
    Refused {
        /// The HTTP status; 0 when the answer was no HTTP.
        code: u16,
        /// The body of the answer: a line of text, or a `Status` in JSON.
        text: String,
    },
    /// The connection broke before the server reported an end.
    #[error("the streaming connection broke")]
    Broken,
    /// The server reports that the command, container or port cannot be had.
    #[error("{0}")]
    Failed(String),
}

/// The user's ends of a session.
pub struct Stdio {
    /// What the command reads. Not given: it reads nothing.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Where its output goes. Not given: thrown away.
    pub stdout: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Where its other output goes.
    pub stderr: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Sizes of the terminal: the first one at the start, then each change.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
}

/// A connection to a server, and what to ask there for.
pub struct Far<S> {
    /// TLS, TCP, or what else carries bytes.
    pub socket: S,
    /// `host[:port]/path?query`
    pub place: String,
    /// Credentials, and who we are.
    pub headers: HeaderMap,
}

impl Far<TcpStream> {
    /// Connects to a streaming URL of a runtime.
    ///
    /// # Errors
    /// [`ClientError::Url`] and [`ClientError::Connect`].
    pub async fn of_url(url: &str) -> Result<Self, ClientError> {
        let bad_url = || ClientError::Url(url.to_owned());
        let place = url.strip_prefix("http://").ok_or_else(bad_url)?;
        let (address, _) = place.split_once('/').ok_or_else(bad_url)?;
        let connect = |source| ClientError::Connect { address: address.to_owned(), source };
        let socket = TcpStream::connect(address).await.map_err(connect)?;
        socket.set_nodelay(true).map_err(connect)?;
        Ok(Self { socket, place: place.to_owned(), headers: HeaderMap::new() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Far<S> {
    /// Opens a websocket; answers with the protocol the server chose.
    async fn open(self, protocols: &'static str) -> Result<(WebSocketStream<S>, String), ClientError> {
        let request = format!("ws://{}", self.place).into_client_request();
        let mut request = request.map_err(|_| ClientError::Url(self.place.clone()))?;
        request.headers_mut().extend(self.headers);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
        let config = Some(websocket::config());
        let opening = tokio_tungstenite::client_async_with_config(request, self.socket, config);
        let (socket, answer) = opening.await.map_err(|error| match error {
            WebSocketError::Http(answer) => {
                let text = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                ClientError::Refused { code: answer.status().as_u16(), text: text.trim().to_owned() }
            }
            error => ClientError::Refused { code: 0, text: error.to_string() },
        })?;
        let protocol = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        Ok((socket, protocol.unwrap_or_default().to_owned()))
    }
}

/// Runs the exec or attach session of a runtime's URL; see [`run`].
///
/// # Errors
/// [`ClientError`].
pub async fn command(url: &str, stdio: Stdio) -> Result<i32, ClientError> {
    run(Far::of_url(url).await?, stdio).await
}

/// Runs an exec or attach session and returns its exit code. The output is written and flushed by then.
///
/// # Errors
/// [`ClientError`].
pub async fn run<S>(far: Far<S>, stdio: Stdio) -> Result<i32, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (socket, protocol) = far.open("v5.channel.k8s.io, v4.channel.k8s.io").await?;
    let form = Form { base64: false, close: protocol == negotiate::CLOSABLE };
    let gone = CancellationToken::new();
    let (to, from) = mpsc::channel(DEPTH);
    let mut inlets = HashMap::new();
    let [stdout, stderr, error] = [STDOUT, STDERR, ERROR].map(|channel| {
        let (sender, inlet) = mpsc::channel(DEPTH);
        inlets.insert(channel, sender);
        inlet
    });
    let said = Said {
        stdin: Outlet::new(STDIN.into(), to.clone()),
        resize: Outlet::new(RESIZE.into(), to),
        close: form.close,
    };
    let carry = websocket::run(socket, form, Side::Client, inlets, from, gone);
    let heard = async {
        tokio::join!(write_out(stdout, stdio.stdout), write_out(stderr, stdio.stderr), whole(error))
    };
    let mut heard = std::pin::pin!(heard);
    let talk = async { tokio::join!(carry, said.run(stdio.stdin, stdio.resize)) };
    // The inlets end when the server closes; what we would still say then interests nobody.
    let (_, _, report) = tokio::select! {
        heard = &mut heard => heard,
        _ = talk => heard.await,
    };
    if report.is_empty() {
        return Err(ClientError::Broken);
    }
    status::parse(&report).map_err(ClientError::Failed)
}

/// What the client says.
struct Said {
    stdin: Outlet,
    resize: Outlet,
    close: bool,
}

impl Said {
    async fn run(
        self,
        stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
        resize: Option<mpsc::Receiver<TerminalSize>>,
    ) {
        let input = async {
            let mut buffer = vec![0; CHUNK];
            if let Some(mut stdin) = stdin {
                while let Ok(read @ 1..) = stdin.read(&mut buffer).await {
                    if self.stdin.send(Bytes::copy_from_slice(&buffer[..read])).await.is_err() {
                        return;
                    }
                }
            }
            if self.close {
                self.stdin.finish().await;
            }
        };
        let sizes = async {
            let Some(mut sizes) = resize else { return };
            while let Some(size) = sizes.recv().await {
                let size = serde_json::to_vec(&size).expect("two numbers serialise");
                if self.resize.send(size).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(input, sizes);
        // While the outlets are there the connection stays open.
        std::future::pending::<()>().await;
    }
}

async fn write_out(mut from: Inlet, to: Option<Box<dyn AsyncWrite + Send + Unpin>>) {
    let Some(mut to) = to else {
        while from.recv().await.is_some() {}
        return;
    };
    while let Some(data) = from.recv().await {
        // A reader of ours that has gone (a closed pipe) is no reason to keep the server waiting.
        let _ = to.write_all(&data).await;
        let _ = to.flush().await;
    }
}

async fn whole(mut from: Inlet) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(data) = from.recv().await {
        whole.extend_from_slice(&data);
    }
    whole
}

/// A port-forward session: as many connections as wanted, to any port of the sandbox.
pub struct PortForward {
    connection: spdy::Connection,
    requests: u32,
}

impl PortForward {
    /// Opens a session. The future runs it and must be polled (spawned) as long as it is used.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect<S>(
        far: Far<S>,
    ) -> Result<(PortForward, impl Future<Output = ()> + Send + use<S>), ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (socket, _) = far.open(negotiate::TUNNEL).await?;
        let (near, carry) = websocket::tunnel(socket, Side::Client);
        let (connection, run) = spdy::connect(near, Side::Client, CancellationToken::new());
        let run = async move {
            tokio::join!(carry, run);
        };
        Ok((PortForward { connection, requests: 0 }, run))
    }

    /// A connection to a port. Copy between it and the user's socket by [`Forwarded::copy`].
    ///
    /// # Errors
    /// [`ClientError::Broken`].
    pub async fn open(&mut self, port: u16) -> Result<Forwarded, ClientError> {
        let request = self.requests.to_string();
        self.requests += 1;
        let headers = |kind: &str| -> Headers {
            [("streamtype", kind), ("port", &port.to_string()), ("requestid", &request)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec()
        };
        let error = self.connection.open(headers("error")).await.map_err(|_| ClientError::Broken)?;
        error.outlet.finish().await;
        let data = self.connection.open(headers("data")).await.map_err(|_| ClientError::Broken)?;
        Ok(Forwarded { data, error: error.inlet })
    }
}

/// A connection to a port of a sandbox.
pub struct Forwarded {
    data: spdy::Stream,
    error: Inlet,
}

impl Forwarded {
    /// Copies in both directions until both have ended.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when nothing listens on the port.
    pub async fn copy(self, socket: impl AsyncRead + AsyncWrite) -> Result<(), ClientError> {
        let (mut read, mut write) = tokio::io::split(socket);
        let spdy::Stream { mut inlet, outlet, .. } = self.data;
        let up = async {
            let mut buffer = vec![0; CHUNK];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                if outlet.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
                    return;
                }
            }
            outlet.finish().await;
        };
        let down = async {
            while let Some(data) = inlet.recv().await {
                if write.write_all(&data).await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        };
        let report = async {
            let report = whole(self.error).await;
            if report.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&report).into_owned()) }
        };
        let both = async {
            tokio::join!(up, down);
            Ok(())
        };
        tokio::try_join!(both, report).map(drop).map_err(ClientError::Failed)
    }
}
