//! The client of a pod's monitor: one connection for each request, see [`proto_node::monitor`].
//!
//! Dropping a future hangs up; the monitor goes on with what it was asked for. So a creation that was cancelled may
//! still happen: ask for the [`Client::status`].

mod program;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::{packet, stat};
use proto_node::monitor::{
    Create, ErrorKind, Event, Exec, ExitRecord, MESSAGE_BYTES_MAX, MonitorState, Request, Response,
    SOCKET_FILE, STATE_FILE, Status,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;

pub use program::{MonitorProgram, spawn};

/// Why the monitor did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// Nobody listens, or the monitor died before it answered. Its containers' streams died with it: end the pod.
    #[error("{dir}: the monitor is gone", dir = .dir.display())]
    Gone {
        /// The monitor's directory.
        dir: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The monitor refused, and nothing half-made is left.
    #[error("{message}")]
    Refused {
        /// What can be made of it.
        kind: ErrorKind,
        /// For people.
        message: String,
    },
    /// It speaks another language: what it said instead of the expected answer.
    #[error("{dir}: unexpected answer: {answer}", dir = .dir.display())]
    Unexpected {
        /// The monitor's directory.
        dir: PathBuf,
        /// The answer.
        answer: String,
    },
    /// It could not be started: its own words, or ours when it has none.
    #[error("{dir}: the monitor did not start: {why}", dir = .dir.display())]
    Start {
        /// The monitor's directory.
        dir: PathBuf,
        /// Why.
        why: String,
    },
    /// A file of ours or of the monitor's cannot be read or written.
    #[error("{path}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The monitor of one pod, by its directory. Cheap to make and to clone; nothing is kept open.
#[derive(Debug, Clone)]
pub struct Client {
    dir: PathBuf,
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct ExecSession {
    /// Its process id, as the host sees it.
    pub pid: u32,
    /// The master of its terminal, blocking, if it has one.
    pub terminal: Option<OwnedFd>,
    connection: Connection,
}

/// A client's descriptors on a container's streams.
#[derive(Debug)]
pub struct Attachment {
    connection: Connection,
}

/// Exits of a pod's containers, as they happen.
#[derive(Debug)]
pub struct Events {
    connection: Connection,
}

impl Client {
    /// The monitor that works in `dir` (`<run>/pods/<sandbox id>`).
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes a container that waits for [`Self::start`]. Answers its process id.
    ///
    /// # Errors
    /// See [`MonitorError`], here and below.
    pub async fn create(&self, create: Create) -> Result<u32, MonitorError> {
        match self.ask(&Request::Create(create), &[]).await? {
            (Response::Created { pid }, _, _) => Ok(pid),
            (other, ..) => Err(self.unexpected(&other)),
        }
    }

    /// Starts the user's process of a created container.
    ///
    /// # Errors
    /// `FailedPrecondition` when it is not a created one.
    pub async fn start(&self, container: &str) -> Result<(), MonitorError> {
        self.done(Request::Start { container: container.to_owned() }).await
    }

    /// Signals a container's first process, or all its processes. One that has ended is no error.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for what is no signal.
    pub async fn kill(&self, container: &str, signal: i32, all: bool) -> Result<(), MonitorError> {
        self.done(Request::Kill { container: container.to_owned(), signal, all }).await
    }

    /// Removes what is left of a container that has ended. One that does not exist is no error.
    ///
    /// # Errors
    /// `FailedPrecondition` while it lives.
    pub async fn delete(&self, container: &str) -> Result<(), MonitorError> {
        self.done(Request::Delete { container: container.to_owned() }).await
    }

    /// How the container ended, when it has.
    ///
    /// # Errors
    /// `NotFound`; [`MonitorError::Gone`] when the monitor dies first.
    pub async fn wait(&self, container: &str) -> Result<ExitRecord, MonitorError> {
        let (response, ..) = self.ask(&Request::Wait { container: container.to_owned() }, &[]).await?;
        self.exit(response)
    }

    /// Runs a further process in a running container. `stdio` is its stdin, stdout and stderr, without which it gets
    /// a terminal; `exec.process` must say the same.
    ///
    /// # Errors
    /// `FailedPrecondition` when the container does not run; `InvalidArgument` when the process cannot.
    pub async fn exec(&self, exec: Exec, stdio: Option<[OwnedFd; 3]>) -> Result<ExecSession, MonitorError> {
        let descriptors: Vec<_> = stdio.iter().flatten().map(AsFd::as_fd).collect();
        let (response, mut received, connection) = self.ask(&Request::Exec(exec), &descriptors).await?;
        match response {
            Response::ExecStarted { pid } => Ok(ExecSession { pid, terminal: received.pop(), connection }),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Copies a container's output to `stdout` and `stderr`, which lose what they do not take in time, and `stdin`
    /// to its stdin, until the answer is dropped. All are made non-blocking.
    ///
    /// # Errors
    /// `FailedPrecondition` when the container has ended.
    pub async fn attach(
        &self,
        container: &str,
        stdout: OwnedFd,
        stderr: OwnedFd,
        stdin: Option<OwnedFd>,
    ) -> Result<Attachment, MonitorError> {
        let given = [Some(stdout), Some(stderr), stdin];
        let descriptors: Vec<_> = given.iter().flatten().map(AsFd::as_fd).collect();
        match self.ask(&Request::Attach { container: container.to_owned() }, &descriptors).await? {
            (Response::Done, _, connection) => Ok(Attachment { connection }),
            (other, ..) => Err(self.unexpected(&other)),
        }
    }

    /// Sets the size of a container's terminal, in characters.
    ///
    /// # Errors
    /// `FailedPrecondition` when it has none.
    pub async fn resize(&self, container: &str, width: u16, height: u16) -> Result<(), MonitorError> {
        self.done(Request::Resize { container: container.to_owned(), width, height }).await
    }

    /// Lets the log go on in a new file after its rotation.
    ///
    /// # Errors
    /// `Internal` when it cannot be opened; the old one goes on then.
    pub async fn reopen_log(&self, container: &str) -> Result<(), MonitorError> {
        self.done(Request::ReopenLog { container: container.to_owned() }).await
    }

    /// Changes a living container's resources: OCI `linux.resources`.
    ///
    /// # Errors
    /// `FailedPrecondition` when it has ended.
    pub async fn update(&self, container: &str, resources: serde_json::Value) -> Result<(), MonitorError> {
        self.done(Request::Update { container: container.to_owned(), resources }).await
    }

    /// A connection to a TCP port on the pod's loopback, IPv4 before IPv6.
    ///
    /// # Errors
    /// `FailedPrecondition` when nobody listens there.
    pub async fn dial(&self, port: u16) -> Result<tokio::net::TcpStream, MonitorError> {
        match self.ask(&Request::Dial { port }, &[]).await? {
            (Response::Done, mut received, _) if received.len() == 1 => {
                let socket = std::net::TcpStream::from(received.remove(0));
                tokio::net::TcpStream::from_std(socket).map_err(|source| self.gone(source))
            }
            (other, ..) => Err(self.unexpected(&other)),
        }
    }

    /// The pod's containers.
    ///
    /// # Errors
    /// [`MonitorError::Gone`].
    pub async fn status(&self) -> Result<Status, MonitorError> {
        match self.ask(&Request::Status, &[]).await? {
            (Response::Status(status), ..) => Ok(status),
            (other, ..) => Err(self.unexpected(&other)),
        }
    }

    /// The exits from now on. Ask for the status afterwards, and no exit is missed.
    ///
    /// # Errors
    /// [`MonitorError::Gone`].
    pub async fn watch(&self) -> Result<Events, MonitorError> {
        match self.ask(&Request::Watch, &[]).await? {
            (Response::Done, _, connection) => Ok(Events { connection }),
            (other, ..) => Err(self.unexpected(&other)),
        }
    }

    /// Ends the monitor and with it the pod's namespaces. Returns when it is dead.
    ///
    /// # Errors
    /// `FailedPrecondition` while a container lives.
    pub async fn shutdown(&self) -> Result<(), MonitorError> {
        let state = self.state();
        self.done(Request::Shutdown).await?;
        match state {
            Ok(state) => death(&state).await.map_err(|source| self.gone(source)),
            Err(_) => Ok(()),
        }
    }

    /// Where the monitor and the pod's namespaces are, as it wrote it down when it started.
    ///
    /// # Errors
    /// [`MonitorError::File`] when it never got that far.
    pub fn state(&self) -> Result<MonitorState, MonitorError> {
        let path = self.dir.join(STATE_FILE);
        let state = std::fs::read(&path).and_then(|state| Ok(serde_json::from_slice(&state)?));
        state.map_err(|source| MonitorError::File { path, source })
    }

    async fn done(&self, request: Request) -> Result<(), MonitorError> {
        match self.ask(&request, &[]).await? {
            (Response::Done, ..) => Ok(()),
            (other, ..) => Err(self.unexpected(&other)),
        }
    }

    /// Sends a request and waits for the first answer.
    async fn ask(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Response, Vec<OwnedFd>, Connection), MonitorError> {
        let message = serde_json::to_vec(request).map_err(|error| self.gone(error.into()))?;
        if message.len() > MESSAGE_BYTES_MAX {
            let message =
                format!("a request of {} bytes, at most {MESSAGE_BYTES_MAX} are allowed", message.len());
            return Err(MonitorError::Refused { kind: ErrorKind::InvalidArgument, message });
        }
        let connection = Connection::open(self.clone()).await?;
        connection.send(&message, descriptors).await?;
        let (response, received) = connection.receive().await?;
        Ok((response, received, connection))
    }

    fn exit(&self, response: Response) -> Result<ExitRecord, MonitorError> {
        match response {
            Response::Exited(exit) => Ok(exit),
            other => Err(self.unexpected(&other)),
        }
    }

    fn gone(&self, source: io::Error) -> MonitorError {
        MonitorError::Gone { dir: self.dir.clone(), source }
    }

    fn unexpected(&self, response: &Response) -> MonitorError {
        MonitorError::Unexpected { dir: self.dir.clone(), answer: format!("{response:?}") }
    }
}

impl ExecSession {
    /// How the process ended, when it has.
    ///
    /// # Errors
    /// `DeadlineExceeded` when its time was over and it was killed; [`MonitorError::Gone`].
    pub async fn exited(&self) -> Result<ExitRecord, MonitorError> {
        let (response, _) = self.connection.receive().await?;
        self.connection.client.exit(response)
    }
}

impl Attachment {
    /// How the container ended, when it has; all its output has been copied then.
    ///
    /// # Errors
    /// [`MonitorError::Gone`].
    pub async fn exited(&self) -> Result<ExitRecord, MonitorError> {
        let (response, _) = self.connection.receive().await?;
        self.connection.client.exit(response)
    }
}

impl Events {
    /// The next one. Cancelling loses none.
    ///
    /// # Errors
    /// [`MonitorError::Gone`], also when we did not keep up: ask for the status.
    pub async fn next(&self) -> Result<Event, MonitorError> {
        match self.connection.receive().await?.0 {
            Response::Event(event) => Ok(event),
            other => Err(self.connection.client.unexpected(&other)),
        }
    }
}

#[derive(Debug)]
struct Connection {
    client: Client,
    /// tokio has no type for `SOCK_SEQPACKET`; of this one only the readiness is used.
    socket: UnixDatagram,
}

impl Connection {
    async fn open(client: Client) -> Result<Self, MonitorError> {
        let socket = loop {
            match packet::connect(&client.dir, SOCKET_FILE) {
                // More of us wait than the monitor's backlog holds; the kernel offers nothing to wait for.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                connected => break connected,
            }
        };
        let socket = socket
            .and_then(|socket| UnixDatagram::from_std(socket.into()))
            .map_err(|source| client.gone(source))?;
        Ok(Self { client, socket })
    }

    async fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), MonitorError> {
        let sent =
            self.socket.async_io(Interest::WRITABLE, || packet::send(&self.socket, message, descriptors));
        sent.await.map_err(|source| self.client.gone(source))
    }

    async fn receive(&self) -> Result<(Response, Vec<OwnedFd>), MonitorError> {
        let received =
            self.socket.async_io(Interest::READABLE, || packet::receive(&self.socket, MESSAGE_BYTES_MAX));
        let (message, descriptors) = received.await.map_err(|source| self.client.gone(source))?;
        if message.is_empty() {
            return Err(self.client.gone(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&message) {
            Ok(Response::Error { kind, message }) => Err(MonitorError::Refused { kind, message }),
            Ok(response) => Ok((response, descriptors)),
            Err(error) => {
                Err(MonitorError::Unexpected { dir: self.client.dir.clone(), answer: error.to_string() })
            }
        }
    }
}

/// Whether the process that wrote this state lives. Its number may have gone to another one since.
pub fn alive(state: &MonitorState) -> bool {
    stat::of(state.pid)
        .is_ok_and(|stat| stat.start_time == state.start_time && !matches!(stat.state, 'Z' | 'X'))
}

/// Returns when the process that wrote this state is dead.
///
/// # Errors
/// When the kernel gives us no descriptor for it.
pub async fn death(state: &MonitorState) -> io::Result<()> {
    let pid = i32::try_from(state.pid).ok().and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else { return Ok(()) };
    let pidfd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        opened => opened?,
    };
    // The descriptor holds whatever process has the number now, so look again.
    if !alive(state) {
        return Ok(());
    }
    // Here too only the readiness is used: nothing can be read from a process.
    pipe::Receiver::from_owned_fd_unchecked(pidfd)?.readable().await
}
