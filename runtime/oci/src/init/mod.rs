//! Inside a container's first process, or one that joins a container, from the clone to the exec: carries out the steps
//! of the plan, in order. Whatever fails is reported to the caller, and the process ends.

mod copy;
mod mounts;
mod nodes;
mod procfs;
mod root;
mod terminal;
mod user;

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use linux::cgroup::Cgroup;
use linux::clone::flag;
use oci_spec::runtime::{ContainerState, LinuxNamespaceType};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;
use rustix::thread::ThreadNameSpaceType;

use crate::dialogue::{Report, START, ToCaller};
use crate::error::{During, ErrorKind, RuntimeError};
use crate::hooks;
use crate::options::Rootfs;
use crate::plan::{Action, Side, Step};
use crate::seccomp::Program;
use crate::spec::{Config, Process};
use crate::state::Record;
use procfs::Procfs;
use root::Root;

/// A process on its way.
#[derive(Debug)]
pub(crate) struct Init<'a> {
    /// The container's configuration; none for a process that joins.
    config: Option<&'a Config>,
    process: &'a Process,
    record: &'a Record,
    rootfs: Rootfs<'a>,
    cgroup: &'a Cgroup,
    caller: ToCaller,
    /// Where it is told to start.
    listener: Option<OwnedFd>,
    /// Standard input, output, error; the caller's own when absent.
    stdio: Option<[OwnedFd; 3]>,
    seccomp: Option<&'a Program>,
    preserve_fds: u32,

    // What it makes on its way and uses later.
    /// What bind mounts show, in the order of the mounts.
    sources: VecDeque<Option<OwnedFd>>,
    cgroup_sources: Vec<OwnedFd>,
    root: Option<Root>,
    /// The empty directory of masked paths.
    empty: Option<OwnedFd>,
    procfs: Option<Procfs>,
    terminal: Option<OwnedFd>,
    /// The working directory is entered.
    entered: bool,
    program: Option<CString>,
    environment: Vec<CString>,
    /// Who told it to start, and hears why it could not.
    starter: Option<OwnedFd>,
}

/// What a process is given by its caller.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) process: &'a Process,
    pub(crate) record: &'a Record,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) caller: OwnedFd,
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    pub(crate) seccomp: Option<&'a Program>,
    pub(crate) preserve_fds: u32,
}

impl<'a> Init<'a> {
    /// A container's first process.
    pub(crate) fn first(given: Given<'a>, config: &'a Config, rootfs: Rootfs<'a>, listener: OwnedFd) -> Self {
        Self { config: Some(config), rootfs, listener: Some(listener), ..Self::joining(given) }
    }

    /// A process that joins a container.
    pub(crate) fn joining(given: Given<'a>) -> Self {
        Self {
            config: None,
            process: given.process,
            record: given.record,
            rootfs: Rootfs::Spec,
            cgroup: given.cgroup,
            caller: ToCaller(given.caller),
            listener: None,
            stdio: given.stdio,
            seccomp: given.seccomp,
            preserve_fds: given.preserve_fds,
            sources: VecDeque::new(),
            cgroup_sources: Vec::new(),
            root: None,
            empty: None,
            procfs: None,
            terminal: None,
            entered: false,
            program: None,
            environment: Vec::new(),
            starter: None,
        }
    }

