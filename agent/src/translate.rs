//! From a pod's spec to CRI configurations. Pure.

use std::collections::HashMap;

use agent_core::{pod, resources};
use k8s_openapi::api::core::v1::{Capabilities, Container as Spec, Pod, SeccompProfile};
use proto_cri as cri;

use crate::labels;

/// Paths that a container may not see, unless it is privileged or asks for an unmasked `/proc`.
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Paths that a container may not write.
const READ_ONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a sandbox is made from beside the pod itself.
#[derive(Debug, Clone)]
pub(crate) struct SandboxParts {
    pub(crate) uid: String,
    pub(crate) attempt: u32,
    pub(crate) node_name: String,
    pub(crate) log_directory: String,
    pub(crate) cgroup_parent: String,
    pub(crate) hostname: String,
    pub(crate) dns: cri::DnsConfig,
}

/// The configuration of a pod's sandbox.
pub(crate) fn sandbox(pod: &Pod, parts: &SandboxParts) -> cri::PodSandboxConfig {
    let mut labels: HashMap<String, String> = pod.metadata.labels.clone().into_iter().flatten().collect();
    labels.extend(pod_labels(pod, parts));
    let mut annotations: HashMap<String, String> =
        pod.metadata.annotations.clone().into_iter().flatten().collect();
    annotations.insert(labels::POD_GRACE.into(), pod::grace_seconds(pod).to_string());
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod::name(pod).into(),
            uid: parts.uid.clone(),
            namespace: pod::namespace(pod).into(),
            attempt: parts.attempt,
        }),
        hostname: if pod::host_network(pod) { String::new() } else { parts.hostname.clone() },
        log_directory: parts.log_directory.clone(),
        dns_config: Some(parts.dns.clone()),
        port_mappings: port_mappings(pod),
        labels,
        annotations,
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: parts.cgroup_parent.clone(),
            security_context: Some(sandbox_security(pod)),
            sysctls: sysctls(pod),
            overhead: Some(linux_resources(resources::overhead(pod), 0)),
            resources: Some(linux_resources(resources::pod_limits(pod), 0)),
        }),
        windows: None,
    }
}

fn pod_labels(pod: &Pod, parts: &SandboxParts) -> [(String, String); 4] {
    [
        (labels::POD_NAME, pod::name(pod)),
        (labels::POD_NAMESPACE, pod::namespace(pod)),
        (labels::POD_UID, &parts.uid),
        (labels::NODE, &parts.node_name),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
}

fn port_mappings(pod: &Pod) -> Vec<cri::PortMapping> {
    if pod::host_network(pod) {
        return Vec::new();
    }
    let containers =
        pod::containers(pod).iter().chain(pod::init_containers(pod).iter().filter(|c| pod::sidecar(c)));
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .map(|port| cri::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn sysctls(pod: &Pod) -> HashMap<String, String> {
    let security = pod::spec(pod).security_context.as_ref();
    let sysctls = security.and_then(|s| s.sysctls.as_ref()).into_iter().flatten();
    sysctls.map(|s| (s.name.replace('/', "."), s.value.clone())).collect()
}

/// Namespaces of the pod's containers; `target` is the container whose processes one of them sees.
fn namespaces(pod: &Pod, target: &str) -> cri::NamespaceOption {
    let spec = pod::spec(pod);
    let mode = |host: Option<bool>, own| if host == Some(true) { cri::NamespaceMode::Node } else { own };
    let pid = match spec.share_process_namespace {
        _ if !target.is_empty() => cri::NamespaceMode::Target,
        Some(true) => cri::NamespaceMode::Pod,
        _ => cri::NamespaceMode::Container,
    };
    cri::NamespaceOption {
        network: mode(spec.host_network, cri::NamespaceMode::Pod).into(),
        pid: mode(spec.host_pid, pid).into(),
        ipc: mode(spec.host_ipc, cri::NamespaceMode::Pod).into(),
        target_id: target.to_owned(),
        ..Default::default()
    }
}

fn sandbox_security(pod: &Pod) -> cri::LinuxSandboxSecurityContext {
    let security = pod::spec(pod).security_context.clone().unwrap_or_default();
    let privileged = |c: &Spec| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, "")),
        run_as_user: security.run_as_user.map(|value| cri::Int64Value { value }),
        run_as_group: security.run_as_group.map(|value| cri::Int64Value { value }),
        supplemental_groups: groups(pod),
        privileged: pod::all_containers(pod).any(privileged),
        seccomp: Some(cri::SecurityProfile {
            profile_type: cri::security_profile::ProfileType::RuntimeDefault.into(),
            localhost_ref: String::new(),
        }),
        ..Default::default()
    }
}

/// Supplemental groups of all containers, the volumes' group among them.
fn groups(pod: &Pod) -> Vec<i64> {
    let security = pod::spec(pod).security_context.as_ref();
    let groups = security.and_then(|s| s.supplemental_groups.clone()).unwrap_or_default();
    groups.into_iter().chain(security.and_then(|s| s.fs_group)).collect()
}

fn linux_resources(limits: resources::Limits, oom_score_adj: i64) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_period: resources::CPU_PERIOD_US,
        cpu_quota: limits.cpu_quota_us.unwrap_or(0),
        cpu_shares: limits.cpu_shares,
        memory_limit_in_bytes: limits.memory_bytes.unwrap_or(0),
        oom_score_adj,
        ..Default::default()
    }
}

