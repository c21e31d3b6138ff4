//! Exec and attach: the channels between a client and a command, whichever transport carries them.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use crate::channel::{DEPTH, Inlet, Outlet, Side};
use crate::negotiate::CommandProtocol;
use crate::websocket::Form;
use crate::{spdy, status, websocket};

/// How long a client may take to open the streams of an exec or attach.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const RESIZE: u8 = 4;

/// Which streams a session has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The client sends input.
    pub stdin: bool,
    /// It wants the output.
    pub stdout: bool,
    /// It wants the other output; there is none with a terminal.
    pub stderr: bool,
    /// The command runs on a terminal.
    pub tty: bool,
}

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    #[serde(default)]
    pub width: u16,
    /// Rows.
    #[serde(default)]
    pub height: u16,
}

/// What a transport gives a session.
pub struct Channels {
    /// The client's input.
    pub stdin: Option<Inlet>,
    /// Where output goes.
    pub stdout: Option<Outlet>,
    /// Where the other output goes.
    pub stderr: Option<Outlet>,
    /// Where the last message goes, which says how the session ended.
    pub error: Outlet,
    /// Sizes of the client's terminal, as JSON.
    pub resize: Option<Inlet>,
    /// The form of the last message.
    pub report: Report,
    /// The client has hung up.
    pub gone: CancellationToken,
}

/// The form of a session's last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A `Status` object.
    Json,
    /// A line of text; nothing after success.
    Text,
}

impl Channels {
    /// Ends the session: `ended` is the command's exit code, or why there is none.
    pub async fn end(self, ended: &Result<i32, String>) {
        for outlet in [&self.stdout, &self.stderr].into_iter().flatten() {
            outlet.finish().await;
        }
        let last = match self.report {
            Report::Json => Some(Bytes::from(status::to_json(ended))),
            Report::Text => status::text(ended).map(Bytes::from),
        };
        if let Some(last) = last {
            // A client that is gone needs no report.
            let _ = self.error.send(last).await;
        }
        self.error.finish().await;
    }
}

/// Serves a session over a websocket.
pub(crate) async fn over_websocket<S, F>(
    socket: WebSocketStream<S>,
    protocol: CommandProtocol,
    wishes: Wishes,
    serve: impl FnOnce(Channels) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
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
        serve(channels).await;
    };
    tokio::join!(websocket::run(socket, form, Side::Server, inlets, from, gone), session);
}

/// Serves a session over SPDY.
pub(crate) async fn over_spdy<S, F>(
    socket: S,
    protocol: CommandProtocol,
    wishes: Wishes,
    serve: impl FnOnce(Channels) -> F,
) where
    S: AsyncRead + AsyncWrite,
    F: Future<Output = ()>,
{
    let gone = CancellationToken::new();
    let (connection, run) = spdy::connect(socket, Side::Server, gone.clone());
    let session = async {
        let opening = tokio::time::timeout(STREAMS_TIMEOUT, opened(connection, protocol, wishes, gone));
        match opening.await {
            Ok(Ok(channels)) => serve(channels).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a streaming client hung up before it opened its streams");
            }
            Err(_elapsed) => tracing::warn!("a streaming client did not open its streams within 30 s"),
        }
    };
    tokio::join!(run, session);
}

/// Waits for the streams that the client opens: error, and what it wishes.
async fn opened(
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
