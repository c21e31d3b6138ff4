//! Facts about this machine.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use agent_core::Node;

use crate::config::Config;

/// The node as it is now; the runtime's part is added when it answers.
pub(crate) fn facts(config: &Config) -> Node {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Node {
        name: config.node_name.clone(),
        ips: if config.node_ips.is_empty() { addresses() } else { config.node_ips.clone() },
        runtime_name: "cleat".to_owned(),
        cpu_millis: i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1000),
        memory_bytes: memory_bytes().unwrap_or(0),
        network_problem: None,
    }
}

/// The addresses from which this machine would reach others. Nothing is sent.
fn addresses() -> Vec<IpAddr> {
    let from = |bind: &str, to: &str| -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind(bind)?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    let both = [from("0.0.0.0:0", "192.0.2.1:9"), from("[::]:0", "[2001:db8::1]:9")];
    let found: Vec<IpAddr> = both.into_iter().flatten().filter(|ip| !ip.is_unspecified()).collect();
    if found.is_empty() { vec![IpAddr::from([127, 0, 0, 1])] } else { found }
}

fn memory_bytes() -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
