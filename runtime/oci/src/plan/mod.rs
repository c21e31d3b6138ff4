//! From a configuration and the facts of the host to the steps that make a container: pure, so that every rule about
//! order, defaults and fallbacks is a line in a table test.
//!
//! The steps run in the order of the list, on two sides of one clone: up to [`Action::Spawn`] and the ones that
//! need the child's process id in the caller ([`Side::Parent`]), the others in the container's first process. A step
//! that fails has its `fallback` tried; when nothing helps, the `undo` of every step done so far runs, last first.

mod filesystem;
mod process;

use std::path::PathBuf;

use linux::cgroup::{DeviceKind, DeviceRule, Limits};
use linux::clone::flag;
use linux::process::SchedulerAttributes;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources};

use crate::error::RuntimeError;
use crate::spec::{self, Capabilities, Config, Mount};

pub(crate) use filesystem::{Node, NodeKind};
pub(crate) use process::process;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) action: Action,
    /// To do instead when the kernel refuses the action.
    pub(crate) fallback: Option<Action>,
    /// What takes it back when a later step fails. What happens in the container's own namespaces needs none: it goes
    /// with them.
    pub(crate) undo: Option<Undo>,
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Self { action, fallback: None, undo: None }
    }
}

/// Who carries out a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Parent,
    Init,
}

/// A kernel effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    // The caller's.
    MakeCgroup,
    Limit(Box<Limits>),
    /// Namespaces to make, as flags of [`linux::clone::flag`].
    Spawn(u64),
    /// After the clone on v1; on v2 the clone itself is into the cgroup.
    JoinCgroup,

    // The first process's, before the caller has let it go on.
    JoinNamespace(LinuxNamespaceType, PathBuf),
    /// Its root is the cgroup it is in, so it is made after joining that.
    NewCgroupNamespace,
    LoopbackUp,
    SessionKeyring(String),

    // Its file systems.
    /// Takes hold of the host's directories before propagation is cut.
    CloneSources,
    CutPropagation,
    MountRoot,
    Mount(Mount),
    MakeNode(Node),
    /// A device of the host instead of a new node.
    BindNode(Node),
    Link {
        target: &'static str,
        path: &'static str,
    },
    OpenTerminal {
        size: Option<(u16, u16)>,
        owner: u32,
    },
    BindConsole,
    MakeDirectory(PathBuf),
    RuntimeHooks,
    ContainerHooks,
    PivotRoot,
    RootPropagation(spec::Propagation),
    ReadonlyMount(PathBuf),
    ReadonlyRoot,
    ReadonlyPath(PathBuf),
    MaskPath(PathBuf),
    Hostname(String),
    Domainname(String),
    /// Path below `/proc/sys`, value.
    Sysctl(String, String),

    // The process itself.
    Standard {
        owner: u32,
    },
    OomScoreAdj(i32),
    ResourceLimit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    Personality(u64),
    Scheduler(SchedulerAttributes),
    IoPriority(u16, u16),
    NoNewPrivileges,
    Seccomp,
    DropBounding(u64),
    User {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    Capabilities(Capabilities),
    /// With root's rights, where these suffice: also a directory that the user could not enter itself.
    EnterDirectory(PathBuf),
    /// With the user's rights, if it was not entered before.
    WorkingDirectory(PathBuf),
    Umask(u32),
    FindProgram,
    /// Tells the caller that all is ready, and waits for [`crate::start`].
    AwaitStart,
    StartHooks,
    CloseOnExec,
    Execute,
}

impl Action {
    pub(crate) fn side(&self) -> Side {
        match self {
            Self::MakeCgroup
            | Self::Limit(_)
            | Self::Spawn(_)
            | Self::JoinCgroup
            | Self::JoinNamespace(LinuxNamespaceType::Pid, _) => Side::Parent,
            _ => Side::Init,
        }
    }
}

/// What takes a step back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    RemoveCgroup,
    KillInit,
}

/// Facts of the host that the plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Cgroup v2.
    pub(crate) unified: bool,
    /// Capabilities that this process can hand on.
    pub(crate) capabilities: u64,
    /// Highest number of a capability.
    pub(crate) last_capability: u32,
    /// Hard resource limits of this process, by number.
    pub(crate) hard_limits: [u64; 16],
    /// `oom_score_adj` of this process.
    pub(crate) oom_score_adj: i32,
}

impl Host {
    /// Whether limits may be raised (capabilities(7), `CAP_SYS_RESOURCE`).
    fn raises_limits(&self) -> bool {
        self.capabilities & 1 << 24 != 0
    }
}

/// The container's cgroup where the configuration names none.
pub(crate) fn cgroup_path(config: &Config, id: &str) -> String {
    let path = config.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    match path.and_then(|path| path.to_str()).filter(|path| !path.is_empty()) {
        Some(path) => format!("/{}", path.trim_start_matches('/')),
        None => format!("/cleat/{id}"),
    }
}

