//! ExecSync, and the processes of Exec.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_spec::runtime::Spec;
use proto_cri::{ExecSyncRequest, ExecSyncResponse};
use proto_node::monitor::Exec;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Failure;
use crate::lifecycle::{Verdict, Wish, container as may};
use crate::monitor::MonitorError;
use crate::node::{Container, Node, lock};
use crate::plan;

/// Output of ExecSync that is kept, as much as a gRPC message may hold.
const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// How long output may still come when the process has ended but left its pipes to another one.
const DRAIN: Duration = Duration::from_secs(2);

impl Node {
    pub(crate) async fn exec_sync(
        self: &Arc<Self>,
        request: ExecSyncRequest,
    ) -> Result<ExecSyncResponse, Failure> {
        let container = self.container(&request.container_id)?;
        let seconds = u64::try_from(request.timeout).unwrap_or(0);
        let mut exec = self.exec_request(&container, &request.cmd, false)?;
        exec.timeout_ms = (seconds > 0).then(|| seconds.saturating_mul(1000));
        let null = File::open("/dev/null").map_err(Failure::io("open", Path::new("/dev/null")))?;
        let ((stdout, stdout_end), (stderr, stderr_end)) = (pipe()?, pipe()?);
        let client = self.monitor(&container.state.borrow().pod);
        let session = client.exec(exec, Some([null.into(), stdout_end, stderr_end])).await;
        let session = session.map_err(|error| exec_failure(error, &request.cmd, seconds))?;
        let (stdout, stderr) = (Output::of(stdout), Output::of(stderr));
        let exit = session.exited().await;
        // A process left behind may hold the pipes open: what has come by then is the answer.
        let _ = tokio::time::timeout(DRAIN, async { tokio::join!(stdout.ended(), stderr.ended()) }).await;
        let exit = exit.map_err(|error| exec_failure(error, &request.cmd, seconds))?;
        Ok(ExecSyncResponse { stdout: stdout.take(), stderr: stderr.take(), exit_code: exit.exit_code })
    }

    /// A further process of a running container.
    pub(crate) fn exec_request(
        &self,
        container: &Container,
        command: &[String],
        tty: bool,
    ) -> Result<Exec, Failure> {
        if command.is_empty() {
            return Err(Failure::Invalid("cmd: is empty".to_owned()));
        }
        if let Verdict::Refuse(why) = may(container.state.borrow().phase, Wish::Enter) {
            return Err(Failure::Precondition(format!("container {} {why}", container.id)));
        }
        let process = plan::exec(&self.bundled_spec(&container.id)?, command, tty);
        let process = serde_json::to_value(process)
            .map_err(|error| Failure::internal("cannot write the process", &error))?;
        Ok(Exec { container: container.id.clone(), process, timeout_ms: None })
    }

    /// The spec a container was made with.
    pub(crate) fn bundled_spec(&self, id: &str) -> Result<Spec, Failure> {
        let path = self.bundle(id).join("config.json");
        let text = fs::read(&path).map_err(Failure::io("read", &path))?;
        serde_json::from_slice(&text)
            .map_err(|error| Failure::internal("the container's spec is damaged", &error))
    }
}

fn exec_failure(error: MonitorError, command: &[String], seconds: u64) -> Failure {
    match Failure::from(error) {
        Failure::Deadline(_) => {
            Failure::Deadline(format!("{command:?} took longer than {seconds} s and was killed"))
        }
        other => other,
    }
}

/// A pipe: our end, and the process's.
fn pipe() -> Result<(Receiver, OwnedFd), Failure> {
    let fail = |error: std::io::Error| Failure::Internal(format!("cannot make a pipe: {error}"));
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| fail(error.into()))?;
    rustix::io::ioctl_fionbio(&read, true).map_err(|error| fail(error.into()))?;
    Ok((Receiver::from_owned_fd(read).map_err(fail)?, write))
}

/// What a pipe has given so far. Dropping it ends the reading.
struct Output {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: AbortOnDropHandle<()>,
    ended: watch::Receiver<bool>,
}

impl Output {
    /// Reads to the end; what is too much is read and thrown away, so that the process does not block.
    fn of(mut pipe: Receiver) -> Self {
        let kept = Arc::<Mutex<Vec<u8>>>::default();
        let (end, ended) = watch::channel(false);
        let into = kept.clone();
        let reader = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut buffer = vec![0_u8; 16 << 10];
            while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
                let mut kept = lock(&into);
                let room = OUTPUT_BYTES_MAX - kept.len();
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
            end.send_replace(true);
        }));
        Self { kept, reader, ended }
    }

    async fn ended(&self) {
        // An error means that the reader is gone: the end, too.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    fn take(self) -> Vec<u8> {
        self.reader.abort();
        std::mem::take(&mut *lock(&self.kept))
    }
}
