//! The server on a real socket, spoken to by the websocket client and by a minimal SPDY client.

mod raw;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::Arc;

use proto_cri::{AttachRequest, ExecRequest, PortForwardRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use ::stream::client::{self, ClientError, Far, PortForward, Stdio};
use ::stream::{Headers, Inlet, Side, spdy};

use super::{Session, Streamer, Streams, TerminalSize};

/// Runs commands of this machine.
struct Machine;

impl Streams for Machine {
    async fn exec(&self, request: ExecRequest) -> Result<Session, Status> {
        if request.cmd[0] == "missing" {
            return Err(Status::not_found("executable missing not found"));
        }
        if request.tty {
            return terminal(&request);
        }
        let mut command = Command::new(&request.cmd[0]);
        command.args(&request.cmd[1..]);
        command.stdin(if request.stdin { ProcessStdio::piped() } else { ProcessStdio::null() });
        let mut child = command.stdout(ProcessStdio::piped()).stderr(ProcessStdio::piped()).spawn().unwrap();
        Ok(Session {
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().map(OwnedFd::from),
            stderr: child.stderr.take().map(OwnedFd::from),
            resize: None,
            end: Box::pin(end(child)),
        })
    }

    async fn attach(&self, request: AttachRequest) -> Result<Session, Status> {
        let cmd = vec!["sh".to_owned(), "-c".to_owned(), "echo attached; exit 5".to_owned()];
        let exec = ExecRequest { cmd, stdin: request.stdin, tty: request.tty, ..ExecRequest::default() };
        let mut session = self.exec(exec).await?;
        let exited = session.end;
        session.end = Box::pin(async { exited.await.map(|_| 0) });
        Ok(session)
    }

    async fn dial(&self, _sandbox: &str, port: u16) -> Result<TcpStream, Status> {
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        connected.map_err(|error| Status::unavailable(error.to_string()))
    }
}

async fn end(mut child: Child) -> Result<i32, Status> {
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    Ok(status.code().unwrap_or(137))
}

/// A session on a pty, with `script` to make the slave the command's terminal.
fn terminal(request: &ExecRequest) -> Result<Session, Status> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let side = || ProcessStdio::from(slave.try_clone().unwrap());
    let mut command = Command::new("setsid");
    command.arg("--ctty").args(&request.cmd).stdin(side()).stdout(side()).stderr(side());
    let child = command.spawn().unwrap();
    drop(command);
    drop(slave);
    Ok(Session::on_terminal(master, request.stdin, Box::pin(end(child))).unwrap())
}

/// A running server; dropping it ends it.
struct Server {
    streamer: Streamer,
    _shutdown: tokio_util::sync::DropGuard,
}

async fn server() -> Server {
    let (streamer, listener) = Streamer::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(listener.serve(Arc::new(Machine), shutdown.clone()));
    Server { streamer, _shutdown: shutdown.drop_guard() }
}

fn exec(script: &str) -> ExecRequest {
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    ExecRequest { container_id: "c".to_owned(), cmd, stdin: true, stdout: true, stderr: true, tty: false }
}

fn tty(script: &str) -> ExecRequest {
    ExecRequest { tty: true, stderr: false, ..exec(script) }
}

/// The client's ends, with what the test holds of them.
struct Ends {
    stdin: Option<DuplexStream>,
    stdout: DuplexStream,
    stderr: DuplexStream,
    resize: mpsc::Sender<TerminalSize>,
}

fn stdio() -> (Stdio, Ends) {
    let ((stdin, in_far), (stdout, out_far), (stderr, err_far)) = (duplex(4096), duplex(4096), duplex(4096));
    let (resize, sizes) = mpsc::channel(4);
    let stdio = Stdio {
        stdin: Some(Box::new(in_far)),
        stdout: Some(Box::new(out_far)),
        stderr: Some(Box::new(err_far)),
        resize: Some(sizes),
    };
    (stdio, Ends { stdin: Some(stdin), stdout, stderr, resize })
}

