//! Two ends in one process: what stops whom, what ends when, and sessions translated from one protocol to the other.

mod translated;

use futures_util::StreamExt;
use tokio::io::duplex;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tokio_util::sync::CancellationToken;

use crate::channel::{Activity, CHUNK, DEPTH, Outlet, Side};
use crate::{relay, spdy, websocket};

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ceases_and_an_active_one_does_not() {
    let hour = std::time::Duration::from_hours(1);
    let activity = Activity::new();
    let ceased = activity.ceased();
    let mut ceased = std::pin::pin!(ceased);
    for _ in 0..10 {
        assert!(tokio::time::timeout(3 * hour, &mut ceased).await.is_err());
        activity.touch();
    }
    assert!(tokio::time::timeout(5 * hour, &mut ceased).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_body_is_told_in_messages() {
    let told = [Message::binary(""), Message::binary("hello")];
    for (base64, told) in [(false, told), (true, [Message::text(""), Message::text("aGVsbG8=")])] {
        let (near, far) = duplex(1024);
        let server = WebSocketStream::from_raw_socket(near, Role::Server, Some(websocket::config())).await;
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, Some(websocket::config())).await;
        tokio::spawn(websocket::tell(server, relay::full("hello"), base64));
        for message in told {
            assert_eq!(client.next().await.unwrap().unwrap(), message);
        }
        let last = client.next().await.unwrap().unwrap();
        assert!(matches!(last, Message::Close(Some(frame)) if frame.code == CloseCode::Normal));
    }
}

/// How many messages can be said before saying one more waits.
async fn room(outlet: &Outlet) -> usize {
    let second = std::time::Duration::from_secs(1);
    let mut said = 0;
    while let Ok(sent) = tokio::time::timeout(second, outlet.send(vec![0; CHUNK])).await {
        sent.unwrap();
        said += 1;
        assert!(said < 100, "a queue grows");
    }
    said
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_stops_us() {
    let (near, _far) = duplex(1024);
    let socket = WebSocketStream::from_raw_socket(near, Role::Server, Some(websocket::config())).await;
    let (to, from) = mpsc::channel(DEPTH);
    let form = websocket::Form { base64: false, close: true };
    tokio::spawn(websocket::run(socket, form, Side::Server, [].into(), from, CancellationToken::new()));
    assert!(room(&Outlet::new(1, to)).await <= DEPTH + 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_stops_its_peer() {
    let (near, far) = duplex(1024);
    let (client, run) = spdy::connect(near, Side::Client, CancellationToken::new());
    tokio::spawn(run);
    let (mut server, run) = spdy::connect(far, Side::Server, CancellationToken::new());
    tokio::spawn(run);
    let stream = client.open(vec![("streamtype".to_owned(), "stdin".to_owned())]).await.unwrap();
    let mut unread = server.incoming.recv().await.unwrap();
    assert_eq!(unread.header("streamtype"), Some("stdin"));
    let said = room(&stream.outlet).await;
    drop((stream, client));
    let mut heard = 0;
    while let Some(data) = unread.inlet.recv().await {
        heard += data.len();
    }
    assert_eq!(heard, said * CHUNK, "what was said arrives");
}
