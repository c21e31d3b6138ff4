//! The websocket forms that our own client does not use, message by message.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;

/// A websocket with these subprotocols offered (none: no header), and the one that was chosen.
async fn connect(url: &str, offered: &str) -> (WebSocketStream<TcpStream>, Option<String>) {
    let rest = url.strip_prefix("http://").unwrap();
    let mut request = format!("ws://{rest}").into_client_request().unwrap();
    if !offered.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
    }
    let socket = TcpStream::connect(rest.split('/').next().unwrap()).await.unwrap();
    let (socket, answer) = tokio_tungstenite::client_async(request, socket).await.unwrap();
    let chosen =
        answer.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
    (socket, chosen)
}

/// Everything up to the server's close, one string a message.
async fn messages(socket: &mut WebSocketStream<TcpStream>) -> Vec<String> {
    let mut messages = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) => messages.push(String::from_utf8(bytes.to_vec()).unwrap()),
            Message::Text(text) => messages.push(text.to_string()),
            Message::Close(_) => break,
            _ => {}
        }
    }
    messages
}

#[tokio::test]
async fn every_form_of_exec() {
    let server = server().await;
    for (offered, chosen, input, expected) in [
        (
            "",
            None,
            Message::binary(b"\0hi\n".to_vec()),
            ["\u{1}", "\u{1}hi\n", "\u{3}command terminated with non-zero exit code: 6"],
        ),
        (
            "channel.k8s.io",
            Some("channel.k8s.io"),
            Message::binary(b"\0hi\n".to_vec()),
            ["\u{1}", "\u{1}hi\n", "\u{3}command terminated with non-zero exit code: 6"],
        ),
        (
            "unknown, v4.channel.k8s.io",
            Some("v4.channel.k8s.io"),
            Message::binary(b"\0hi\n".to_vec()),
            [
                "\u{1}",
                "\u{1}hi\n",
                "\u{3}{\"status\":\"Failure\",\"message\":\"command terminated with non-zero exit code: 6\",\"reason\":\"NonZeroExitCode\",\"details\":{\"causes\":[{\"reason\":\"ExitCode\",\"message\":\"6\"}]}}",
            ],
        ),
        (
            "base64.channel.k8s.io",
            Some("base64.channel.k8s.io"),
            Message::text("0aGkK"),
            ["1", "1aGkK", "3Y29tbWFuZCB0ZXJtaW5hdGVkIHdpdGggbm9uLXplcm8gZXhpdCBjb2RlOiA2"],
        ),
    ] {
        let request = ExecRequest { stderr: false, ..exec("read line; echo $line; exit 6") };
        let (mut socket, answered) = connect(&server.streamer.exec_url(request).unwrap(), offered).await;
        assert_eq!(answered.as_deref(), chosen);
        socket.send(input).await.unwrap();
        assert_eq!(messages(&mut socket).await, expected, "{offered}");
    }
}

#[tokio::test]
async fn ports_as_channels() {
    let (server, port) = (server().await, greeter().await);
    let (low, high) = (port.to_le_bytes()[0], port.to_le_bytes()[1]);
    let url = forward_url(&server, vec![i32::from(port), i32::from(port)]).await;
    let (mut socket, _) = connect(&url, "v4.channel.k8s.io").await;
    let mut channels: [Vec<u8>; 4] = Default::default();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(bytes) = message else { continue };
        channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        if channels[0].len() == 2 && channels[2].len() == 2 {
            for channel in [0, 2] {
                socket.send(Message::binary(vec![channel, b'x'])).await.unwrap();
            }
        }
    }
    let (data, error) = ([&[low, high][..], b"hello x"].concat(), vec![low, high]);
    assert_eq!(channels, [data.clone(), error.clone(), data, error]);
}

/// Says hello, repeats a byte, and hangs up.
async fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let byte = socket.read_u8().await.unwrap();
                socket.write_all(&[b"hello ", &[byte][..]].concat()).await.unwrap();
            });
        }
    });
    port
}

#[tokio::test]
async fn pings_are_answered_and_nonsense_is_ignored() {
    let server = server().await;
    let (mut socket, _) = connect(&server.streamer.exec_url(exec("cat")).unwrap(), "v5.channel.k8s.io").await;
    for message in [
        Message::Ping(Bytes::from_static(b"are you there")),
        Message::binary(vec![]),
        Message::binary(vec![9, 1, 2, 3]),
        Message::binary(vec![255]),
        Message::text("text"),
        Message::binary(vec![255, 0]),
    ] {
        socket.send(message).await.unwrap();
    }
    let mut seen = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        seen.push(message);
    }
    assert!(seen.contains(&Message::Pong(Bytes::from_static(b"are you there"))), "{seen:?}");
    let success = Message::binary(b"\x03{\"status\":\"Success\"}".to_vec());
    assert!(seen.contains(&success), "{seen:?}");
}

#[tokio::test]
async fn the_servers_end_is_the_sessions() {
    let (streamer, listener) = Streamer::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(Arc::new(Machine), shutdown.clone()));
    let (stdio, mut ends) = stdio();
    let url = streamer.exec_url(exec("echo up; cat")).unwrap();
    let end = async {
        assert_eq!(ends.stdout.read_u8().await.unwrap(), b'u');
        shutdown.cancel();
        serving.await.unwrap();
    };
    let (ended, ()) = tokio::join!(client::command(&url, stdio), end);
    assert!(matches!(ended, Err(ClientError::Broken)), "{ended:?}");
}
