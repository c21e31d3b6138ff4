//! A client with a websocket, a server that knows SPDY alone, and a relay between them.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{self, ClientError, Far, PortForward, Stdio};
use crate::forward::Dial;
use crate::relay::{self, Body, Session};
use crate::{Channels, Offer, Wishes};

const ALL: Wishes = Wishes { stdin: true, stdout: true, stderr: true, tty: false };

struct Loopback;

impl Dial for Loopback {
    async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())
    }
}

/// Echoes input to the output, its length to the other output, and ends with the length's last digits.
async fn echo(mut channels: Channels) {
    let (mut stdin, mut length) = (channels.stdin.take().unwrap(), 0);
    while let Some(data) = stdin.recv().await {
        length += data.len();
        channels.stdout.as_ref().unwrap().send(data).await.unwrap();
    }
    channels.stderr.as_ref().unwrap().send(length.to_string()).await.unwrap();
    channels.end(&Ok(i32::try_from(length % 100).unwrap())).await;
}

/// A server as upstream's older ones are: new websockets are refused.
fn old(mut request: Request<Incoming>) -> Response<String> {
    assert!(!request.headers().contains_key("sec-websocket-protocol"), "it was translated");
    let offer = Offer::read(request.headers()).unwrap();
    let near = hyper::upgrade::on(&mut request);
    let granted = match request.uri().path() {
        "/exec" => offer.command(near, ALL, echo),
        "/portForward" => offer.port_forward(near, &[], Arc::new(Loopback)),
        _ => return Response::builder().status(404).body("nothing here".to_owned()).unwrap(),
    };
    let (answer, work) = granted.unwrap();
    tokio::spawn(work);
    answer
}

async fn relayed(request: Request<Incoming>) -> Response<Body> {
    let (near, far) = duplex(4096);
    let (parts, body) = request.into_parts();
    let upgrade = parts.extensions.get::<OnUpgrade>().cloned().unwrap();
    let request = Request::from_parts(parts, body.map_err(Into::into).boxed_unsync());
    serve(far, |request| std::future::ready(old(request)));
    let session = match request.uri().path() {
        "/portForward" => Session::PortForward,
        _ => Session::Command(ALL),
    };
    relay::translate(near, request, upgrade, session).await.unwrap()
}

fn serve<F, B>(socket: DuplexStream, answer: impl Fn(Request<Incoming>) -> F + Send + 'static)
where
    F: Future<Output = Response<B>> + Send + 'static,
    B: hyper::body::Body<Data: Send, Error: Into<relay::BoxError>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    tokio::spawn(async move {
        let _ = http.with_upgrades().await;
    });
}

/// The client's connection to a relay.
fn far(path: &str) -> Far<DuplexStream> {
    let (near, far) = duplex(4096);
    serve(far, relayed);
    Far { socket: near, place: format!("relay{path}"), headers: http::HeaderMap::new() }
}

async fn run(path: &str, input: Vec<u8>) -> (Result<i32, ClientError>, Vec<u8>, String) {
    let (mut stdout, out) = duplex(4096);
    let (mut stderr, err) = duplex(4096);
    let stdio = Stdio {
        stdin: Some(Box::new(std::io::Cursor::new(input))),
        stdout: Some(Box::new(out)),
        stderr: Some(Box::new(err)),
        resize: None,
    };
    let (mut output, mut other) = (Vec::new(), String::new());
    let (code, _, _) = tokio::join!(
        client::run(far(path), stdio),
        stdout.read_to_end(&mut output),
        stderr.read_to_string(&mut other)
    );
    (code, output, other)
}

#[tokio::test]
async fn a_command_passes_whole() {
    for length in [0, 1, 70_000, 3_000_042] {
        let input: Vec<u8> = (0..length).map(|i: u32| i.to_le_bytes()[i as usize % 3]).collect();
        let (code, output, other) = run("/exec", input.clone()).await;
        assert_eq!(code.unwrap(), i32::try_from(length % 100).unwrap());
        assert!(output == input, "{length} bytes are not those that were sent");
        assert_eq!(other, length.to_string());
    }
}

#[tokio::test]
async fn a_refusal_of_the_far_side_is_the_clients() {
    let (code, ..) = run("/other", Vec::new()).await;
    let told = code.unwrap_err();
    assert!(matches!(&told, ClientError::Refused { code: 404, text } if text == "nothing here"), "{told}");
}

#[tokio::test]
async fn ports_are_forwarded_through_the_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut said = Vec::new();
                socket.read_to_end(&mut said).await.unwrap();
                said.reverse();
                socket.write_all(&said).await.unwrap();
            });
        }
    });
    let (mut forward, run) = PortForward::connect(far("/portForward")).await.unwrap();
    tokio::spawn(run);
    for text in ["first", "second", "third"] {
        let forwarded = forward.open(port).await.unwrap();
        let (mut near, socket) = duplex(4096);
        let user = async {
            near.write_all(text.as_bytes()).await.unwrap();
            near.shutdown().await.unwrap();
            let mut heard = String::new();
            near.read_to_string(&mut heard).await.unwrap();
            heard
        };
        let (copied, heard) = tokio::join!(forwarded.copy(socket), user);
        copied.unwrap();
        assert_eq!(heard, text.chars().rev().collect::<String>());
    }
    let refused = forward.open(1).await.unwrap().copy(duplex(1).0).await.unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
}