async fn text(mut from: DuplexStream) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_command_over_websocket() {
    let server = server().await;
    let url = server.streamer.exec_url(exec("cat; echo problem >&2; exit 3")).unwrap();
    let (stdio, mut ends) = stdio();
    let mut stdin = ends.stdin.take().unwrap();
    let input = async move {
        stdin.write_all(b"hello").await.unwrap();
        // Dropped here: the command's cat ends only because the client's end of input arrives.
    };
    let (code, (), out, err) =
        tokio::join!(client::command(&url, stdio), input, text(ends.stdout), text(ends.stderr));
    assert_eq!((code.unwrap(), out.as_str(), err.as_str()), (3, "hello", "problem\n"));
}

#[tokio::test]
async fn much_output_arrives_whole_and_what_is_left_behind_does_not_hold_the_session() {
    let server = server().await;
    let url =
        server.streamer.exec_url(exec("sleep 1000 & seq 1 200000; kill $! 2>/dev/null & exit 0")).unwrap();
    let (stdio, ends) = stdio();
    let (code, out) = tokio::join!(client::command(&url, stdio), text(ends.stdout));
    assert_eq!(code.unwrap(), 0);
    assert_eq!(out.lines().count(), 200_000);
    assert!(out.ends_with("\n200000\n"));
}

#[tokio::test]
async fn a_terminal_and_its_size() {
    let server = server().await;
    let url = server.streamer.exec_url(tty("read go; stty size; test -t 1 && exit 7")).unwrap();
    let (stdio, mut ends) = stdio();
    ends.resize.send(TerminalSize { width: 132, height: 43 }).await.unwrap();
    let mut stdin = ends.stdin.take().unwrap();
    let talk = async {
        stdin.write_all(b"go\n").await.unwrap();
        text(ends.stdout).await
    };
    let (code, out) = tokio::join!(client::command(&url, stdio), talk);
    assert_eq!(code.unwrap(), 7);
    assert!(out.contains("43 132"), "{out:?}");
}

#[tokio::test]
async fn attach_reports_success() {
    let server = server().await;
    let request = AttachRequest {
        container_id: "c".to_owned(),
        stdout: true,
        stderr: true,
        ..AttachRequest::default()
    };
    let (stdio, ends) = stdio();
    let url = server.streamer.attach_url(request).unwrap();
    let (code, out) = tokio::join!(client::command(&url, stdio), text(ends.stdout));
    assert_eq!((code.unwrap(), out.as_str()), (0, "attached\n"));
}

#[tokio::test]
async fn a_url_is_good_once_and_failures_have_text() {
    let server = server().await;
    let mut request = exec("");
    request.cmd = vec!["missing".to_owned()];
    let url = server.streamer.exec_url(request).unwrap();
    let failed = client::command(&url, stdio().0).await.unwrap_err().to_string();
    assert!(failed.contains("executable missing not found"), "{failed}");
    let used = client::command(&url, stdio().0).await.unwrap_err();
    assert!(matches!(&used, ClientError::Refused { code: 404, .. }), "{used}");
    let wrong = server.streamer.exec_url(exec("true")).unwrap().replace("/exec/", "/attach/");
    assert!(matches!(client::command(&wrong, stdio().0).await, Err(ClientError::Refused { .. })));
    for (url, part) in [("ftp://x/", "http://HOST"), ("http://127.0.0.1:1/exec/x", "cannot connect")] {
        let error = client::command(url, stdio().0).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn requests_that_cannot_work_get_no_url() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(server());
    for (request, part) in [
        (ExecRequest { container_id: String::new(), ..exec("true") }, "container_id"),
        (ExecRequest { tty: true, ..exec("true") }, "tty and stderr"),
        (ExecRequest { stdin: false, stdout: false, stderr: false, ..exec("true") }, "one of stdin"),
        (ExecRequest { cmd: vec![], ..exec("true") }, "cmd"),
    ] {
        let refused = server.streamer.exec_url(request).unwrap_err();
        assert!(refused.message().contains(part), "{refused}");
    }
    let request = PortForwardRequest { pod_sandbox_id: "s".to_owned(), port: vec![70_000] };
    assert!(server.streamer.port_forward_url(request).unwrap_err().message().contains("70000"));
}

/// Sends back what it gets, and a word more when the client has said all.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                socket.read_to_end(&mut all).await.unwrap();
                all.extend_from_slice(b" indeed");
                let _ = socket.write_all(&all).await;
            });
        }
    });
    port
}

