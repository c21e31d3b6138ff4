//! The steps that build a container's file system.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDeviceType};

use super::{Action, Step};
use crate::spec::{Config, Propagation, Source};

/// A device node or FIFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) path: PathBuf,
    pub(crate) kind: NodeKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What [`Node`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Char,
    Block,
    Fifo,
}

/// Devices of every container (config-linux.md#default-devices).
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Up to the hooks, with the host's file system still in reach.
pub(super) fn before_pivot(config: &Config, steps: &mut Vec<Step>) {
    steps.push(Action::CloneSources.into());
    steps.push(Action::CutPropagation.into());
    steps.push(Action::MountRoot.into());
    let dev = Path::new("/dev");
    for mount in &config.mounts {
        let mut mount = mount.clone();
        // Read-only only when the nodes in it are made; see `after_pivot`.
        if mount.destination == dev && !matches!(mount.source, Source::Bind { .. }) {
            mount.set.remove(rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY);
        }
        steps.push(Action::Mount(mount).into());
    }
    // The host's own /dev has all it needs, and is not ours to change.
    let own_dev = !config
        .mounts
        .iter()
        .any(|mount| mount.destination == dev && matches!(mount.source, Source::Bind { .. }));
    if own_dev {
        for node in nodes(config) {
            let bind = (node.kind != NodeKind::Fifo).then(|| Action::BindNode(node.clone()));
            steps.push(Step { fallback: bind, ..Action::MakeNode(node).into() });
        }
        for (target, path) in LINKS {
            steps.push(Action::Link { target, path }.into());
        }
    }
    if config.process.terminal {
        let (size, owner) = (config.process.console_size, config.process.uid);
        steps.push(Action::OpenTerminal { size, owner }.into());
        steps.push(Action::BindConsole.into());
    }
}

fn nodes(config: &Config) -> Vec<Node> {
    let device = |path: &str, major, minor| Node {
        path: path.into(),
        kind: NodeKind::Char,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let mut nodes: Vec<Node> =
        DEVICES.iter().map(|(path, major, minor)| device(path, *major, *minor)).collect();
    let listed =
        config.spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    for one in listed {
        let kind = match one.typ() {
            LinuxDeviceType::B => NodeKind::Block,
            LinuxDeviceType::P => NodeKind::Fifo,
            LinuxDeviceType::A | LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Char,
        };
        let path = Path::new("/").join(one.path());
        nodes.retain(|node| node.path != path);
        nodes.push(Node {
            path,
            kind,
            major: u32::try_from(one.major()).unwrap_or(0),
            minor: u32::try_from(one.minor()).unwrap_or(0),
            mode: one.file_mode().unwrap_or(0o666) & 0o7777,
            uid: one.uid().unwrap_or(0),
            gid: one.gid().unwrap_or(0),
        });
    }
    nodes
}

/// What closes the file system, when nothing more is to be made in it.
pub(super) fn after_pivot(config: &Config, linux: &Linux, steps: &mut Vec<Step>) {
    steps.push(Action::MakeDirectory(config.process.cwd.clone()).into());
    let propagation = linux.rootfs_propagation().as_deref().unwrap_or_default();
    let propagation = propagation.strip_prefix('r').unwrap_or(propagation);
    if let Some(propagation) = Propagation::of(propagation) {
        steps.push(Action::RootPropagation(propagation).into());
    }
    let readonly_dev =
        config.mounts.iter().rfind(|mount| mount.destination == Path::new("/dev")).is_some_and(|mount| {
            !matches!(mount.source, Source::Bind { .. })
                && mount.set.contains(rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY)
        });
    if readonly_dev {
        steps.push(Action::ReadonlyMount("/dev".into()).into());
    }
    if config.root_readonly {
        steps.push(Action::ReadonlyRoot.into());
    }
    for path in linux.readonly_paths().iter().flatten() {
        steps.push(Action::ReadonlyPath(path.into()).into());
    }
    for path in linux.masked_paths().iter().flatten() {
        steps.push(Action::MaskPath(path.into()).into());
    }
}
