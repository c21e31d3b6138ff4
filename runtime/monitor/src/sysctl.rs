//! Sysctls of the pod's own namespaces. Those that would reach the host are refused.

use std::path::PathBuf;

use proto_node::monitor::MonitorConfig;

/// The file of a sysctl that lies in one of the namespaces the pod has of its own.
///
/// # Errors
/// Why it may not be set.
pub(crate) fn file(config: &MonitorConfig, name: &str) -> Result<PathBuf, String> {
    let name = slashed(name);
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it is not a name".to_owned());
    }
    let network = name.starts_with("net/");
    let ipc = matches!(name.as_str(), "kernel/sem" | "kernel/shmall" | "kernel/shmmax" | "kernel/shmmni")
        || name.starts_with("kernel/shm_")
        || name.starts_with("kernel/msg")
        || name.starts_with("fs/mqueue/");
    match (network, ipc) {
        (true, _) if !config.new_network => Err("the pod uses the host's network namespace".to_owned()),
        (_, true) if !config.new_ipc => Err("the pod uses the host's IPC namespace".to_owned()),
        (false, false) => Err("it belongs to no namespace of a pod".to_owned()),
        _ => Ok(PathBuf::from("/proc/sys").join(name)),
    }
}

/// A name whose first separator is a dot has dots for separators and slashes within its parts, as in sysctl(8).
fn slashed(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => {
            let swap = |letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_what_is_the_pods() {
        let mut config = MonitorConfig {
            version: 1,
            sandbox_id: String::new(),
            new_network: true,
            new_ipc: true,
            hostname: None,
            shared_pid: false,
            sysctls: BTreeMap::new(),
            oom_score_adj: 0,
            oci_root: PathBuf::new(),
        };
        let table = [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/conf/eth0.100/forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
            ("net.ipv4.conf.eth0/100.forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
            ("kernel.shm_rmid_forced", Some("kernel/shm_rmid_forced")),
            ("kernel.msgmax", Some("kernel/msgmax")),
            ("fs.mqueue.msg_max", Some("fs/mqueue/msg_max")),
            ("kernel.core_pattern", None),
            ("vm.overcommit_memory", None),
            ("net/../kernel/core_pattern", None),
            ("net..ipv4", None),
            ("", None),
        ];
        for (name, expected) in table {
            let expected = expected.map(|path| PathBuf::from("/proc/sys").join(path));
            assert_eq!(file(&config, name).ok(), expected, "{name}");
        }
        (config.new_network, config.new_ipc) = (false, false);
        assert!(file(&config, "net.ipv4.ip_forward").unwrap_err().contains("network"));
        assert!(file(&config, "kernel.sem").unwrap_err().contains("IPC"));
    }
}
