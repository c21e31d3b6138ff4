//! A pod's sandbox: what its monitor shall set up, and what is refused.

use std::path::Path;

use proto_cri::{DnsConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig};
use proto_node::monitor::{MonitorConfig, VERSION};

use super::{Host, PlanError, resources, security};

/// The kernel's limit on a host name.
const HOSTNAME_BYTES_MAX: usize = 64;
/// `oom_score_adj` of a pod's monitor: the kernel shall take containers first.
const OOM_SCORE_ADJ: i64 = -998;

pub(super) fn context(config: &PodSandboxConfig) -> LinuxSandboxSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

fn namespaces(config: &PodSandboxConfig) -> NamespaceOption {
    context(config).namespace_options.unwrap_or_default()
}

/// The pod uses the host's network.
pub(crate) fn host_network(config: &PodSandboxConfig) -> bool {
    namespaces(config).network() == NamespaceMode::Node
}

/// A mode of its own (POD) is refused: better than a container that believes to be confined.
pub(super) fn user_namespace(options: Option<&NamespaceOption>) -> Result<(), PlanError> {
    match options.and_then(|options| options.userns_options.as_ref()) {
        Some(options) if options.mode() != NamespaceMode::Node => Err(PlanError::invalid(
            "linux.security_context.namespace_options.userns_options.mode",
            "only NODE is supported: this runtime has no user namespaces (set hostUsers: true)",
        )),
        _ => Ok(()),
    }
}

/// What can be refused before anything is touched.
pub(crate) fn validate(config: &PodSandboxConfig) -> Result<(), PlanError> {
    let metadata =
        config.metadata.as_ref().ok_or_else(|| PlanError::invalid("config.metadata", "is missing"))?;
    if metadata.name.is_empty() {
        return Err(PlanError::invalid("config.metadata.name", "is empty"));
    }
    if config.hostname.len() > HOSTNAME_BYTES_MAX || config.hostname.contains(['\0', '\n', '/']) {
        return Err(PlanError::invalid(
            "config.hostname",
            format!("{:?} is no host name of 64 bytes", config.hostname),
        ));
    }
    let options = namespaces(config);
    user_namespace(Some(&options))?;
    for (field, mode) in [("network", options.network()), ("ipc", options.ipc())] {
        if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
            let field = format!("linux.security_context.namespace_options.{field}");
            return Err(PlanError::invalid(&field, "must be POD or NODE"));
        }
    }
    security::selinux(context(config).selinux_options.as_ref())?;
    let linux = config.linux.clone().unwrap_or_default();
    if linux.cgroup_parent.contains(':') || linux.cgroup_parent.ends_with(".slice") {
        let message =
            format!("{:?}: the cgroupfs driver takes a path such as /kubepods/pod1", linux.cgroup_parent);
        return Err(PlanError::invalid("linux.cgroup_parent", message));
    }
    if Path::new(&linux.cgroup_parent).components().any(|part| part == std::path::Component::ParentDir) {
        return Err(PlanError::invalid("linux.cgroup_parent", format!("{:?} climbs", linux.cgroup_parent)));
    }
    for (index, port) in config.port_mappings.iter().enumerate() {
        let range = 0..=i32::from(u16::MAX);
        if !range.contains(&port.container_port) || !range.contains(&port.host_port) {
            let message = format!("{} to {} is out of range", port.host_port, port.container_port);
            return Err(PlanError::invalid(&format!("port_mappings[{index}]"), message));
        }
    }
    linux.sysctls.keys().try_for_each(|name| sysctl(name, &options))
}

/// Only sysctls of a namespace that the pod has for itself; others would change the machine.
fn sysctl(name: &str, options: &NamespaceOption) -> Result<(), PlanError> {
    let invalid = |reason: &str| Err(PlanError::invalid(&format!("linux.sysctls[{name}]"), reason));
    let dotted = name.replace('/', ".");
    let own = |mode: NamespaceMode| mode != NamespaceMode::Node;
    if dotted.contains("..") || dotted.starts_with('.') {
        return invalid("is no sysctl name");
    }
    let ipc =
        ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"];
    let ipc = ipc.contains(&dotted.as_str())
        || matches!(dotted.as_str(), "kernel.shmmni" | "kernel.shm_rmid_forced" | "kernel.msg_next_id")
        || dotted.starts_with("fs.mqueue.");
    if dotted.starts_with("net.") {
        return if own(options.network()) { Ok(()) } else { invalid("the pod uses the host's network") };
    }
    if ipc {
        return if own(options.ipc()) { Ok(()) } else { invalid("the pod uses the host's IPC namespace") };
    }
    if matches!(dotted.as_str(), "kernel.domainname") && own(options.network()) {
        return Ok(());
    }
    invalid("is not namespaced: it would change the whole machine")
}

