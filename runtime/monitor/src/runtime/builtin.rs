//! Our own OCI runtime, by its library.

use oci::{CreateOptions, ExecOptions, Parent, Process, Rootfs, RuntimeError};
use proto_node::monitor::ErrorKind;

use crate::pod::{Failure, Work};
use crate::worker::{Made, Stdio, Task};

/// Does the work of a task.
pub(crate) fn perform(task: &Task, stdio: Stdio) -> Result<Option<Made>, Failure> {
    let (root, id) = (task.oci_root.as_path(), task.target.id.as_str());
    match &task.work {
        Work::Create(create) => {
            let overlay = &create.overlay;
            let rootfs =
                Rootfs::Overlay { lower: &overlay.lower, upper: &overlay.upper, work: &overlay.work };
            let bundle = task.target.bundle.as_path();
            let (stdio, parent) = (stdio.into(), Parent::Sibling);
            let made =
                oci::create(CreateOptions { id, root, bundle, rootfs, stdio, parent, preserve_fds: 0 })?;
            return Ok(Some(made.into()));
        }
        Work::Exec { process } => {
            let process = serde_json::from_value(process.clone()).map_err(|error| {
                Failure::new(ErrorKind::InvalidArgument, format!("exec in {id}: process: {error}"))
            })?;
            let (process, stdio, parent) = (&process, stdio.into(), Parent::Sibling);
            return Ok(Some(
                oci::exec(ExecOptions { id, root, process, stdio, parent, preserve_fds: 0 })?.into(),
            ));
        }
        Work::Update { resources } => {
            let resources = serde_json::from_value(resources.clone()).map_err(|error| {
                Failure::new(ErrorKind::InvalidArgument, format!("update of {id}: resources: {error}"))
            })?;
            oci::update(root, id, &resources)?;
        }
        Work::Start => oci::start(root, id)?,
        Work::Kill { signal } => oci::kill(root, id, *signal, true)?,
        Work::Delete => oci::delete(root, id, true)?,
        Work::KillSession { .. } => {}
    }
    Ok(None)
}

impl From<Stdio> for oci::Stdio {
    fn from(stdio: Stdio) -> Self {
        match stdio {
            Stdio::Fds([stdin, stdout, stderr]) => Self::Fds { stdin, stdout, stderr },
            Stdio::Terminal => Self::Terminal,
        }
    }
}

impl From<Process> for Made {
    fn from(process: Process) -> Self {
        Self { pid: process.pid, terminal: process.terminal }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let kind = match error.kind() {
            oci::ErrorKind::InvalidSpec => ErrorKind::InvalidArgument,
            oci::ErrorKind::NotFound => ErrorKind::NotFound,
            oci::ErrorKind::WrongState => ErrorKind::FailedPrecondition,
            oci::ErrorKind::Kernel => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
