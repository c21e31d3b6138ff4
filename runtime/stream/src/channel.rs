//! Channels: the streams inside a connection, whichever transport carries them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Messages a channel holds before its sender waits.
pub(crate) const DEPTH: usize = 8;
/// The largest message, in bytes: what is read from a process at once.
pub const CHUNK: usize = 32 * 1024;
/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_hours(4);
/// How long a client may take to close after we have said everything.
const LINGER: Duration = Duration::from_secs(5);

/// What the client says on a channel; ends when it closes the channel or is gone.
pub type Inlet = mpsc::Receiver<Bytes>;
/// Name and value, names in lower case.
pub type Headers = Vec<(String, String)>;

/// What a session says; the transport puts it into frames. When all senders are gone the transport says goodbye.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Data(u32, Bytes),
    /// Nothing more on this channel.
    Finish(u32),
    /// Neither side says more on this channel.
    Reset(u32),
    /// SPDY: the answer to a new stream.
    Reply(u32),
    /// SPDY: the answer to a ping.
    Pong(u32),
    /// SPDY: a new stream of ours.
    Open(Open),
}

/// A stream to open.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) headers: Headers,
    pub(crate) inlet: mpsc::Sender<Bytes>,
    /// Gets the stream's number when the peer has accepted it.
    pub(crate) accepted: oneshot::Sender<u32>,
}

/// The connection is gone.
#[derive(Debug)]
pub struct Gone;

/// Our side of a channel.
#[derive(Debug, Clone)]
pub struct Outlet {
    id: u32,
    to: mpsc::Sender<Outgoing>,
}

impl Outlet {
    pub(crate) fn new(id: u32, to: mpsc::Sender<Outgoing>) -> Self {
        Self { id, to }
    }

    /// Returns when the transport has room.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(&self, data: impl Into<Bytes>) -> Result<(), Gone> {
        self.to.send(Outgoing::Data(self.id, data.into())).await.map_err(|_| Gone)
    }

    /// Says that nothing more comes from this side.
    pub async fn finish(&self) {
        let _ = self.to.send(Outgoing::Finish(self.id)).await;
    }

    /// Says that neither side has more to say.
    pub async fn reset(&self) {
        let _ = self.to.send(Outgoing::Reset(self.id)).await;
    }
}

/// When something last moved on a connection.
pub(crate) struct Activity(Mutex<Instant>);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(crate) fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns when nothing has moved for too long.
    pub(crate) async fn ceased(&self) {
        loop {
            let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + IDLE;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// Which end of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Closes when it has heard and said enough.
    Client,
    /// Lets the client close: closing first could take from it what it has not read yet.
    Server,
}

/// Runs a connection's two directions: until the peer is gone, or we have said everything (and, for a server, the
/// client has closed too).
pub(crate) async fn drive(side: Side, reader: impl Future<Output = ()>, writer: impl Future<Output = ()>) {
    let mut reader = std::pin::pin!(reader);
    tokio::select! {
        () = &mut reader => {}
        () = writer => if side == Side::Server {
            let _ = tokio::time::timeout(LINGER, reader).await;
        },
    }
}
