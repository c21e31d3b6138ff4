//! Workers: copies of this process that drive the OCI runtime, report once, and end. So the monitor neither blocks
//! nor keeps what the work allocates, and the processes made are its own children.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::{fork, packet};
use proto_node::monitor::{ErrorKind, MESSAGE_BYTES_MAX, Runtime};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::pod::{Failure, Report, Target, Work};
use crate::{oom, runtime, session};

/// The longest error text a worker sends, in bytes.
const TEXT_MAX: usize = 8 * 1024;

/// Standard input, output and error for a process to be made.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// These.
    Fds([OwnedFd; 3]),
    /// A new terminal.
    Terminal,
}

/// What a worker is given.
pub(crate) struct Task {
    pub(crate) oci_root: PathBuf,
    pub(crate) target: Target,
    pub(crate) work: Work,
}

/// A worker that has not been reaped.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: Pid,
    report: OwnedFd,
}

impl Worker {
    /// Starts one. `stdio` is for the process it makes, if it makes one.
    pub(crate) fn start(task: Task, stdio: Option<Stdio>) -> io::Result<Self> {
        let (ours, theirs) = packet::pair()?;
        ioctl_fionbio(&ours, true)?;
        let mut keep = vec![theirs];
        if let Some(Stdio::Fds(fds)) = stdio {
            keep.extend(fds);
        }
        let pid = fork::spawn(keep, |keep| work(&task, keep))?;
        Ok(Self { pid, report: ours })
    }

    /// Kills it and the programs it runs, runtimes and hooks.
    pub(crate) fn kill(&self) {
        // It may not have come to lead its group yet; then it runs no program either.
        if kill_process_group(self.pid, Signal::KILL).is_err() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }

    /// What it said before it was reaped, and the terminal it handed over.
    pub(crate) fn outcome(self) -> (Result<Report, Failure>, Option<OwnedFd>) {
        let silent = || Failure::new(ErrorKind::Internal, "the worker died without a report");
        match packet::receive(&self.report, MESSAGE_BYTES_MAX) {
            Ok((report, mut descriptors)) if !report.is_empty() => {
                let report = serde_json::from_slice(&report);
                (report.unwrap_or_else(|_| Err(silent())), descriptors.pop())
            }
            _ => (Err(silent()), None),
        }
    }
}

fn work(task: &Task, keep: Vec<OwnedFd>) -> u8 {
    // In a group of its own, so that it can be killed with the programs it runs.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"cleat-worker");
    let mut keep = keep.into_iter();
    let Some(socket) = keep.next() else { return 1 };
    let stdio = match (keep.next(), keep.next(), keep.next()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Stdio::Fds([stdin, stdout, stderr]),
        _ => Stdio::Terminal,
    };
    let (mut result, terminal) = match perform(task, stdio) {
        Ok((report, terminal)) => (Ok(report), terminal),
        Err(failure) => (Err(failure), None),
    };
    if let Err(failure) = &mut result {
        failure.message.truncate(failure.message.floor_char_boundary(TEXT_MAX));
    }
    let descriptors: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
    let sent = serde_json::to_vec(&result).map(|report| packet::send(&socket, &report, &descriptors));
    u8::from(!matches!(sent, Ok(Ok(()))))
}

fn perform(task: &Task, stdio: Stdio) -> Result<(Report, Option<OwnedFd>), Failure> {
    let made = match &task.work {
        Work::KillSession { pid } => {
            let failed = |error| Failure::new(ErrorKind::Internal, format!("session {pid}: {error}"));
            return session::kill(*pid).map(|()| (Report::Done, None)).map_err(failed);
        }
        _ => match &task.target.runtime {
            Runtime::BuiltIn => runtime::builtin::perform(task, stdio)?,
            Runtime::Program { path } => runtime::program::perform(path, task, stdio)?,
        },
    };
    Ok(match made {
        None => (Report::Done, None),
        Some(Made { pid, terminal }) => (report(&task.work, pid), terminal),
    })
}

/// A process that a runtime made.
pub(crate) struct Made {
    pub(crate) pid: u32,
    pub(crate) terminal: Option<OwnedFd>,
}

fn report(work: &Work, pid: u32) -> Report {
    match work {
        Work::Create(_) => {
            Report::Created { pid, shares_pid: !leads_pid_namespace(pid), oom_file: oom::file_of(pid) }
        }
        _ => Report::ExecStarted { pid },
    }
}

/// Whether a process is number 1 of its PID namespace. One that has ended already leaves nothing behind.
fn leads_pid_namespace(pid: u32) -> bool {
    let path = Path::new("/proc").join(pid.to_string()).join("status");
    std::fs::read_to_string(path).map_or(true, |status| {
        status
            .lines()
            .any(|line| line.starts_with("NSpid:") && line.split_ascii_whitespace().next_back() == Some("1"))
    })
}
