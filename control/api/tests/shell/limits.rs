//! How much is taken, how long it may last, and that nobody takes it all.

use std::sync::atomic::Ordering;
use std::time::Duration;

use apiserver::Config;
use apiserver::reply::Budget;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use crate::client::Running;

/// A list that waits for a revision which never comes.
const WAITS: &str = "/api/v1/configmaps?resourceVersion=99999999&resourceVersionMatch=NotOlderThan";

#[tokio::test]
async fn bodies_are_limited() {
    let running = Running::start().await;
    let admin = running.admin();
    let body = vec![b' '; (3 << 20) + 1];
    for admin in [admin.clone(), admin.http2()] {
        let answer = admin.send(Method::POST, "/api/v1/namespaces/default/configmaps", body.clone()).await;
        assert_eq!((answer.code, answer.json()["reason"].clone()), (413, json!("RequestEntityTooLarge")));
    }
    running.stop().await;
}

#[tokio::test]
async fn the_bodies_of_one_leave_room_for_others() {
    use tokio::io::AsyncWriteExt as _;
    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    let mut config = Config::in_memory();
    config.bodies = Budget::new(1 << 20, 4 << 20);
    let running = Running::with(config).await;
    let held = || running.server.config.bodies.held();
    let user = |name| running.user(name, &["system:masters"]);
    let (noisy, quiet) = (user("noisy"), user("quiet"));
    let map = |name| json!({"metadata": {"name": name}});
    // All but one byte of a body.
    let mut half = noisy.connect(&["http/1.1"]).await;
    let length = 1 << 20;
    let head = format!("POST {MAPS} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
    half.write_all(head.as_bytes()).await.unwrap();
    half.write_all(&vec![b' '; length - 1]).await.unwrap();
    half.flush().await.unwrap();
    crate::client::until("it is held", async || held() == length - 1).await;
    let refused = noisy.post(MAPS, &map("a")).await;
    assert_eq!((refused.code, refused.header("retry-after")), (429, "1"), "{}", refused.text());
    assert_eq!(refused.json()["reason"], "TooManyRequests");
    assert_eq!(noisy.get(MAPS).await.code, 200);
    assert_eq!(quiet.post(MAPS, &map("b")).await.code, 201);
    drop(half);
    crate::client::until("it is given back", async || held() == 0).await;
    assert_eq!(noisy.post(MAPS, &map("a")).await.code, 201);
    assert_eq!(held(), 0);
    running.stop().await;
}

#[tokio::test]
async fn requests_end_in_time() {
    let running = Running::start().await;
    let admin = running.admin();
    let answer = admin.get(&format!("{WAITS}&timeout=20ms")).await;
    assert_eq!((answer.code, answer.json()["reason"].clone()), (504, json!("Timeout")));
    assert_eq!(answer.json()["message"], "Timeout: request did not complete within the allotted timeout");
    assert_eq!(admin.get("/api/v1/configmaps?timeout=never").await.code, 400);
    running.stop().await;
}

#[tokio::test]
async fn the_noisy_does_not_starve_the_quiet() {
    let mut config = Config::in_memory();
    (config.seats, config.queue) = (1, 4);
    config.request_timeout = Duration::from_secs(4);
    let running = Running::with(config).await;
    let (admin, quiet) = (running.admin(), running.user("quiet", &["system:masters"]));
    let wait = format!("{WAITS}&timeout=300ms");
    let noise = join_all((0..12).map(|_| admin.get(&wait)));
    let calm = async {
        crate::client::until("they wait", async || running.server.gate.waiting() > 0).await;
        quiet.get("/api/v1/namespaces/default").await
    };
    let (noise, calm) = tokio::join!(noise, calm);
    assert_eq!(calm.code, 200);
    let refused: Vec<_> = noise.iter().filter(|a| a.code == 429).collect();
    assert!(refused.len() >= 7, "{:?}", noise.iter().map(|a| a.code).collect::<Vec<_>>());
    assert_eq!(
        (refused[0].header("retry-after"), refused[0].json()["reason"].clone()),
        ("1", json!("TooManyRequests"))
    );
    // Health needs no seat.
    assert_eq!(running.anonymous().get("/readyz").await.code, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_broken_handshake_hurts_nobody() {
    use tokio::io::AsyncWriteExt as _;
    let running = Running::start().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], b""] {
        let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
        // The server may have hung up already.
        let _ = stream.write_all(garbage).await;
    }
    assert_eq!(running.admin().get("/api").await.code, 200);
    running.stop().await;
}

#[tokio::test]
async fn who_asks_for_nothing_is_sent_away() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const LONG: Duration = Duration::from_secs(20);
    let mut config = Config::in_memory();
    config.idle = Duration::from_secs(1);
    let running = Running::with(config).await;
    let open = || running.server.metrics.connections.load(Ordering::Relaxed);
    let (before, admin) = (open(), running.admin());
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..];
    for (protocol, said) in [("http/1.1", &b""[..]), ("h2", b""), ("h2", preface)] {
        let mut stream = admin.connect(&[protocol]).await;
        stream.write_all(said).await.unwrap();
        stream.flush().await.unwrap();
        // Whether it ends with a word or without.
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "{protocol} lasts after {} bytes", said.len());
    }
    // One that answers pings.
    let stream = TokioIo::new(admin.connect(&["h2"]).await);
    let (sender, connection) = hyper::client::conn::http2::handshake::<
        _,
        _,
        http_body_util::Full<bytes::Bytes>,
    >(TokioExecutor::new(), stream)
    .await
    .unwrap();
    assert!(tokio::time::timeout(LONG, connection).await.is_ok(), "lasts without a request");
    drop(sender);
    crate::client::until("they are gone", async || open() == before).await;
    // A request may take longer than that.
    for admin in [admin.clone(), admin.http2()] {
        assert_eq!(admin.get(&format!("{WAITS}&timeout=3s")).await.code, 504);
    }
    running.stop().await;
}

#[tokio::test]
async fn without_tls_there_is_a_hint() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let running = Running::start().await;
    let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut text = String::new();
    // The server waits for the client to hear it out.
    while !text.ends_with('\n') || !text.contains("HTTPS") {
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{text}");
    drop(stream);
    running.stop().await;
}
