//! Channels over a websocket: a message is a channel's number and data, as bytes or in base64.
//!
//! From version 5 on a message of 255 and a channel's number closes that channel.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::channel::{Activity, CHUNK, Outgoing, Side, drive};
use crate::relay::Body;

/// The largest message a peer may send. Clients send what they read at once.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// In place of a channel's number: the next byte names a channel that is closed.
const CLOSE: u8 = 255;

/// Limits of our websockets.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Data(u8, Bytes),
    Close(u8),
}

/// How channels are put into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) base64: bool,
    /// Channels can be closed (version 5).
    pub(crate) close: bool,
}

impl Form {
    /// `None` for what is no channel message; it is ignored.
    pub(crate) fn decode(self, message: &Message) -> Option<Incoming> {
        let bytes = match message {
            Message::Binary(bytes) => bytes.clone(),
            Message::Text(text) => Bytes::from(text.clone()),
            _ => return None,
        };
        let (&channel, data) = bytes.split_first()?;
        if self.base64 {
            let channel = channel.checked_sub(b'0').filter(|channel| *channel < 10)?;
            return Some(Incoming::Data(channel, STANDARD.decode(data).ok()?.into()));
        }
        match (channel, data) {
            (CLOSE, [closed, ..]) if self.close => Some(Incoming::Close(*closed)),
            (CLOSE, _) if self.close => None,
            _ => Some(Incoming::Data(channel, bytes.slice(1..))),
        }
    }

    pub(crate) fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::from(char::from(b'0' + channel));
            STANDARD.encode_string(data, &mut text);
            return Message::text(text);
        }
        let mut bytes = Vec::with_capacity(data.len() + 1);
        bytes.push(channel);
        bytes.extend_from_slice(data);
        Message::binary(bytes)
    }

    /// `None` where the version cannot say it.
    pub(crate) fn encode_close(self, channel: u8) -> Option<Message> {
        self.close.then(|| Message::binary(vec![CLOSE, channel]))
    }
}

/// Runs a connection until it ends; cancels `gone` when the peer is gone.
pub(crate) async fn run<S>(
    socket: WebSocketStream<S>,
    form: Form,
    side: Side,
    inlets: HashMap<u8, mpsc::Sender<Bytes>>,
    from: mpsc::Receiver<Outgoing>,
    gone: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _gone = gone.drop_guard();
    let (sink, stream) = socket.split();
    let activity = Activity::new();
    let reader = async {
        tokio::select! {
            () = receive(stream, form, inlets, &activity) => {}
            () = activity.ceased() => {}
        }
    };
    drive(side, reader, send(sink, form, side, from, &activity)).await;
}

async fn receive<S, E>(
    mut stream: S,
    form: Form,
    mut inlets: HashMap<u8, mpsc::Sender<Bytes>>,
    activity: &Activity,
) where
    S: Stream<Item = Result<Message, E>> + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        activity.touch();
        match form.decode(&message) {
            Some(Incoming::Data(channel, data)) if !data.is_empty() => {
                if let Some(inlet) = inlets.get(&channel) {
                    // One whose reader is gone is left unread.
                    let _ = inlet.send(data).await;
                }
            }
            Some(Incoming::Close(channel)) => drop(inlets.remove(&channel)),
            _ => {}
        }
    }
}

async fn send<S>(mut sink: S, form: Form, side: Side, mut from: mpsc::Receiver<Outgoing>, activity: &Activity)
where
    S: Sink<Message> + Unpin,
{
    let number = |id| u8::try_from(id).expect("websocket channels are numbered in a byte");
    while let Some(outgoing) = from.recv().await {
        let message = match outgoing {
            Outgoing::Data(id, data) => Some(form.encode(number(id), &data)),
            // A server's channels end with the connection.
            Outgoing::Finish(id) if side == Side::Client => form.encode_close(number(id)),
            _ => None,
        };
        if let Some(message) = message
            && sink.send(message).await.is_err()
        {
            return;
        }
        activity.touch();
    }
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = sink.send(Message::Close(Some(close))).await;
}

/// Tells a body, piece by piece as it comes; an empty message comes first and says that there is somebody.
pub(crate) async fn tell<S>(socket: WebSocketStream<S>, mut body: Body, base64: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let reader = async { while let Some(Ok(_)) = stream.next().await {} };
    let writer = async {
        let mut piece = Bytes::new();
        loop {
            let message =
                if base64 { Message::text(STANDARD.encode(&piece)) } else { Message::binary(piece) };
            if sink.send(message).await.is_err() {
                return;
            }
            let Some(Ok(frame)) = body.frame().await else { break };
            piece = frame.into_data().unwrap_or_default();
        }
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = sink.send(Message::Close(Some(close))).await;
    };
    drive(Side::Server, reader, writer).await;
}

/// The bytes inside a websocket's binary messages, and the future that carries them, to be polled until it ends.
pub(crate) fn tunnel<S>(socket: WebSocketStream<S>, side: Side) -> (DuplexStream, impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (near, far) = tokio::io::duplex(CHUNK);
    let carry = async move {
        let (mut sink, mut stream) = socket.split();
        let (mut read, mut write) = tokio::io::split(far);
        let reader = async {
            while let Some(Ok(message)) = stream.next().await {
                if let Message::Binary(bytes) = message
                    && write.write_all(&bytes).await.is_err()
                {
                    return;
                }
            }
            let _ = write.shutdown().await;
        };
        let writer = async {
            let mut buffer = vec![0; CHUNK];
            while let Ok(read @ 1..) = read.read(&mut buffer).await {
                if sink.send(Message::binary(buffer[..read].to_vec())).await.is_err() {
                    return;
                }
            }
            let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            let _ = sink.send(Message::Close(Some(close))).await;
        };
        drive(side, reader, writer).await;
    };
    (near, carry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMS: [Form; 3] = [
        Form { base64: false, close: true },
        Form { base64: false, close: false },
        Form { base64: true, close: false },
    ];

    proptest! {
        #[test]
        fn data_survives(channel in 0..5u8, data in prop::collection::vec(any::<u8>(), 0..100)) {
            for form in FORMS {
                let message = form.encode(channel, &data);
                prop_assert_eq!(form.decode(&message), Some(Incoming::Data(channel, data.clone().into())));
            }
        }
    }

    #[test]
    fn what_the_protocol_says() {
        let [v5, v4, base64] = FORMS;
        assert_eq!(v5.encode(1, b"hi"), Message::binary(b"\x01hi".to_vec()));
        assert_eq!(base64.encode(1, b"hi"), Message::text("1aGk="));
        assert_eq!(v5.decode(&Message::binary(vec![255, 0])), Some(Incoming::Close(0)));
        assert_eq!(v5.encode_close(0), Some(Message::binary(vec![255, 0])));
        assert_eq!(v4.encode_close(0), None);
        assert_eq!(
            v4.decode(&Message::binary(vec![255, 0])),
            Some(Incoming::Data(255, Bytes::from_static(&[0])))
        );
        for nonsense in [Message::binary(vec![]), Message::Ping(Bytes::new()), Message::binary(vec![255])] {
            assert_eq!(v5.decode(&nonsense), None);
        }
        for nonsense in ["", "x", "1!", "/aGk="] {
            assert_eq!(base64.decode(&Message::text(nonsense)), None, "{nonsense}");
        }
    }
}
