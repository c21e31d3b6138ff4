//! Reads a bundle's `config.json` and refuses, before anything is touched, what cannot work or what this runtime
//! does not do: a restriction that is asked for and cannot be applied must never be dropped in silence.
//! Properties that the OCI spec does not know are ignored, as it demands (config.md#extensibility).

mod mount;
mod process;
mod resources;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::{During, RuntimeError};
use crate::seccomp;

pub(crate) use mount::{MOUNT_OPTIONS, Mount, Propagation, Source, masked_options};
pub(crate) use process::{Capabilities, Process, capability_names};
pub(crate) use resources::limits;

/// The file in a bundle.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// A configuration that this runtime can carry out.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// As written.
    pub(crate) spec: Spec,
    /// The root file system, absolute.
    pub(crate) root: PathBuf,
    /// Mount it read-only.
    pub(crate) root_readonly: bool,
    /// In order.
    pub(crate) mounts: Vec<Mount>,
    /// The container's first process.
    pub(crate) process: Process,
    /// The system calls it may make.
    pub(crate) seccomp: Option<seccomp::Program>,
}

/// Reads `<directory>/config.json`.
pub(crate) fn read(directory: &Path) -> Result<Spec, RuntimeError> {
    let file = directory.join(CONFIG_FILE);
    let bytes = std::fs::read(&file).map_err(|error| RuntimeError::spec(file.display(), error))?;
    parse(&bytes).map_err(|error| error.of(file.display()))
}

fn parse(bytes: &[u8]) -> Result<Spec, RuntimeError> {
    serde_json::from_slice(bytes).map_err(|error| RuntimeError::spec("JSON", error))
}

/// Reads and checks the configuration of a bundle.
pub(crate) fn load(bundle: &Path) -> Result<Config, RuntimeError> {
    let bundle = bundle.canonicalize().during(|| format!("bundle {}", bundle.display()))?;
    check(read(&bundle)?, &bundle)
}

/// Checks a configuration; relative paths are taken from `bundle`.
pub(crate) fn check(spec: Spec, bundle: &Path) -> Result<Config, RuntimeError> {
    version(spec.version())?;
    let Some(root) = spec.root() else {
        return Err(RuntimeError::spec("root", "missing; name the root file system"));
    };
    if root.path().as_os_str().is_empty() {
        return Err(RuntimeError::spec("root.path", "empty; name the root file system"));
    }
    let Some(process) = spec.process() else {
        return Err(RuntimeError::spec(
            "process",
            "missing; a container without a process cannot be started",
        ));
    };
    if spec.vm().is_some() {
        return Err(RuntimeError::spec("vm", "this runtime runs no virtual machines; remove it"));
    }
    linux(&spec)?;
    let mut mounts = Vec::new();
    for (index, one) in spec.mounts().iter().flatten().enumerate() {
        mounts.push(Mount::of(one, bundle).map_err(|error| error.of(format!("mounts[{index}]")))?);
    }
    let process = Process::of(process)?;
    if process.terminal && !mounts.iter().any(|mount| mount.is_devpts()) {
        let problem = "a terminal needs a devpts mount at /dev/pts; add one to mounts";
        return Err(RuntimeError::spec("process.terminal", problem));
    }
    Ok(Config {
        root: bundle.join(root.path()),
        root_readonly: root.readonly().unwrap_or(false),
        mounts,
        process,
        seccomp: seccomp(&spec)?,
        spec,
    })
}

fn version(version: &str) -> Result<(), RuntimeError> {
    let mut parts = version.split(['.', '-', '+']).map(str::parse::<u32>);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(1)), Some(Ok(_)), Some(Ok(_))) => Ok(()),
        _ => Err(RuntimeError::spec(
            "ociVersion",
            format!("{version:?} is not a version 1.x.y of the runtime spec"),
        )),
    }
}

fn linux(spec: &Spec) -> Result<(), RuntimeError> {
    let refuse = |field: &str, problem: &str| Err(RuntimeError::spec(format!("linux.{field}"), problem));
    let Some(linux) = spec.linux() else {
        return Err(RuntimeError::spec("linux", "missing; a container needs at least a mount namespace"));
    };
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (index, namespace) in namespaces.iter().enumerate() {
        let kind = namespace.typ();
        if namespaces[..index].iter().any(|other| other.typ() == kind) {
            return refuse("namespaces", &format!("{} is there twice", namespace_name(kind)));
        }
        match (kind, namespace.path()) {
            (LinuxNamespaceType::User, _) => {
                return refuse(
                    "namespaces",
                    "user namespaces are not supported yet; remove the user namespace",
                );
            }
            (LinuxNamespaceType::Time, _) => {
                return refuse(
                    "namespaces",
                    "time namespaces are not supported yet; remove the time namespace",
                );
            }
            (LinuxNamespaceType::Mount, Some(_)) => {
                return refuse("namespaces", "an existing mount namespace cannot be used; remove its path");
            }
            (_, Some(path)) if !path.is_absolute() => {
                return refuse("namespaces", &format!("{}: the path must be absolute", path.display()));
            }
            _ => {}
        }
    }
    let has = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind);
    if !has(LinuxNamespaceType::Mount) {
        return refuse("namespaces", "there is no mount namespace; add {\"type\":\"mount\"}");
    }
    if (spec.hostname().is_some() || spec.domainname().is_some()) && !has(LinuxNamespaceType::Uts) {
        return Err(RuntimeError::spec(
            "hostname",
            "it would rename the host; add a uts namespace or remove it",
        ));
    }
    unsupported(linux)?;
    sysctls(linux, &has)?;
    if let Some(path) = linux.cgroups_path() {
        cgroups_path(path)?;
    }
    if let Some(resources) = linux.resources() {
        limits(resources)?;
    }
    match linux.rootfs_propagation().as_deref() {
        None
        | Some(
            "" | "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "unbindable"
            | "runbindable",
        ) => Ok(()),
        Some(other) => {
            refuse("rootfsPropagation", &format!("{other:?}; use shared, slave, private or unbindable"))
        }
    }
}

