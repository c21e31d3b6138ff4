//! The caller's side of a container: carries out the plan up to the clone, joins the first process to its cgroup, runs
//! the runtime's hooks, and undoes everything when a step fails.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use linux::cgroup::Cgroup;
use linux::clone::flag;
use oci_spec::runtime::{ContainerState, Hooks, LinuxNamespaceType};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::ThreadNameSpaceType;

use crate::dialogue::{Report, ToProcess};
use crate::error::{During, RuntimeError};
use crate::init::{Given, Init, join_namespace};
use crate::options::{CreateOptions, Parent, Process, Stdio};
use crate::plan::{Action, Host, Side, Step, Undo};
use crate::spec::{self, Config};
use crate::state::{self, Locked, ProcessId, Record};
use crate::{hooks, plan};

/// See [`crate::create`].
pub(crate) fn create(options: CreateOptions<'_>) -> Result<Process, RuntimeError> {
    let config = spec::load(options.bundle)?;
    stdio_fits(&options.stdio, config.process.terminal)?;
    let host = Host::read()?;
    let steps = plan::plan(&config, &host, options.id)?;
    let bundle = options.bundle.canonicalize().during(|| format!("bundle {}", options.bundle.display()))?;
    let record = Record::new(options.id, bundle, plan::cgroup_path(&config, options.id));
    let cgroup = record.cgroup()?;
    // Whose end would be ours to bring about: a container's cgroup is killed with it.
    let others = cgroup.pids().during(|| "linux.cgroupsPath")?;
    if !others.is_empty() {
        let problem =
            format!("{} holds {} processes of others; use a cgroup of its own", cgroup.path(), others.len());
        return Err(RuntimeError::spec("linux.cgroupsPath", problem));
    }
    let mut locked = state::create(options.root, record, &config.spec)?;
    linux::crash::point("oci-create-recorded");
    let mut done = Done { cgroup: &cgroup, undo: Vec::new(), process: None, parent: options.parent };
    let made = run(&config, options, &steps, &mut locked, &mut done);
    match made {
        Ok(process) => Ok(process),
        Err(error) => {
            let left = done.undo();
            // What hooks have set up they get a chance to clear (runtime.md#lifecycle).
            let poststop = config.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
            if let Ok(state) = locked.record.state(&config.spec, ContainerState::Stopped) {
                hooks::run_all("poststop", poststop, &state);
            }
            match left {
                Ok(()) => locked.remove().and(Err(error)),
                // The record stays, so that a delete can try again.
                Err(left) => {
                    Err(RuntimeError::new(error.kind(), format!("{error}; and left behind: {left}")))
                }
            }
        }
    }
}

/// A terminal is asked for on both sides, or on neither.
pub(crate) fn stdio_fits(stdio: &Stdio, terminal: bool) -> Result<(), RuntimeError> {
    match (stdio, terminal) {
        (Stdio::Terminal, false) => {
            Err(RuntimeError::spec("process.terminal", "is false, but a terminal is asked for"))
        }
        (Stdio::Inherit | Stdio::Fds { .. }, true) => {
            Err(RuntimeError::spec("process.terminal", "is true, but nobody takes the terminal"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn three(stdio: Stdio) -> Option<[OwnedFd; 3]> {
    match stdio {
        Stdio::Fds { stdin, stdout, stderr } => Some([stdin, stdout, stderr]),
        Stdio::Inherit | Stdio::Terminal => None,
    }
}

/// What was done so far.
struct Done<'a> {
    cgroup: &'a Cgroup,
    undo: Vec<Undo>,
    process: Option<(Pid, OwnedFd)>,
    parent: Parent,
}

impl Done<'_> {
    /// Takes it back, last first; goes on after a failure and returns the first.
    fn undo(&mut self) -> Result<(), RuntimeError> {
        let mut result = Ok(());
        while let Some(undo) = self.undo.pop() {
            let undone = match undo {
                Undo::KillInit => match &self.process {
                    Some((pid, pidfd)) => end(*pid, pidfd, self.parent),
                    None => Ok(()),
                },
                Undo::RemoveCgroup => {
                    self.cgroup.kill().and_then(|()| self.cgroup.remove()).during(|| "remove the cgroup")
                }
            };
            result = result.and(undone);
        }
        result
    }
}

/// Kills a process and waits for its end; reaps it if that is ours to do.
pub(crate) fn end(pid: Pid, pidfd: &OwnedFd, parent: Parent) -> Result<(), RuntimeError> {
    match linux::process::pidfd_send_signal(pidfd.as_fd(), rustix::process::Signal::KILL.as_raw()) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error).during(|| "kill the container's process"),
    }
    rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None)
        .during(|| "wait for the container's process")?;
    if parent == Parent::Caller {
        rustix::process::waitpid(Some(pid), WaitOptions::empty())
            .during(|| "reap the container's process")?;
    }
    Ok(())
}

