//! From CRI's configuration, the image's and facts about this machine to an OCI spec. Pure: nothing here reads a
//! file or asks the kernel, so the same input gives the same container.

mod mounts;
mod pod;
mod process;
mod resources;
mod security;
mod signal;
mod user;

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Capabilities, Linux, LinuxDevice, LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType, LinuxResources,
    LinuxSeccomp, Root, Spec,
};
use proto_cri::{
    ContainerConfig, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
};

pub(crate) use mounts::Source;
pub(crate) use pod::{host_network, monitor_config, resolv_conf, validate as validate_pod};
pub(crate) use process::exec;
pub(crate) use resources::resources;
pub(crate) use security::{Filter, filter};
pub(crate) use signal::{number as signal_number, of_cri as signal_of_cri, to_cri as signal_to_cri};
pub(crate) use user::{Accounts, User, user};

/// Why a configuration cannot become a container here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct PlanError {
    field: String,
    reason: String,
}

impl PlanError {
    pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self { field: field.to_owned(), reason: reason.into() }
    }
}

/// What the plan must know of this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    pub(crate) cgroup_v2: bool,
    /// The kernel can limit memory and swap together.
    pub(crate) swap_limit: bool,
    pub(crate) apparmor: bool,
    /// `mount_setattr(AT_RECURSIVE)`, Linux 5.12.
    pub(crate) recursive_read_only: bool,
    /// What this process may give away: its bounding set.
    pub(crate) capabilities: Capabilities,
    /// The least `oom_score_adj` this process may set; `None`: any.
    pub(crate) oom_score_adj_min: Option<i32>,
}

/// What the plan must know of an image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
}

/// Where the container's pod is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pod<'a> {
    pub(crate) id: &'a str,
    /// Holds `hostname`, `hosts`, `resolv.conf`, `shm`.
    pub(crate) dir: PathBuf,
    /// Its network, IPC and UTS namespaces are the pod's.
    pub(crate) monitor_pid: u32,
    /// Its PID namespace is the pod's, where the pod shares one.
    pub(crate) pause_pid: Option<u32>,
    /// The first process of the container whose PID namespace is to be shared.
    pub(crate) target_pid: Option<u32>,
    pub(crate) cgroup_parent: &'a str,
    pub(crate) config: PodSandboxConfig,
}

/// A container as far as it could be resolved on this machine.
pub(crate) struct Container<'a> {
    pub(crate) id: &'a str,
    pub(crate) config: &'a ContainerConfig,
    pub(crate) image: &'a Image,
    pub(crate) image_name: &'a str,
    pub(crate) user: &'a User,
    /// Of `config.mounts`, in its order.
    pub(crate) sources: &'a [Source],
    pub(crate) devices: Vec<(LinuxDevice, LinuxDeviceCgroup)>,
    pub(crate) seccomp: Option<LinuxSeccomp>,
}

/// The security context of a container, empty if it has none.
pub(crate) fn context(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

/// What can be refused before anything is touched.
pub(crate) fn validate(config: &ContainerConfig, pod: &PodSandboxConfig) -> Result<(), PlanError> {
    let metadata = config.metadata.as_ref();
    if metadata.is_none_or(|metadata| metadata.name.is_empty()) {
        return Err(PlanError::invalid("config.metadata.name", "is empty"));
    }
    if config.image.as_ref().is_none_or(|image| image.image.is_empty()) {
        return Err(PlanError::invalid("config.image.image", "is empty"));
    }
    if !config.cdi_devices.is_empty() {
        return Err(PlanError::invalid("config.CDI_devices", "CDI is not supported by this runtime"));
    }
    let context = context(config);
    if context.privileged && !pod::context(pod).privileged {
        return Err(PlanError::invalid(
            "linux.security_context.privileged",
            "a privileged container needs a privileged sandbox",
        ));
    }
    if config.envs.iter().any(|env| env.key.is_empty() || env.key.contains(['=', '\0'])) {
        return Err(PlanError::invalid("config.envs", "a name is empty or holds '='"));
    }
    security::selinux(context.selinux_options.as_ref())?;
    pod::user_namespace(context.namespace_options.as_ref())?;
    config.mounts.iter().enumerate().try_for_each(|(index, mount)| mounts::validate(index, mount))
}

/// The path of a container's cgroup.
pub(crate) fn cgroups_path(parent: &str, id: &str) -> String {
    format!("/{}/{id}", parent.trim_matches('/'))
}

/// The OCI spec.
pub(crate) fn spec(container: &Container<'_>, pod: &Pod<'_>, host: &Host) -> Result<Spec, PlanError> {
    let context = context(container.config);
    let (mounts, propagation) = mounts::mounts(container.config, container.sources, &pod.dir, host);
    let mut linux = Linux::default();
    let paths = |paths: &[String]| (!context.privileged && !paths.is_empty()).then(|| paths.to_vec());
    linux
        .set_namespaces(Some(namespaces(context.namespace_options.as_ref(), pod, context.privileged, host)?))
        .set_resources(Some(limits(container, context.privileged, host)?))
        .set_cgroups_path(Some(PathBuf::from(cgroups_path(pod.cgroup_parent, container.id))))
        .set_masked_paths(paths(&context.masked_paths))
        .set_readonly_paths(paths(&context.readonly_paths))
        .set_rootfs_propagation(propagation)
        .set_seccomp(container.seccomp.clone());
    linux.set_devices(Some(container.devices.iter().map(|(device, _)| device.clone()).collect()));
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(context.readonly_rootfs));
    let mut spec = Spec::default();
    spec.set_version("1.1.0".to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounts))
        .set_hostname(None)
        .set_process(Some(process::process(container, pod, &context, host)?))
        .set_annotations(Some(annotations(container, pod)))
        .set_linux(Some(linux));
    Ok(spec)
}

