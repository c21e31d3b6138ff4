//! The kernel's switches below `/proc/sys/net`.

use std::fs;
use std::io;

use tracing::{info, warn};

/// What a switch must be, and why: for the log.
struct Switch {
    path: String,
    value: &'static str,
    why: &'static str,
}

/// Sets a switch that is not so already. Gives what it was before, where it was changed.
pub(crate) fn set(path: &str, value: &str) -> io::Result<Option<String>> {
    let path = format!("/proc/sys/net/{path}");
    let before = fs::read_to_string(&path)?.trim().to_owned();
    if before == value {
        return Ok(None);
    }
    fs::write(&path, value)?;
    Ok(Some(before))
}

/// Sets what packets between pods and nodes need, and says what was changed. `under` is the link to other nodes.
pub(crate) fn prepare(families: [bool; 2], under: Option<&str>) {
    let switch = |path: &str, value, why| Switch { path: path.to_owned(), value, why };
    let mut switches = Vec::new();
    if families[0] {
        switches.push(switch("ipv4/ip_forward", "1", "pods reach others through this machine"));
        let why = "what pods on one bridge say to each other through a service comes back through it";
        switches.push(switch("bridge/bridge-nf-call-iptables", "1", why));
    }
    if families[1] {
        if let Some(under) = under
            && fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{under}/accept_ra"))
                .is_ok_and(|v| v.trim() == "1")
        {
            let why = "a machine that forwards goes on hearing its router";
            switches.push(Switch { path: format!("ipv6/conf/{under}/accept_ra"), value: "2", why });
        }
        switches.push(switch("ipv6/conf/all/forwarding", "1", "pods reach others through this machine"));
        let why = "what pods on one bridge say to each other through a service comes back through it";
        switches.push(switch("bridge/bridge-nf-call-ip6tables", "1", why));
    }
    for Switch { path, value, why } in switches {
        match set(&path, value) {
            Ok(None) => {}
            Ok(Some(before)) => info!(path, before, now = value, why, "switched"),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.starts_with("bridge/") => {
                warn!(
                    path,
                    why,
                    "the kernel module br_netfilter is not loaded: load it, or a pod will not reach \
                                  services whose pod is on the same node"
                );
            }
            Err(error) => warn!(path, %error, why, "cannot switch"),
        }
    }
}