/// The steps that make a container.
pub(crate) fn plan(config: &Config, host: &Host, id: &str) -> Result<Vec<Step>, RuntimeError> {
    let linux = config.spec.linux().clone().unwrap_or_default();
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let mut steps = vec![
        Step { undo: Some(Undo::RemoveCgroup), ..Action::MakeCgroup.into() },
        Action::Limit(Box::new(create_limits(linux.resources().as_ref())?)).into(),
    ];
    // A PID namespace is entered by being born in it.
    for namespace in namespaces.iter().filter(|one| one.typ() == LinuxNamespaceType::Pid) {
        if let Some(path) = namespace.path() {
            steps.push(Action::JoinNamespace(namespace.typ(), path.clone()).into());
        }
    }
    let fresh = namespaces.iter().filter(|one| one.path().is_none());
    let flags = fresh.map(|one| flag_of(one.typ())).fold(0, |all, one| all | one) & !flag::NEWCGROUP;
    steps.push(Step { undo: Some(Undo::KillInit), ..Action::Spawn(flags).into() });
    if !host.unified {
        steps.push(Action::JoinCgroup.into());
    }
    let mut add = |action: Action| steps.push(action.into());
    for namespace in namespaces {
        match (namespace.path(), namespace.typ()) {
            (Some(_), LinuxNamespaceType::Pid) => {}
            (Some(path), kind) => add(Action::JoinNamespace(kind, path.clone())),
            (None, LinuxNamespaceType::Cgroup) => add(Action::NewCgroupNamespace),
            (None, LinuxNamespaceType::Network) => add(Action::LoopbackUp),
            (None, _) => {}
        }
    }
    add(Action::SessionKeyring(format!("_ses.{id}")));
    filesystem::before_pivot(config, &mut steps);
    let mut add = |action: Action| steps.push(action.into());
    // Hooks see the container's file system, and it has its terminal, before the host's goes away.
    add(Action::RuntimeHooks);
    add(Action::ContainerHooks);
    add(Action::PivotRoot);
    if let Some(hostname) = config.spec.hostname() {
        add(Action::Hostname(hostname.clone()));
    }
    if let Some(domainname) = config.spec.domainname() {
        add(Action::Domainname(domainname.clone()));
    }
    let mut sysctls: Vec<_> = linux.sysctl().iter().flatten().collect();
    sysctls.sort();
    for (name, value) in sysctls {
        if let Some(path) = spec::sysctl_path(name) {
            add(Action::Sysctl(path, value.clone()));
        }
    }
    filesystem::after_pivot(config, &linux, &mut steps);
    process::first(config, &linux, host, &mut steps);
    Ok(steps)
}

fn flag_of(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => flag::NEWNS,
        LinuxNamespaceType::Cgroup => flag::NEWCGROUP,
        LinuxNamespaceType::Uts => flag::NEWUTS,
        LinuxNamespaceType::Ipc => flag::NEWIPC,
        LinuxNamespaceType::User => flag::NEWUSER,
        LinuxNamespaceType::Pid => flag::NEWPID,
        LinuxNamespaceType::Network => flag::NEWNET,
        LinuxNamespaceType::Time => flag::NEWTIME,
    }
}

/// The limits of a new container. Device access starts closed, and the devices that every container has are open
/// whatever the rules say (config-linux.md#default-devices).
fn create_limits(resources: Option<&LinuxResources>) -> Result<Limits, RuntimeError> {
    let mut limits = resources.map(spec::limits).transpose()?.unwrap_or_default();
    let everything = DeviceRule {
        allow: false,
        kind: DeviceKind::All,
        major: None,
        minor: None,
        read: true,
        write: true,
        mknod: true,
    };
    let mut rules = vec![everything];
    rules.extend(limits.devices.take().unwrap_or_default());
    let open_already = rules.contains(&DeviceRule { allow: true, ..everything });
    if !open_already {
        let character = DeviceRule { allow: true, kind: DeviceKind::Char, ..everything };
        // To make a node is harmless: to open it is what counts.
        for kind in [DeviceKind::Char, DeviceKind::Block] {
            rules.push(DeviceRule { kind, read: false, write: false, ..character });
        }
        // null, zero, full, random, urandom, tty, console, ptmx, and the terminals of devpts.
        const DEFAULT: [(u32, Option<u32>); 9] = [
            (1, Some(3)),
            (1, Some(5)),
            (1, Some(7)),
            (1, Some(8)),
            (1, Some(9)),
            (5, Some(0)),
            (5, Some(1)),
            (5, Some(2)),
            (136, None),
        ];
        for (major, minor) in DEFAULT {
            rules.push(DeviceRule { major: Some(major), minor, ..character });
        }
    }
    limits.devices = Some(rules);
    Ok(limits)
}

#[cfg(test)]
mod tests;
