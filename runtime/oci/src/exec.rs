//! A further process in a running container.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use linux::cgroup::{Cgroup, Hierarchies};
use oci_spec::runtime::ContainerState;
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::ThreadNameSpaceType;

use crate::dialogue::{Report, ToProcess};
use crate::error::{During, ErrorKind, RuntimeError};
use crate::init::{Given, Init};
use crate::options::{ExecOptions, Process};
use crate::parent::{end, spawn, stdio_fits, three};
use crate::plan::{self, Host};
use crate::spec;
use crate::state::{self, Record};

/// See [`crate::exec`].
pub(crate) fn exec(options: ExecOptions<'_>) -> Result<Process, RuntimeError> {
    let process = spec::Process::of(options.process)?;
    stdio_fits(&options.stdio, process.terminal)?;
    let record = state::read(options.root, options.id)?;
    let status = record.status(options.root);
    if !matches!(status, ContainerState::Running | ContainerState::Created) {
        return Err(record.wrong_state(status, "running"));
    }
    let cgroup = record.cgroup()?;
    if cgroup.frozen().during(|| "freezer")? {
        let text = format!("container {} is paused; resume it first", record.id);
        return Err(RuntimeError::new(ErrorKind::WrongState, text));
    }
    let first = open_first(&record)?;
    let cgroup = place(cgroup, &record)?;
    let seccomp = spec::seccomp(&spec::read(&options.root.join(options.id))?)?;
    let steps = plan::process(&process, &Host::read()?, seccomp.is_some());
    let (ours, theirs) = linux::packet::pair().during(|| "socket pair")?;
    let given = Given {
        process: &process,
        record: &record,
        cgroup: &cgroup,
        caller: theirs,
        stdio: three(options.stdio),
        seccomp: seccomp.as_ref(),
        preserve_fds: options.preserve_fds,
    };
    let init = Init::joining(given);
    rustix::thread::move_into_thread_name_spaces(first.as_fd(), ThreadNameSpaceType::PROCESS_ID)
        .during(|| "enter the container's PID namespace")?;
    let mut keep = init.descriptors();
    keep.push(first.as_raw_fd());
    let child = || {
        init.run(&steps, |init| {
            join(&first)?;
            init.enter_root()
        })
    };
    let (pid, pidfd) = spawn(0, &cgroup, options.parent, keep, child)?;
    match finish(&ToProcess(ours), pid, &cgroup) {
        Ok(terminal) => Ok(Process { pid: pid.as_raw_nonzero().get().unsigned_abs(), terminal }),
        Err(error) => end(pid, &pidfd, options.parent).and(Err(error)),
    }
}

/// The cgroup for a process that joins: the container's, or where an init system in it has gone the first process's.
fn place(cgroup: Cgroup, record: &Record) -> Result<Cgroup, RuntimeError> {
    let what = || format!("container {}: its cgroup", record.id);
    let Some(first) = record.process.filter(|_| cgroup.holds_cgroups().unwrap_or(false)) else {
        return Ok(cgroup);
    };
    let hierarchies = Hierarchies::read().during(what)?;
    let inner = Cgroup::of_process(&hierarchies, first.pid).during(what)?;
    Ok(inner.filter(|inner| inner.path().starts_with(cgroup.path())).unwrap_or(cgroup))
}

/// A pidfd of the container's first process, certainly of that one.
pub(crate) fn open_first(record: &Record) -> Result<OwnedFd, RuntimeError> {
    let gone = || RuntimeError::new(ErrorKind::WrongState, format!("container {} has ended", record.id));
    let process = record.process.ok_or_else(gone)?;
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    // Asked after opening: from here on the descriptor cannot stand for another process.
    if process.lives() { Ok(pidfd) } else { Err(gone()) }
}

/// Enters the namespaces of the container's first process, all at once.
fn join(first: &OwnedFd) -> Result<(), RuntimeError> {
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(first.as_fd(), all)
        .during(|| "enter the container's namespaces")
}

/// Lets the process go on until it has executed its program.
fn finish(process: &ToProcess, pid: Pid, cgroup: &Cgroup) -> Result<Option<OwnedFd>, RuntimeError> {
    if cgroup.open().during(|| "open the cgroup")?.is_none() {
        cgroup.join(pid.as_raw_nonzero().get().unsigned_abs()).during(|| "join the cgroup")?;
    }
    process.go()?;
    let mut terminal = None;
    while let Some((report, descriptors)) = process.next()? {
        match report {
            Report::Terminal => terminal = descriptors.into_iter().next(),
            Report::Failed(error) => return Err(error),
            Report::Ready | Report::RuntimeHooks => {}
        }
    }
    Ok(terminal)
}