/// What the kernel is told of a container.
pub(crate) fn container_resources(
    pod: &Pod,
    spec: &Spec,
    node_memory_bytes: i64,
) -> cri::LinuxContainerResources {
    let oom_score_adj = resources::oom_score_adj(pod, spec, node_memory_bytes);
    linux_resources(resources::container_limits(spec), oom_score_adj)
}

/// What a container is made from beside its spec.
#[derive(Debug, Clone)]
pub(crate) struct ContainerParts {
    pub(crate) sandbox: SandboxParts,
    pub(crate) attempt: u32,
    pub(crate) crashes: u32,
    /// The runtime's reference to the image.
    pub(crate) image: String,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) mounts: Vec<cri::Mount>,
    /// The id of the container whose processes it sees; empty for its own alone.
    pub(crate) target: String,
    pub(crate) node_memory_bytes: i64,
}

/// The configuration of a container.
pub(crate) fn container(pod: &Pod, spec: &Spec, parts: &ContainerParts) -> cri::ContainerConfig {
    let mut labels: HashMap<String, String> = pod_labels(pod, &parts.sandbox).into();
    labels.insert(labels::CONTAINER_NAME.into(), spec.name.clone());
    let annotations = [
        (labels::RESTART_COUNT, parts.attempt.to_string()),
        (labels::CRASHES, parts.crashes.to_string()),
        (labels::IMAGE, pod::image(spec).to_owned()),
        (labels::MESSAGE_PATH, spec.termination_message_path.clone().unwrap_or_default()),
        (labels::MESSAGE_POLICY, spec.termination_message_policy.clone().unwrap_or_default()),
        (labels::POD_GRACE, pod::grace_seconds(pod).to_string()),
    ];
    let expand = |texts| agent_core::env::expand_all(texts, &parts.environment);
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: spec.name.clone(), attempt: parts.attempt }),
        image: Some(cri::ImageSpec {
            image: parts.image.clone(),
            user_specified_image: pod::image(spec).to_owned(),
            ..Default::default()
        }),
        command: expand(spec.command.as_ref()),
        args: expand(spec.args.as_ref()),
        working_dir: spec.working_dir.clone().unwrap_or_default(),
        envs: parts
            .environment
            .iter()
            .map(|(key, value)| cri::KeyValue { key: key.clone(), value: value.clone().into_bytes() })
            .collect(),
        mounts: parts.mounts.clone(),
        labels,
        annotations: annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        log_path: log_path(&spec.name, parts.attempt),
        stdin: spec.stdin == Some(true),
        stdin_once: spec.stdin_once == Some(true),
        tty: spec.tty == Some(true),
        stop_signal: stop_signal(spec).into(),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(container_resources(pod, spec, parts.node_memory_bytes)),
            security_context: Some(container_security(pod, spec, &parts.target)),
        }),
        ..Default::default()
    }
}

/// The signal that ends the container, where it names one.
fn stop_signal(spec: &Spec) -> cri::Signal {
    let name = spec.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    let name = name.map(|n| format!("SIGNAL_{}", n.replace('+', "PLUS").replace('-', "MINUS")));
    name.and_then(|name| cri::Signal::from_str_name(&name)).unwrap_or(cri::Signal::RuntimeDefault)
}

/// A container's log below its pod's log directory.
pub(crate) fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

fn container_security(pod: &Pod, spec: &Spec, target: &str) -> cri::LinuxContainerSecurityContext {
    let of_pod = pod::spec(pod).security_context.clone().unwrap_or_default();
    let own = spec.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths =
        |all: &[&str]| if unmasked { Vec::new() } else { all.iter().map(|p| (*p).to_owned()).collect() };
    let user = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    let profile = own.seccomp_profile.or(of_pod.seccomp_profile);
    cri::LinuxContainerSecurityContext {
        capabilities: own.capabilities.map(capabilities),
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        run_as_user: user.map(|value| cri::Int64Value { value }),
        run_as_group: group.map(|value| cri::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: match of_pod.supplemental_groups_policy.as_deref() {
            Some("Strict") => cri::SupplementalGroupsPolicy::Strict,
            _ => cri::SupplementalGroupsPolicy::Merge,
        }
        .into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(MASKED_PATHS),
        readonly_paths: paths(READ_ONLY_PATHS),
        seccomp: Some(seccomp(profile.as_ref(), privileged)),
        ..Default::default()
    }
}

fn capabilities(own: Capabilities) -> cri::Capability {
    cri::Capability {
        add_capabilities: own.add.unwrap_or_default(),
        drop_capabilities: own.drop.unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    }
}

/// The runtime's default profile where the pod names none: unlike upstream, what is not asked for is not unconfined.
fn seccomp(profile: Option<&SeccompProfile>, privileged: bool) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (kind, path) = match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        _ if privileged => (ProfileType::Unconfined, None),
        Some(("Unconfined", _)) => (ProfileType::Unconfined, None),
        Some(("Localhost", path)) => (ProfileType::Localhost, path),
        _ => (ProfileType::RuntimeDefault, None),
    };
    cri::SecurityProfile { profile_type: kind.into(), localhost_ref: path.unwrap_or_default().to_owned() }
}

#[cfg(test)]
mod tests;
