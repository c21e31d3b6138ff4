//! What happens to a container after its creation: start, signals, pause, limits, removal.

use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{ContainerState, LinuxResources, Spec, State};
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use crate::dialogue::{self, Report, START};
use crate::error::{During, ErrorKind, RuntimeError};
use crate::exec::open_first;
use crate::state::{self, Locked, Record, START_SOCKET};
use crate::{hooks, spec};

/// See [`crate::start`].
pub(crate) fn start(root: &Path, id: &str) -> Result<(), RuntimeError> {
    let locked = state::open(root, id)?;
    let status = locked.record.status(root);
    if status != ContainerState::Created {
        return Err(locked.record.wrong_state(status, "created"));
    }
    let gone = || format!("container {id}: its process is gone");
    let socket = linux::packet::connect(locked.directory(), START_SOCKET).during(gone)?;
    linux::packet::send(&socket, START, &[]).during(gone)?;
    rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::IN)], None).during(gone)?;
    // Executing the program closes its end; a word is why it could not.
    if let Some((Report::Failed(error), _)) = dialogue::receive(&socket)? {
        return Err(error.of(format!("container {id}")));
    }
    let spec = locked.spec()?;
    let state = locked.record.state(&spec, ContainerState::Running)?;
    hooks::run_all("poststart", spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref()), &state);
    Ok(())
}

/// See [`crate::kill`].
pub(crate) fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<(), RuntimeError> {
    let record = state::read(root, id)?;
    let status = record.status(root);
    let cgroup = record.cgroup()?;
    let what = || format!("container {id}: signal {signal}");
    let kill = signal == Signal::KILL.as_raw();
    // Processes may be left when the first one has ended.
    if all {
        return if kill { cgroup.kill() } else { cgroup.signal(signal) }.during(what);
    }
    if !matches!(status, ContainerState::Created | ContainerState::Running) {
        return Err(record.wrong_state(status, "running"));
    }
    let first = open_first(&record)?;
    match linux::process::pidfd_send_signal(first.as_fd(), signal) {
        Err(rustix::io::Errno::SRCH) => return Err(record.wrong_state(ContainerState::Stopped, "running")),
        other => other.during(what)?,
    }
    // A frozen process dies when it is thawed.
    if kill && cgroup.frozen().during(what)? {
        cgroup.thaw().during(what)?;
    }
    Ok(())
}

/// See [`crate::delete`].
pub(crate) fn delete(root: &Path, id: &str, force: bool) -> Result<(), RuntimeError> {
    let locked = match state::open(root, id) {
        Err(error) if force && error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let record = &locked.record;
    let status = record.status(root);
    if !force && status != ContainerState::Stopped {
        return Err(record.wrong_state(status, "stopped"));
    }
    let cgroup = record.cgroup()?;
    let what = || format!("container {id}: its cgroup");
    if let Ok(first) = open_first(record) {
        match linux::process::pidfd_send_signal(first.as_fd(), Signal::KILL.as_raw()) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).during(|| format!("container {id}: kill")),
        }
        if cgroup.frozen().during(what)? {
            cgroup.thaw().during(what)?;
        }
        rustix::event::poll(&mut [PollFd::new(&first, PollFlags::IN)], None).during(what)?;
    }
    // Without a PID namespace of its own what it has started may outlive its first process.
    cgroup.kill().during(what)?;
    cgroup.remove().during(what)?;
    linux::crash::point("oci-delete-cgroup-removed");
    let spec = locked.spec();
    let state = spec.as_ref().ok().and_then(|spec| record.state(spec, ContainerState::Stopped).ok());
    locked.remove()?;
    if let (Ok(spec), Some(state)) = (spec, state) {
        hooks::run_all("poststop", spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref()), &state);
    }
    Ok(())
}

/// A container as recorded, its configuration, and where it is in its life.
pub(crate) fn look(root: &Path, id: &str) -> Result<(Record, Spec, ContainerState), RuntimeError> {
    let record = state::read(root, id)?;
    let status = record.status(root);
    let spec = spec::read(&root.join(id))?;
    Ok((record, spec, status))
}

/// See [`crate::state`].
pub(crate) fn state(root: &Path, id: &str) -> Result<State, RuntimeError> {
    let (record, spec, status) = look(root, id)?;
    record.state(&spec, status)
}

/// See [`crate::update`].
pub(crate) fn update(root: &Path, id: &str, resources: &LinuxResources) -> Result<(), RuntimeError> {
    let locked = live(root, id)?;
    let mut limits = spec::limits(resources)?;
    // Device rules of a running container are those of its creation: a list here would come without the defaults.
    limits.devices = None;
    locked.record.cgroup()?.limit(&limits).during(|| format!("container {id}"))
}

/// Stops (or lets go on) every process of a container.
pub(crate) fn pause(root: &Path, id: &str, stop: bool) -> Result<(), RuntimeError> {
    let locked = live(root, id)?;
    let cgroup = locked.record.cgroup()?;
    if stop { cgroup.freeze() } else { cgroup.thaw() }.during(|| format!("container {id}"))
}

fn live(root: &Path, id: &str) -> Result<Locked, RuntimeError> {
    let locked = state::open(root, id)?;
    let status = locked.record.status(root);
    match status {
        ContainerState::Created | ContainerState::Running => Ok(locked),
        _ => Err(locked.record.wrong_state(status, "running")),
    }
}
