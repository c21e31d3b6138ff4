//! SPDY/3.1 (the SPDY protocol, draft 3.1) over any byte stream, either side of it.

mod frame;
mod headers;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::channel::{Activity, CHUNK, DEPTH, Gone, Headers, Inlet, Open, Outgoing, Outlet, Side, drive};
use frame::{CANCEL, Decoder, Encoder, Frame};

/// Streams the peer may have open at once.
const STREAMS_MAX: usize = 512;

/// A stream the peer opened, or we did. Dropping it leaves it open; its outlet finishes or resets it.
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What it was opened with.
    pub headers: Headers,
    /// What the peer says.
    pub inlet: Inlet,
    /// What we say.
    pub outlet: Outlet,
    /// The peer wants no more of it.
    pub reset: CancellationToken,
}

impl Stream {
    /// A header's value; names are in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Our hold of a connection. When it and all outlets are dropped the connection says goodbye.
pub struct Connection {
    /// Streams the peer opens.
    pub incoming: mpsc::Receiver<Stream>,
    to: mpsc::Sender<Outgoing>,
}

impl Connection {
    /// Opens a stream and waits until the peer accepts it.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn open(&self, headers: Headers) -> Result<Stream, Gone> {
        let (inlet, receiver) = mpsc::channel(DEPTH);
        let (accepted, acceptance) = oneshot::channel();
        let open = Open { headers: headers.clone(), inlet, accepted };
        self.to.send(Outgoing::Open(open)).await.map_err(|_| Gone)?;
        let id = acceptance.await.map_err(|_| Gone)?;
        let outlet = Outlet::new(id, self.to.clone());
        Ok(Stream { id, headers, inlet: receiver, outlet, reset: CancellationToken::new() })
    }
}

/// What the two directions share about the peer's half of each stream.
struct Half {
    inlet: mpsc::Sender<Bytes>,
    reset: CancellationToken,
    /// Of a stream we opened and the peer has not accepted yet.
    accepted: Option<oneshot::Sender<u32>>,
}

#[derive(Default)]
struct Halves(Mutex<HashMap<u32, Half>>);

impl Halves {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Half>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection and the future that runs it, to be polled until it ends; it cancels `gone` when the peer is gone.
pub fn connect<S>(socket: S, side: Side, gone: CancellationToken) -> (Connection, impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite,
{
    let (to, from) = mpsc::channel(DEPTH);
    let (accept, incoming) = mpsc::channel(DEPTH);
    let weak = to.downgrade();
    let run = async move {
        let _gone = gone.drop_guard();
        let (read, write) = tokio::io::split(socket);
        let (halves, activity) = (Halves::default(), Activity::new());
        let reader = async {
            tokio::select! {
                () = receive(read, &halves, &activity, &accept, &weak) => {}
                () = activity.ceased() => {}
            }
        };
        drive(side, reader, send(write, &halves, &activity, from)).await;
    };
    (Connection { incoming, to }, run)
}

async fn receive(
    mut socket: impl AsyncRead + Unpin,
    halves: &Halves,
    activity: &Activity,
    accept: &mpsc::Sender<Stream>,
    to: &mpsc::WeakSender<Outgoing>,
) {
    let mut decoder = Decoder::new();
    loop {
        loop {
            match decoder.next() {
                Ok(Some(frame)) => take(frame, halves, accept, to).await,
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "a streaming client sent what is no SPDY");
                    return;
                }
            }
        }
        decoder.buffer.reserve(CHUNK);
        if !matches!(socket.read_buf(&mut decoder.buffer).await, Ok(1..)) {
            return;
        }
        activity.touch();
    }
}

/// Applies a frame. Waits while the stream it is for has no room: so does the peer then.
async fn take(frame: Frame, halves: &Halves, accept: &mpsc::Sender<Stream>, to: &mpsc::WeakSender<Outgoing>) {
    match frame {
        Frame::SynStream { id, headers, fin } => syn_stream(id, headers, fin, halves, accept, to).await,
        Frame::SynReply { id, fin, .. } => {
            let mut halves = halves.lock();
            if let Some(accepted) = halves.get_mut(&id).and_then(|half| half.accepted.take()) {
                let _ = accepted.send(id);
            }
            if fin {
                halves.remove(&id);
            }
        }
        Frame::Reset { id, .. } => {
            if let Some(half) = halves.lock().remove(&id) {
                half.reset.cancel();
            }
        }
        Frame::Ping(id) => answer(to, Outgoing::Pong(id)).await,
        // The streams there are go on; there will be no more.
        Frame::GoAway { .. } => {}
        Frame::Data { id, data, fin } => {
            let inlet = halves.lock().get(&id).map(|half| half.inlet.clone());
            if let Some(inlet) = inlet
                && !data.is_empty()
            {
                // One whose reader is gone is left unread.
                let _ = inlet.send(data).await;
            }
            if fin {
                halves.lock().remove(&id);
            }
        }
    }
}

async fn syn_stream(
    id: u32,
    headers: Headers,
    fin: bool,
    halves: &Halves,
    accept: &mpsc::Sender<Stream>,
    to: &mpsc::WeakSender<Outgoing>,
) {
    let Some(strong) = to.upgrade() else { return };
    let (inlet, receiver) = mpsc::channel(DEPTH);
    let reset = CancellationToken::new();
    let refused = {
        let mut halves = halves.lock();
        if halves.len() >= STREAMS_MAX {
            halves.retain(|_, half| !half.inlet.is_closed());
        }
        let refused = halves.len() >= STREAMS_MAX || halves.contains_key(&id);
        if !refused && !fin {
            halves.insert(id, Half { inlet, reset: reset.clone(), accepted: None });
        }
        refused
    };
    if refused {
        let _ = strong.send(Outgoing::Reset(id)).await;
        return;
    }
    let _ = strong.send(Outgoing::Reply(id)).await;
    let outlet = Outlet::new(id, strong);
    // Nobody accepts any more: the session is ending.
    let _ = accept.send(Stream { id, headers, inlet: receiver, outlet, reset }).await;
}

async fn answer(to: &mpsc::WeakSender<Outgoing>, answer: Outgoing) {
    if let Some(to) = to.upgrade() {
        let _ = to.send(answer).await;
    }
}

async fn send(
    mut socket: impl AsyncWrite + Unpin,
    halves: &Halves,
    activity: &Activity,
    mut from: mpsc::Receiver<Outgoing>,
) {
    let (mut encoder, mut next_id) = (Encoder::new(), 1);
    while let Some(outgoing) = from.recv().await {
        let frame = match outgoing {
            Outgoing::Data(id, data) => Frame::Data { id, data, fin: false },
            Outgoing::Finish(id) => Frame::Data { id, data: Bytes::new(), fin: true },
            Outgoing::Reset(id) => {
                halves.lock().remove(&id);
                Frame::Reset { id, status: CANCEL }
            }
            Outgoing::Reply(id) => Frame::SynReply { id, headers: Headers::new(), fin: false },
            Outgoing::Pong(id) => Frame::Ping(id),
            Outgoing::Open(Open { headers, inlet, accepted }) => {
                let id = next_id;
                next_id += 2;
                let half = Half { inlet, reset: CancellationToken::new(), accepted: Some(accepted) };
                halves.lock().insert(id, half);
                Frame::SynStream { id, headers, fin: false }
            }
        };
        if socket.write_all(&encoder.encode(&frame)).await.is_err() {
            return;
        }
        activity.touch();
    }
    let _ = socket.write_all(&encoder.encode(&Frame::GoAway { last: 0 })).await;
    let _ = socket.flush().await;
}