/// What the monitor of this pod shall set up.
pub(crate) fn monitor_config(
    id: &str,
    config: &PodSandboxConfig,
    oci_root: &Path,
    host: &Host,
) -> MonitorConfig {
    let options = namespaces(config);
    let new_network = options.network() != NamespaceMode::Node;
    let sysctls = config.linux.as_ref().map(|linux| linux.sysctls.clone()).unwrap_or_default();
    MonitorConfig {
        version: VERSION,
        sandbox_id: id.to_owned(),
        new_network,
        new_ipc: options.ipc() != NamespaceMode::Node,
        hostname: new_network.then(|| hostname(id, config)),
        shared_pid: options.pid() == NamespaceMode::Pod,
        sysctls: sysctls.into_iter().collect(),
        oom_score_adj: resources::oom_score_adj(OOM_SCORE_ADJ, host),
        oci_root: oci_root.to_owned(),
    }
}

/// The wished name, else the beginning of the sandbox's id.
fn hostname(id: &str, config: &PodSandboxConfig) -> String {
    if config.hostname.is_empty() { id.chars().take(12).collect() } else { config.hostname.clone() }
}

/// The pod's `/etc/resolv.conf`; `None` where the host's is to be used.
pub(crate) fn resolv_conf(dns: Option<&DnsConfig>) -> Option<String> {
    let dns = dns?;
    if dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty() {
        return None;
    }
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proto_cri::{LinuxPodSandboxConfig, PodSandboxMetadata, PortMapping, UserNamespace};

    use super::*;

    fn config(
        edit: impl FnOnce(&mut PodSandboxConfig, &mut LinuxPodSandboxConfig, &mut NamespaceOption),
    ) -> PodSandboxConfig {
        let mut config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata { name: "web".into(), ..Default::default() }),
            ..Default::default()
        };
        let (mut linux, mut options) = (LinuxPodSandboxConfig::default(), NamespaceOption::default());
        edit(&mut config, &mut linux, &mut options);
        linux.security_context =
            Some(LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() });
        config.linux = Some(linux);
        config
    }

    fn sysctl(name: &str) -> std::collections::HashMap<String, String> {
        [(name.to_owned(), "1".to_owned())].into()
    }

    #[test]
    fn refusals_name_the_field() {
        let node = NamespaceMode::Node as i32;
        for (config, expected) in [
            (config(|c, _, _| c.metadata = None), "metadata"),
            (config(|c, _, _| c.hostname = "x".repeat(65)), "hostname"),
            (config(|_, _, o| o.userns_options = Some(UserNamespace::default())), "userns_options"),
            (config(|_, _, o| o.network = NamespaceMode::Target as i32), "network"),
            (config(|_, l, _| l.cgroup_parent = "kubepods.slice".into()), "cgroup_parent"),
            (config(|_, l, _| l.cgroup_parent = "/a/../../b".into()), "climbs"),
            (
                config(|c, _, _| {
                    c.port_mappings = vec![PortMapping { host_port: 70_000, ..Default::default() }]
                }),
                "port_mappings[0]",
            ),
            (config(|_, l, _| l.sysctls = sysctl("vm.overcommit_memory")), "vm.overcommit_memory"),
            (config(|_, l, _| l.sysctls = sysctl("net.ipv4..x")), "no sysctl name"),
            (
                config(|_, l, o| {
                    l.sysctls = sysctl("net.ipv4.ip_forward");
                    o.network = node
                }),
                "host's network",
            ),
            (
                config(|_, l, o| {
                    l.sysctls = sysctl("kernel.shmmax");
                    o.ipc = node
                }),
                "host's IPC",
            ),
        ] {
            let error = validate(&config).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
        validate(&config(|_, l, _| l.sysctls = sysctl("kernel/shm_rmid_forced"))).unwrap();
    }

    #[test]
    fn monitors() {
        let id = "0123456789abcdef";
        let own = monitor_config(id, &config(|_, _, _| ()), Path::new("/run/oci"), &Host::default());
        assert!(own.new_network && own.new_ipc && own.shared_pid);
        assert_eq!(own.hostname.as_deref(), Some("0123456789ab"));
        let hosts = config(|_, _, o| {
            o.network = NamespaceMode::Node as i32;
            o.pid = NamespaceMode::Container as i32;
        });
        let hosts = monitor_config(id, &hosts, Path::new("/run/oci"), &Host::default());
        assert!(!hosts.new_network && !hosts.shared_pid && hosts.hostname.is_none());
    }

    #[test]
    fn resolver() {
        let dns = |servers: &[&str], searches: &[&str], options: &[&str]| DnsConfig {
            servers: servers.iter().map(ToString::to_string).collect(),
            searches: searches.iter().map(ToString::to_string).collect(),
            options: options.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(resolv_conf(None), None);
        assert_eq!(resolv_conf(Some(&dns(&[], &[], &[]))), None);
        let full = resolv_conf(Some(&dns(&["10.0.0.1", "::1"], &["a.b", "c"], &["ndots:5"])));
        assert_eq!(
            full.as_deref(),
            Some("search a.b c\nnameserver 10.0.0.1\nnameserver ::1\noptions ndots:5\n")
        );
    }
}