    /// The descriptors it needs from the caller's process.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let stdio = self.stdio.iter().flatten();
        let preserved = (0..self.preserve_fds).filter_map(|number| RawFd::try_from(3 + number).ok());
        stdio.chain(&self.listener).chain([&self.caller.0]).map(AsRawFd::as_raw_fd).chain(preserved).collect()
    }

    /// Carries out the steps after `enter`; returns only to end this process, with its exit code.
    pub(crate) fn run(
        mut self,
        steps: &[Step],
        enter: impl FnOnce(&mut Self) -> Result<(), RuntimeError>,
    ) -> u8 {
        let Err(error) = self.carry_out(steps, enter) else { return 0 };
        let report = Report::Failed(error);
        let told = match self.starter.take() {
            Some(starter) => ToCaller(starter).report(&report, &[]),
            None => self.caller.report(&report, &[]),
        };
        // Nobody to tell: the caller sees the end of this process.
        drop(told);
        1
    }

    fn carry_out(
        &mut self,
        steps: &[Step],
        enter: impl FnOnce(&mut Self) -> Result<(), RuntimeError>,
    ) -> Result<(), RuntimeError> {
        // Nobody in the container may trace this process or open its descriptors (CVE-2016-9962).
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .during(|| "become undumpable")?;
        self.caller.wait()?;
        rustix::process::setsid().during(|| "new session")?;
        rustix::process::umask(Mode::empty());
        enter(self)?;
        for step in steps.iter().filter(|step| step.action.side() == Side::Init) {
            match (self.act(&step.action), &step.fallback) {
                // What the image has in the way is no reason to try something else.
                (Err(first), Some(fallback)) if first.kind() == ErrorKind::Kernel => {
                    let second = |second| RuntimeError::kernel(format!("{first}; instead: {second}"));
                    self.act(fallback).map_err(second)?;
                }
                (done, _) => done?,
            }
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<(), RuntimeError> {
        match action {
            Action::MakeCgroup | Action::Limit(_) | Action::Spawn(_) | Action::JoinCgroup => Ok(()),
            Action::JoinNamespace(kind, path) => join_namespace(*kind, path),
            Action::NewCgroupNamespace => {
                linux::clone::unshare(flag::NEWCGROUP).during(|| "new cgroup namespace")
            }
            Action::LoopbackUp => linux::interface::up("lo").during(|| "loopback interface"),
            Action::SessionKeyring(name) => session_keyring(name),
            Action::CloneSources => self.clone_sources(),
            Action::CutPropagation => self.cut_propagation(),
            Action::MountRoot => self.mount_root(),
            Action::Mount(mount) => self.mount(mount),
            Action::MakeNode(node) => self.make_node(node),
            Action::BindNode(node) => self.bind_node(node),
            Action::Link { target, path } => self.link(target, path),
            Action::MakeDirectory(path) => self.make_directory(path),
            Action::OpenTerminal { size, owner } => self.open_terminal(*size, *owner),
            Action::BindConsole => self.bind_console(),
            Action::RuntimeHooks => self.runtime_hooks(),
            Action::ContainerHooks => self.container_hooks(),
            Action::PivotRoot => self.pivot_root(),
            Action::RootPropagation(propagation) => self.root_propagation(*propagation),
            Action::ReadonlyMount(path) => self.readonly_mount(path),
            Action::ReadonlyRoot => self.readonly_mount(Path::new("/")),
            Action::ReadonlyPath(path) => self.readonly_path(path),
            Action::MaskPath(path) => self.mask_path(path),
            Action::Hostname(name) => rustix::system::sethostname(name.as_bytes()).during(|| "host name"),
            Action::Domainname(name) => {
                rustix::system::setdomainname(name.as_bytes()).during(|| "domain name")
            }
            Action::Sysctl(path, value) => self.write_proc(&format!("sys/{path}"), value),
            other => self.act_late(other),
        }
    }

    /// What makes the process itself.
    fn act_late(&mut self, action: &Action) -> Result<(), RuntimeError> {
        match action {
            Action::Standard { owner } => self.standard(*owner),
            Action::OomScoreAdj(value) => self.write_proc("self/oom_score_adj", &value.to_string()),
            Action::ResourceLimit { resource, soft, hard } => user::resource_limit(*resource, *soft, *hard),
            Action::Personality(domain) => linux::process::set_personality(*domain).during(|| "personality"),
            Action::Scheduler(attributes) => {
                linux::process::set_scheduler(*attributes).during(|| "scheduler")
            }
            Action::IoPriority(class, level) => {
                linux::process::set_io_priority(*class, *level).during(|| "I/O priority")
            }
            Action::NoNewPrivileges => rustix::thread::set_no_new_privs(true).during(|| "no new privileges"),
            Action::Seccomp => self.seccomp(),
            Action::DropBounding(bits) => user::drop_bounding(*bits),
            Action::User { uid, gid, groups } => user::become_user(*uid, *gid, groups),
            Action::Capabilities(sets) => user::capabilities(*sets),
            Action::EnterDirectory(path) => {
                self.let_go();
                self.entered = user::enter_directory(path)?;
                Ok(())
            }
            Action::WorkingDirectory(_) if self.entered => Ok(()),
            Action::WorkingDirectory(path) => user::working_directory(path),
            Action::Umask(bits) => {
                rustix::process::umask(Mode::from_raw_mode(*bits));
                Ok(())
            }
            Action::FindProgram => self.find_program(),
            Action::AwaitStart => self.await_start(),
            Action::StartHooks => self.start_hooks(),
            // Late, so that nothing opened on the way is forgotten (CVE-2024-21626).
            Action::CloseOnExec => linux::process::close_on_exec_from(3 + self.preserve_fds)
                .during(|| "close descriptors on exec"),
            Action::Execute => self.execute(),
            other => Err(RuntimeError::kernel(format!("{other:?} is no step of a process"))),
        }
    }

    fn config(&self) -> Result<&'a Config, RuntimeError> {
        self.config.ok_or_else(|| RuntimeError::kernel("a process that joins makes no file system"))
    }

    /// The container's root: before the pivot where it is mounted, for a process that joins its `/`.
    fn root(&self) -> Result<&Root, RuntimeError> {
        self.root.as_ref().ok_or_else(|| RuntimeError::kernel("the root file system is not mounted yet"))
    }

    /// Takes the `/` of the namespace that was joined as the container's root.
    pub(crate) fn enter_root(&mut self) -> Result<(), RuntimeError> {
        self.root = Some(Root::open("/").during(|| "open the container's root")?);
        Ok(())
    }

    /// Closes what the file system was made with: from here on no descriptor of ours stands for a directory.
    fn let_go(&mut self) {
        self.sources.clear();
        self.cgroup_sources.clear();
        (self.root, self.empty, self.procfs) = (None, None, None);
    }

    fn make_directory(&self, path: &Path) -> Result<(), RuntimeError> {
        match self.root()?.directory(path) {
            // In a read-only place it must be there; whether it is shows when it is entered.
            Ok(_) | Err(rustix::io::Errno::ROFS | rustix::io::Errno::NOTDIR) => Ok(()),
            Err(error) => Err(RuntimeError::spec("process.cwd", format!("{}: {error}", path.display()))),
        }
    }

    fn write_proc(&mut self, path: &str, value: &str) -> Result<(), RuntimeError> {
        if self.procfs.is_none() {
            self.procfs = Some(Procfs::open().during(|| "open a private proc")?);
        }
        match &self.procfs {
            Some(procfs) => procfs.write(path, value).during(|| format!("write {value:?} to /proc/{path}")),
            None => Ok(()),
        }
    }

    fn runtime_hooks(&self) -> Result<(), RuntimeError> {
        let hooks = self.config()?.spec.hooks().as_ref();
        let any = hooks.is_some_and(|hooks| hooks.prestart().is_some() || hooks.create_runtime().is_some());
        if any {
            self.caller.report(&Report::RuntimeHooks, &[]).during(|| "ask for hooks")?;
            self.caller.wait()?;
        }
        Ok(())
    }

    fn container_hooks(&self) -> Result<(), RuntimeError> {
        let spec = &self.config()?.spec;
        let state = self.record.state(spec, ContainerState::Creating)?;
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.create_container().as_ref());
        hooks::run("createContainer", hooks, &state)
    }

    fn start_hooks(&self) -> Result<(), RuntimeError> {
        let spec = &self.config()?.spec;
        let state = self.record.state(spec, ContainerState::Created)?;
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
        hooks::run("startContainer", hooks, &state)
    }

    fn await_start(&mut self) -> Result<(), RuntimeError> {
        self.caller.report(&Report::Ready, &[]).during(|| "report to the caller")?;
        let Some(listener) = self.listener.take() else { return Ok(()) };
        loop {
            wait_readable(&listener)?;
            let Ok(connection) = linux::packet::accept(&listener) else { continue };
            wait_readable(&connection)?;
            // An empty word is a question whether we wait; see `Record::status`.
            if linux::packet::receive(&connection, START.len()).is_ok_and(|(word, _)| word == START) {
                self.starter = Some(connection);
                return Ok(());
            }
        }
    }

    fn seccomp(&self) -> Result<(), RuntimeError> {
        let Some(program) = self.seccomp else { return Err(RuntimeError::kernel("no seccomp program")) };
        linux::seccomp::load(&program.instructions, program.flags).map(drop).during(|| "linux.seccomp")
    }

    fn execute(&mut self) -> Result<(), RuntimeError> {
        let Some(program) = self.program.take() else { return Err(RuntimeError::kernel("no program")) };
        match linux::process::execute(&program, &self.process.arguments, &self.environment) {
            Err(error) => Err(RuntimeError::new(
                ErrorKind::InvalidSpec,
                format!("exec {}: {error}", program.to_string_lossy()),
            )),
        }
    }
}