fn unsupported(linux: &oci_spec::runtime::Linux) -> Result<(), RuntimeError> {
    let mapped = |mappings: &Option<Vec<_>>| mappings.as_ref().is_some_and(|mappings| !mappings.is_empty());
    let label = linux.mount_label().as_deref().is_some_and(|label| !label.is_empty());
    let flags = linux.personality().as_ref().and_then(|personality| personality.flags().as_ref());
    let asked = [
        ("personality.flags", flags.is_some_and(|flags| !flags.is_empty()), "the spec defines none"),
        ("uidMappings", mapped(linux.uid_mappings()), "user namespaces are not supported yet"),
        ("gidMappings", mapped(linux.gid_mappings()), "user namespaces are not supported yet"),
        ("mountLabel", label, "SELinux is not supported"),
        ("intelRdt", linux.intel_rdt().is_some(), "resource director technology is not supported"),
        ("memoryPolicy", linux.memory_policy().is_some(), "memory policies are not supported"),
        (
            "netDevices",
            linux.net_devices().as_ref().is_some_and(|all| !all.is_empty()),
            "use CNI's host-device plugin",
        ),
        ("timeOffsets", linux.time_offsets().as_ref().is_some_and(|all| !all.is_empty()), "not supported"),
    ];
    match asked.iter().find(|(_, set, _)| *set) {
        Some((field, _, reason)) => {
            Err(RuntimeError::spec(format!("linux.{field}"), format!("{reason}; remove it")))
        }
        None => Ok(()),
    }
}

/// Compiles the seccomp profile of a configuration. What cannot be applied is refused: running without it would be
/// failing open.
pub(crate) fn seccomp(spec: &Spec) -> Result<Option<seccomp::Program>, RuntimeError> {
    let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(None);
    };
    let refuse = |problem: &dyn std::fmt::Display| RuntimeError::spec("linux.seccomp", problem);
    let program = seccomp::compile(profile).map_err(|error| refuse(&error))?;
    if program.flags & linux::seccomp::NEW_LISTENER != 0 {
        return Err(refuse(&"SCMP_ACT_NOTIFY is not supported yet; use SCMP_ACT_ERRNO"));
    }
    Ok(Some(program))
}

/// A sysctl outside the container's namespaces would change the host.
fn sysctls(
    linux: &oci_spec::runtime::Linux,
    has: &impl Fn(LinuxNamespaceType) -> bool,
) -> Result<(), RuntimeError> {
    for name in linux.sysctl().iter().flat_map(|all| all.keys()) {
        let field = || format!("linux.sysctl[{name}]");
        let Some(path) = sysctl_path(name) else {
            return Err(RuntimeError::spec(field(), "is not the name of a sysctl"));
        };
        const IPC: [&str; 10] = [
            "kernel/msgmax",
            "kernel/msgmnb",
            "kernel/msgmni",
            "kernel/sem",
            "kernel/shmall",
            "kernel/shmmax",
            "kernel/shmmni",
            "kernel/shm_rmid_forced",
            "kernel/auto_msgmni",
            "kernel/sem_next_id",
        ];
        let needs = if path.starts_with("net/") {
            LinuxNamespaceType::Network
        } else if path.starts_with("fs/mqueue/") || IPC.contains(&path.as_str()) {
            LinuxNamespaceType::Ipc
        } else if path == "kernel/domainname" || path == "kernel/hostname" {
            LinuxNamespaceType::Uts
        } else {
            return Err(RuntimeError::spec(
                field(),
                "belongs to no namespace and would change the host; remove it",
            ));
        };
        if !has(needs) {
            return Err(RuntimeError::spec(
                field(),
                format!("would change the host; add a {} namespace", namespace_name(needs)),
            ));
        }
    }
    Ok(())
}

/// As the configuration writes it.
fn namespace_name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

/// The path below `/proc/sys` of a sysctl in dotted or slashed form: whichever of `.` and `/` comes first separates, and
/// the other stands for it inside a part (`net.ipv4.conf.eth0/100.forwarding`).
pub(crate) fn sysctl_path(name: &str) -> Option<String> {
    let slashed = name.find(['.', '/']).is_some_and(|first| name.as_bytes()[first] == b'/');
    let path = if slashed {
        name.to_owned()
    } else {
        name.chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect()
    };
    let good = !path.split('/').any(|part| matches!(part, "" | "." | ".."));
    good.then_some(path)
}

fn cgroups_path(path: &Path) -> Result<(), RuntimeError> {
    let refuse = |problem: &str| {
        Err(RuntimeError::spec("linux.cgroupsPath", format!("{}: {problem}", path.display())))
    };
    let Some(text) = path.to_str() else { return refuse("is not UTF-8") };
    if text.contains(':') {
        return refuse("is a path of the systemd cgroup driver; use the cgroupfs driver and a plain path");
    }
    if text.split('/').any(|part| part == "..") {
        return refuse("climbs; write it without '..'");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