fn limits(container: &Container<'_>, privileged: bool, host: &Host) -> Result<LinuxResources, PlanError> {
    let wished = container.config.linux.as_ref().and_then(|linux| linux.resources.clone());
    let mut resources = resources(&wished.unwrap_or_default(), host)?;
    let mut rules = vec![resources::device_rule(privileged)];
    if !privileged {
        rules.extend(container.devices.iter().map(|(_, rule)| rule.clone()));
    }
    resources.set_devices(Some(rules));
    Ok(resources)
}

/// Network, IPC and UTS are the pod's (or, with the host's, nothing to join), PID as wished, mounts its own.
fn namespaces(
    options: Option<&NamespaceOption>,
    pod: &Pod<'_>,
    privileged: bool,
    host: &Host,
) -> Result<Vec<LinuxNamespace>, PlanError> {
    let of = |kind, path: Option<String>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(path.map(PathBuf::from));
        namespace
    };
    let default = NamespaceOption::default();
    let options = options.unwrap_or(&default);
    let pods = |name: &str| Some(format!("/proc/{}/ns/{name}", pod.monitor_pid));
    let mut all = vec![of(LinuxNamespaceType::Mount, None)];
    if options.network() != NamespaceMode::Node {
        all.push(of(LinuxNamespaceType::Network, pods("net")));
        all.push(of(LinuxNamespaceType::Uts, pods("uts")));
    }
    if options.ipc() != NamespaceMode::Node {
        all.push(of(LinuxNamespaceType::Ipc, pods("ipc")));
    }
    let missing = |what: &str| PlanError::invalid("linux.security_context.namespace_options.pid", what);
    match options.pid() {
        NamespaceMode::Node => {}
        NamespaceMode::Container => all.push(of(LinuxNamespaceType::Pid, None)),
        NamespaceMode::Pod => {
            let pid = pod.pause_pid.ok_or_else(|| {
                missing("is POD, but the sandbox was made without a shared PID namespace; use CONTAINER")
            })?;
            all.push(of(LinuxNamespaceType::Pid, Some(format!("/proc/{pid}/ns/pid"))));
        }
        NamespaceMode::Target => {
            let pid = pod
                .target_pid
                .ok_or_else(|| missing("is TARGET, but target_id names no running container"))?;
            all.push(of(LinuxNamespaceType::Pid, Some(format!("/proc/{pid}/ns/pid"))));
        }
    }
    if host.cgroup_v2 && !privileged {
        all.push(of(LinuxNamespaceType::Cgroup, None));
    }
    Ok(all)
}

/// The container's own, and those by which other tools know a Kubernetes container.
fn annotations(container: &Container<'_>, pod: &Pod<'_>) -> HashMap<String, String> {
    let sandbox = pod.config.metadata.clone().unwrap_or_default();
    let name = container.config.metadata.clone().unwrap_or_default().name;
    let known = [
        ("container-type", "container".to_owned()),
        ("container-name", name),
        ("image-name", container.image_name.to_owned()),
        ("sandbox-id", pod.id.to_owned()),
        ("sandbox-name", sandbox.name),
        ("sandbox-namespace", sandbox.namespace),
        ("sandbox-uid", sandbox.uid),
    ];
    let known = known.into_iter().map(|(key, value)| (format!("io.kubernetes.cri.{key}"), value));
    container.config.annotations.clone().into_iter().chain(known).collect()
}

#[cfg(test)]
mod tests;