fn wait_readable(fd: &OwnedFd) -> Result<(), RuntimeError> {
    match rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).during(|| "wait"),
    }
}

pub(crate) fn join_namespace(kind: LinuxNamespaceType, path: &Path) -> Result<(), RuntimeError> {
    let (kind, name) = match kind {
        LinuxNamespaceType::Network => (ThreadNameSpaceType::NETWORK, "network"),
        LinuxNamespaceType::Ipc => (ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION, "ipc"),
        LinuxNamespaceType::Uts => (ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME, "uts"),
        LinuxNamespaceType::Cgroup => (ThreadNameSpaceType::CONTROL_GROUP, "cgroup"),
        LinuxNamespaceType::Pid => (ThreadNameSpaceType::PROCESS_ID, "pid"),
        other => {
            return Err(RuntimeError::spec(
                "linux.namespaces",
                format!("a {other} namespace cannot be joined"),
            ));
        }
    };
    let field = || format!("linux.namespaces ({name}): {}", path.display());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| RuntimeError::spec(field(), error))?;
    rustix::thread::move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&namespace), kind)
        .map_err(|error| RuntimeError::spec(field(), error))
}

/// A kernel without keys has none to leak.
fn session_keyring(name: &str) -> Result<(), RuntimeError> {
    let name = CString::new(name).during(|| "name of the session keyring")?;
    match linux::process::join_session_keyring(&name) {
        Err(rustix::io::Errno::NOSYS) => Ok(()),
        other => other.during(|| "session keyring"),
    }
}
