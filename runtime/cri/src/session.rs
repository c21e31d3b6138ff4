//! What the streaming server runs: exec sessions, attachments, connections to ports.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use proto_cri::{AttachRequest, ExecRequest};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::Status;

use crate::error::Failure;
use crate::lifecycle::{PodPhase, Verdict, Wish, container as may};
use crate::monitor;
use crate::node::Node;
use crate::stream::{Resize, Session, Streams, TerminalSize};

/// The node as the streaming server sees it.
pub(crate) struct Sessions(pub(crate) Arc<Node>);

impl Streams for Sessions {
    async fn exec(&self, request: ExecRequest) -> Result<Session, Status> {
        let container = self.0.container(&request.container_id)?;
        let exec = self.0.exec_request(&container, &request.cmd, request.tty)?;
        let client = self.0.monitor(&container.state.borrow().pod);
        if request.tty {
            let session = client.exec(exec, None).await.map_err(Failure::from)?;
            let lost = || Status::internal("the monitor gave no terminal");
            let mut session = session;
            let master = session.terminal.take().ok_or_else(lost)?;
            let end = Box::pin(async move { Ok(session.exited().await.map_err(Failure::from)?.exit_code) });
            return Session::on_terminal(master, request.stdin, end)
                .map_err(|error| Status::internal(format!("cannot open the terminal: {error}")));
        }
        let (stdin, stdin_end) = input(request.stdin)?;
        let (stdout, stdout_end) = output(request.stdout)?;
        let (stderr, stderr_end) = output(request.stderr)?;
        let session =
            client.exec(exec, Some([stdin_end, stdout_end, stderr_end])).await.map_err(Failure::from)?;
        let end = Box::pin(async move { Ok(session.exited().await.map_err(Failure::from)?.exit_code) });
        Ok(Session { stdin, stdout, stderr, resize: None, end })
    }

    async fn attach(&self, request: AttachRequest) -> Result<Session, Status> {
        let container = self.0.container(&request.container_id)?;
        let record = container.record();
        if let Verdict::Refuse(why) = may(record.phase, Wish::Enter) {
            return Err(Status::failed_precondition(format!("container {} {why}", container.id)));
        }
        let client = self.0.monitor(&record.pod);
        let (stdin, stdin_end) = match request.stdin && record.config.stdin {
            true => input(true).map(|(ours, theirs)| (ours, Some(theirs)))?,
            false => (None, None),
        };
        let (stdout, stdout_end) = output(request.stdout)?;
        let (stderr, stderr_end) = output(request.stderr && !record.config.tty)?;
        let attached =
            client.attach(&container.id, stdout_end, stderr_end, stdin_end).await.map_err(Failure::from)?;
        let end = Box::pin(async move { Ok(attached.exited().await.map_err(Failure::from)?.exit_code) });
        let resize = record.config.tty.then(|| resizer(client, container.id.clone()));
        Ok(Session { stdin, stdout, stderr, resize, end })
    }

    async fn dial(&self, sandbox: &str, port: u16) -> Result<TcpStream, Status> {
        let pod = self.0.pod(sandbox)?;
        if pod.state.borrow().phase != PodPhase::Ready {
            return Err(Status::failed_precondition(format!("sandbox {} is not ready", pod.id)));
        }
        Ok(self.0.monitor(&pod.id).dial(port).await.map_err(Failure::from)?)
    }
}

fn null(write: bool) -> Result<OwnedFd, Failure> {
    let path = Path::new("/dev/null");
    let opened = OpenOptions::new().read(!write).write(write).open(path);
    Ok(opened.map_err(Failure::io("open", path))?.into())
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failure::Internal(format!("cannot make a pipe: {error}")))
}

/// Our end for the client's input, and the process's.
fn input(wanted: bool) -> Result<(Option<OwnedFd>, OwnedFd), Failure> {
    if !wanted {
        return Ok((None, null(false)?));
    }
    let (read, write) = pipe()?;
    Ok((Some(write), read))
}

/// Our end of the process's output, and the process's.
fn output(wanted: bool) -> Result<(Option<OwnedFd>, OwnedFd), Failure> {
    if !wanted {
        return Ok((None, null(true)?));
    }
    let (read, write) = pipe()?;
    Ok((Some(read), write))
}

/// Tells a container's terminal its sizes, in their order: kubectl tells one that is not the window's and then the window's,
/// for programs to draw themselves anew.
fn resizer(client: monitor::Client, id: String) -> Resize {
    let (sizes, mut wanted) = mpsc::unbounded_channel::<TerminalSize>();
    tokio::spawn(async move {
        while let Some(size) = wanted.recv().await {
            // A container that has just ended has no size to set.
            let _ = client.resize(&id, size.width, size.height).await;
        }
    });
    Box::new(move |size| {
        let _ = sizes.send(size);
    })
}