fn run(
    config: &Config,
    options: CreateOptions<'_>,
    steps: &[Step],
    locked: &mut Locked,
    done: &mut Done<'_>,
) -> Result<Process, RuntimeError> {
    let (ours, theirs) = linux::packet::pair().during(|| "socket pair")?;
    let listener =
        linux::packet::listen(locked.directory(), state::START_SOCKET).during(|| "start socket")?;
    let given = Given {
        process: &config.process,
        record: &locked.record.clone(),
        cgroup: done.cgroup,
        caller: theirs,
        stdio: three(options.stdio),
        seccomp: config.seccomp.as_ref(),
        preserve_fds: options.preserve_fds,
    };
    let mut init = Some(Init::first(given, config, options.rootfs, listener));
    for step in steps.iter().filter(|step| step.action.side() == Side::Parent) {
        // Recorded before the effect: half of it must be taken back too.
        done.undo.extend(step.undo);
        match &step.action {
            Action::MakeCgroup => done.cgroup.create().during(|| "make the cgroup")?,
            Action::Limit(limits) => done.cgroup.limit(limits).during(|| "linux.resources")?,
            Action::JoinNamespace(LinuxNamespaceType::Pid, path) => {
                join_namespace(LinuxNamespaceType::Pid, path)?;
            }
            Action::Spawn(flags) => {
                let Some(init) = init.take() else { continue };
                let keep = init.descriptors();
                let spawned =
                    spawn(*flags, done.cgroup, options.parent, keep, || init.run(steps, |_| Ok(())));
                done.process = Some(spawned?);
            }
            Action::JoinCgroup => {
                if let Some((pid, _)) = &done.process {
                    done.cgroup.join(number(*pid)).during(|| "join the cgroup")?;
                }
            }
            other => return Err(RuntimeError::kernel(format!("{other:?} is no step of the caller"))),
        }
    }
    let Some((pid, _)) = &done.process else { return Err(RuntimeError::kernel("no process was made")) };
    locked.record.process = Some(ProcessId::of(number(*pid))?);
    locked.save()?;
    linux::crash::point("oci-create-spawned");
    let terminal = talk(&ToProcess(ours), config, locked).map_err(|error| explain(error, done.cgroup))?;
    locked.record.created = true;
    locked.save()?;
    linux::crash::point("oci-create-done");
    done.undo.clear();
    Ok(Process { pid: number(*pid), terminal })
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Clones into new namespaces, on v2 into the cgroup. This process's own PID namespace for children, changed by a
/// join before, is put back.
pub(crate) fn spawn(
    flags: u64,
    cgroup: &Cgroup,
    parent: Parent,
    keep: Vec<RawFd>,
    child: impl FnOnce() -> u8,
) -> Result<(Pid, OwnedFd), RuntimeError> {
    let directory = cgroup.open().during(|| "open the cgroup")?;
    let sibling = if parent == Parent::Sibling { flag::PARENT } else { 0 };
    let spawned = linux::clone::spawn(flags | sibling, directory.as_ref().map(AsFd::as_fd), keep, child);
    let own = std::fs::File::open("/proc/self/ns/pid").during(|| "own PID namespace")?;
    rustix::thread::move_into_thread_name_spaces(own.as_fd(), ThreadNameSpaceType::PROCESS_ID)
        .during(|| "own PID namespace")?;
    spawned.during(|| "clone into new namespaces")
}

/// Lets the first process go on, and does what it asks for until it is ready.
fn talk(process: &ToProcess, config: &Config, locked: &Locked) -> Result<Option<OwnedFd>, RuntimeError> {
    process.go()?;
    let mut terminal = None;
    loop {
        match process.next()? {
            Some((Report::Terminal, descriptors)) => terminal = descriptors.into_iter().next(),
            Some((Report::RuntimeHooks, _)) => {
                let state = locked.record.state(&config.spec, ContainerState::Creating)?;
                let hooks = config.spec.hooks().as_ref();
                hooks::run("prestart", hooks.and_then(|hooks| hooks.prestart().as_ref()), &state)?;
                hooks::run(
                    "createRuntime",
                    hooks.and_then(|hooks: &Hooks| hooks.create_runtime().as_ref()),
                    &state,
                )?;
                process.go()?;
            }
            Some((Report::Ready, _)) => return Ok(terminal),
            Some((Report::Failed(error), _)) => return Err(error),
            None => return Err(RuntimeError::kernel(DIED)),
        }
    }
}

const DIED: &str = "the container's process died before it was ready";

/// Adds what is known when the first process died without a word.
fn explain(error: RuntimeError, cgroup: &Cgroup) -> RuntimeError {
    if error.to_string() == DIED && cgroup.oom_kills().is_ok_and(|kills| kills > 0) {
        let text = format!("{DIED}: out of memory; raise linux.resources.memory.limit");
        return RuntimeError::new(crate::ErrorKind::InvalidSpec, text);
    }
    error
}

impl Host {
    /// Asks the kernel.
    pub(crate) fn read() -> Result<Self, RuntimeError> {
        let hierarchies = linux::cgroup::Hierarchies::read().during(|| "cgroups")?;
        let capabilities = rustix::thread::capabilities(None).during(|| "own capabilities")?;
        let mut hard_limits = [u64::MAX; 16];
        for (resource, hard) in (0..).zip(hard_limits.iter_mut()) {
            *hard = linux::process::resource_limit(resource).during(|| "own resource limits")?.1;
        }
        let text = std::fs::read_to_string("/proc/self/oom_score_adj").during(|| "own oom_score_adj")?;
        Ok(Self {
            unified: hierarchies.unified(),
            capabilities: capabilities.permitted.bits(),
            last_capability: linux::process::last_capability(),
            hard_limits,
            oom_score_adj: text.trim().parse().unwrap_or(0),
        })
    }
}
