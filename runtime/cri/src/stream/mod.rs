//! The streaming server: exec, attach and port-forward over HTTP, as Kubernetes' clients and kubelet speak them.
//!
//! A CRI call (`Exec`, `Attach`, `PortForward`) stores its request under a token and answers with a URL. Who opens that URL,
//! once and within a minute, gets the session:
//! ```text
//! GET /exec/{token}, /attach/{token}, /portforward/{token}
//! ```
//! The wire is the crate `stream`: it grants what the client offers and gives a session its channels. Here is what is at
//! their other end. Dropping a [`Session`] ends it.

mod command;
mod descriptor;
mod http;
mod token;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;

pub use ::stream::{TerminalSize, client};
use proto_cri::{AttachRequest, ExecRequest, PortForwardRequest};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use token::{Request, Tokens};

/// What the server needs from the node. The text of a [`Status`] reaches the user.
pub trait Streams: Send + Sync + 'static {
    /// Starts a command in a running container, with pipes for the streams that the request wants, or a terminal.
    fn exec(&self, request: ExecRequest) -> impl Future<Output = Result<Session, Status>> + Send;
    /// Attaches to a running container's streams. The session ends when the container does.
    fn attach(&self, request: AttachRequest) -> impl Future<Output = Result<Session, Status>> + Send;
    /// Connects to a port on the loopback of a sandbox.
    fn dial(&self, sandbox: &str, port: u16) -> impl Future<Output = Result<TcpStream, Status>> + Send;
}

/// A running command, or a container one is attached to. Descriptors are pipes, sockets or terminals; the server
/// makes them non-blocking. Dropping the session closes them and drops `end`.
pub struct Session {
    /// Where the client's input goes; closed when the client closes it.
    pub stdin: Option<OwnedFd>,
    /// Where output comes from.
    pub stdout: Option<OwnedFd>,
    /// Where the other output comes from; `None` with a terminal.
    pub stderr: Option<OwnedFd>,
    /// Called for each size the client's terminal takes. Must not block.
    pub resize: Option<Resize>,
    /// The exit code, when the command (or the container) has ended. What is in the pipes then is still delivered.
    pub end: End,
}

/// See [`Session::resize`].
pub type Resize = Box<dyn FnMut(TerminalSize) + Send>;
/// See [`Session::end`].
pub type End = Pin<Box<dyn Future<Output = Result<i32, Status>> + Send>>;

impl Session {
    /// A session on a terminal's master, which the caller opened.
    ///
    /// # Errors
    /// When the master cannot be duplicated.
    pub fn on_terminal(master: OwnedFd, stdin: bool, end: End) -> io::Result<Session> {
        let control = master.try_clone()?;
        let stdin = stdin.then(|| master.try_clone()).transpose()?;
        let resize = Box::new(move |size: TerminalSize| {
            let size = Winsize { ws_col: size.width, ws_row: size.height, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal whose last process has just gone has no size to set.
            let _ = tcsetwinsize(control.as_fd(), size);
        });
        Ok(Session { stdin, stdout: Some(master), stderr: None, resize: Some(resize), end })
    }
}

/// Gives out the URLs. Cheap to clone.
#[derive(Clone)]
pub struct Streamer {
    tokens: Arc<Tokens>,
    address: SocketAddr,
}

/// The bound socket, before it serves.
pub struct Listener {
    socket: TcpListener,
    tokens: Arc<Tokens>,
}

impl Streamer {
    /// Listens on `address` (port 0: any free one).
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(address: SocketAddr) -> io::Result<(Streamer, Listener)> {
        let socket = TcpListener::bind(address).await?;
        let tokens = Arc::new(Tokens::default());
        let streamer = Streamer { tokens: tokens.clone(), address: socket.local_addr()? };
        Ok((streamer, Listener { socket, tokens }))
    }

    /// Where to run a command: `http://127.0.0.1:<port>/exec/<token>`, good once and for a minute.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a request that cannot work, `RESOURCE_EXHAUSTED` when 1000 tokens are open.
    pub fn exec_url(&self, request: ExecRequest) -> Result<String, Status> {
        one_of_the_streams(
            &request.container_id,
            request.tty,
            [request.stdin, request.stdout, request.stderr],
        )?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("cmd: a command must be given"));
        }
        self.url("exec", Request::Exec(request))
    }

    /// Where to attach to a container.
    ///
    /// # Errors
    /// As [`Streamer::exec_url`].
    pub fn attach_url(&self, request: AttachRequest) -> Result<String, Status> {
        one_of_the_streams(
            &request.container_id,
            request.tty,
            [request.stdin, request.stdout, request.stderr],
        )?;
        self.url("attach", Request::Attach(request))
    }

    /// Where to reach a sandbox's ports.
    ///
    /// # Errors
    /// As [`Streamer::exec_url`].
    pub fn port_forward_url(&self, request: PortForwardRequest) -> Result<String, Status> {
        if request.pod_sandbox_id.is_empty() {
            return Err(Status::invalid_argument("pod_sandbox_id: must be given"));
        }
        if let Some(port) = request.port.iter().find(|port| !(1..=65535).contains(*port)) {
            return Err(Status::invalid_argument(format!("port: {port} is not in 1..=65535")));
        }
        self.url("portforward", Request::PortForward(request))
    }

    fn url(&self, path: &str, request: Request) -> Result<String, Status> {
        let token = self.tokens.insert(request)?;
        Ok(format!("http://{}/{path}/{token}", self.address))
    }
}

fn one_of_the_streams(container: &str, tty: bool, streams: [bool; 3]) -> Result<(), Status> {
    if container.is_empty() {
        return Err(Status::invalid_argument("container_id: must be given"));
    }
    if tty && streams[2] {
        return Err(Status::invalid_argument("tty and stderr: a terminal has one output"));
    }
    if streams == [false; 3] {
        return Err(Status::invalid_argument("one of stdin, stdout and stderr must be set"));
    }
    Ok(())
}

impl Listener {
    /// Serves until `shutdown` is cancelled; the sessions that run then end too.
    pub async fn serve(self, streams: Arc<impl Streams>, shutdown: CancellationToken) {
        http::serve(self.socket, self.tokens, streams, shutdown).await;
    }
}