async fn forward_url(server: &Server, port: Vec<i32>) -> String {
    let request = PortForwardRequest { pod_sandbox_id: "s".to_owned(), port };
    server.streamer.port_forward_url(request).unwrap()
}

#[tokio::test]
async fn ports_over_websocket() {
    let (server, port) = (server().await, echo().await);
    let (mut forward, run) =
        PortForward::connect(Far::of_url(&forward_url(&server, vec![]).await).await.unwrap()).await.unwrap();
    let run = tokio::spawn(run);
    for round in ["first", "second"] {
        let connection = forward.open(port).await.unwrap();
        let (mut near, far) = duplex(4096);
        let talk = async {
            near.write_all(round.as_bytes()).await.unwrap();
            near.shutdown().await.unwrap();
            text(near).await
        };
        let (copied, said) = tokio::join!(connection.copy(far), talk);
        copied.unwrap();
        assert_eq!(said, format!("{round} indeed"));
    }
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let refused = forward.open(free).await.unwrap().copy(duplex(1).1).await.unwrap_err().to_string();
    assert!(refused.contains("error forwarding port") && refused.contains("refused"), "{refused}");
    drop(forward);
    run.await.unwrap();
}

/// An upgraded SPDY connection, as kubelet and crictl open it.
async fn spdy_connect(url: &str, protocols: &[&str]) -> (spdy::Connection, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut request =
        format!("POST /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n");
    for protocol in protocols {
        request.push_str(&format!("X-Stream-Protocol-Version: {protocol}\r\n"));
    }
    request.push_str("Content-Length: 0\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let (connection, run) = spdy::connect(socket, Side::Client, CancellationToken::new());
    tokio::spawn(run);
    (connection, String::from_utf8(head).unwrap().to_ascii_lowercase())
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn all(mut inlet: Inlet) -> String {
    let mut all = Vec::new();
    while let Some(data) = inlet.recv().await {
        all.extend_from_slice(&data);
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_command_over_spdy() {
    let server = server().await;
    let status = r#""reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"4"}]}"#;
    for (protocols, answered, report) in [
        (&["v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"][..], "v4.channel.k8s.io", status),
        (&["v3.channel.k8s.io"][..], "v3.channel.k8s.io", "non-zero exit code: 4"),
        (&["v2.channel.k8s.io", "channel.k8s.io"][..], "v2.channel.k8s.io", "non-zero exit code: 4"),
        (&[][..], "101 switching protocols", "non-zero exit code: 4"),
    ] {
        let url = server.streamer.exec_url(exec("cat; echo oh >&2; exit 4")).unwrap();
        let (connection, head) = spdy_connect(&url, protocols).await;
        assert!(head.contains("upgrade: spdy/3.1") && head.contains(answered), "{head}");
        let mut streams = Vec::new();
        for kind in ["error", "stdin", "stdout", "stderr"] {
            streams.push(connection.open(headers(&[("streamtype", kind)])).await.unwrap());
        }
        let [error, stdin, stdout, stderr] = <[_; 4]>::try_from(streams).ok().unwrap();
        stdin.outlet.send("over spdy").await.unwrap();
        stdin.outlet.finish().await;
        let (out, err, ended) = tokio::join!(all(stdout.inlet), all(stderr.inlet), all(error.inlet));
        assert_eq!((out.as_str(), err.as_str()), ("over spdy", "oh\n"));
        assert!(ended.contains(report), "{ended}");
    }
}

#[tokio::test]
async fn a_terminal_over_spdy() {
    let server = server().await;
    let url = server.streamer.exec_url(tty("read go; stty size")).unwrap();
    let (connection, _) = spdy_connect(&url, &["v4.channel.k8s.io"]).await;
    let open = async |kind| connection.open(headers(&[("streamtype", kind)])).await.unwrap();
    let (error, stdin, stdout, resize) =
        (open("error").await, open("stdin").await, open("stdout").await, open("resize").await);
    resize.outlet.send(r#"{"Width":99,"Height":11}"#).await.unwrap();
    // Sizes and input are different streams: without the pause of a round trip they may pass each other.
    stdin.outlet.send("go\n").await.unwrap();
    let (out, ended) = tokio::join!(all(stdout.inlet), all(error.inlet));
    assert!(out.contains("11 99"), "{out}");
    assert_eq!(ended, r#"{"status":"Success"}"#);
}

#[tokio::test]
async fn ports_over_spdy() {
    let (server, port) = (server().await, echo().await);
    let (mut connection, head) =
        spdy_connect(&forward_url(&server, vec![]).await, &["portforward.k8s.io"]).await;
    assert!(head.contains("portforward.k8s.io"));
    let port = port.to_string();
    // With request ids, and as old clients without.
    for request in [Some("7"), None] {
        let open = async |kind| {
            let mut pairs = vec![("streamtype", kind), ("port", port.as_str())];
            pairs.extend(request.map(|request| ("requestid", request)));
            connection.open(headers(&pairs)).await.unwrap()
        };
        let error = open("error").await;
        error.outlet.finish().await;
        let data = open("data").await;
        data.outlet.send("ping").await.unwrap();
        data.outlet.finish().await;
        let (said, problem) = tokio::join!(all(data.inlet), all(error.inlet));
        assert_eq!((said.as_str(), problem.as_str()), ("ping indeed", ""));
    }
    connection.incoming.close();
    let nonsense = connection.open(headers(&[("streamtype", "other"), ("port", "0")])).await.unwrap();
    assert_eq!(all(nonsense.inlet).await, "");
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_command() {
    let server = server().await;
    let dir = std::env::temp_dir().join(format!("cleat-stream-{}", std::process::id()));
    let mark = dir.to_str().unwrap();
    let url = server.streamer.exec_url(exec(&format!("cat; touch {mark}; echo done"))).unwrap();
    let (stdio, ends) = stdio();
    let mut session = Box::pin(client::command(&url, stdio));
    let mut stdin = ends.stdin.unwrap();
    stdin.write_all(b"x").await.unwrap();
    let mut stdout = ends.stdout;
    tokio::select! {
        code = &mut session => panic!("ended early: {code:?}"),
        byte = stdout.read_u8() => assert_eq!(byte.unwrap(), b'x'),
    }
    drop(session);
    // The command's input ends with the session, so it goes on to make the mark.
    while !dir.exists() {
        tokio::task::yield_now().await;
    }
    std::fs::remove_file(dir).unwrap();
}

#[tokio::test]
async fn refuses_what_is_no_upgrade() {
    let server = server().await;
    for (request, code) in [
        ("GET /exec/TOKEN HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("PUT /exec/TOKEN HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("GET /exec/none HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        (
            "GET /exec/TOKEN HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9\r\n\r\n",
            "403",
        ),
    ] {
        let url = server.streamer.exec_url(exec("true")).unwrap();
        let (address, token) = url.strip_prefix("http://").unwrap().split_once("/exec/").unwrap();
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.replace("TOKEN", token).as_bytes()).await.unwrap();
        let mut head = vec![0; 12];
        socket.read_exact(&mut head).await.unwrap();
        assert_eq!(String::from_utf8(head).unwrap(), format!("HTTP/1.1 {code}"), "{request}");
    }
}
