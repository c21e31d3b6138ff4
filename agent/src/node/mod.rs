//! This node: facts about its machine, and its place in the cluster.

pub(crate) mod lease;
pub(crate) mod machine;
pub(crate) mod object;
pub(crate) mod pressure;
pub(crate) mod register;
mod status;

use std::net::{IpAddr, UdpSocket};

use agent_core::Node;
use tokio::sync::watch;

use self::lease::Lease;
use self::machine::Machine;
use self::pressure::{Pressure, Thresholds};
use self::register::Registration;
use self::status::Status;
use crate::clock::Clock;
use crate::config::{Api, Config};
use crate::cri::Cri;
use crate::events::Events;
use crate::runtime::Runtime;

/// The node as it is now; the runtime's part is added when it answers.
pub(crate) fn facts(config: &Config) -> Node {
    let ips = if config.node_ips.is_empty() { addresses() } else { config.node_ips.clone() };
    let of = object_facts(config, &ips);
    Node {
        name: config.node_name.clone(),
        allocatable: object::amounts(&of),
        unsafe_sysctls: config.unsafe_sysctls.clone(),
        ips,
        runtime_name: "cleat".to_owned(),
        memory_bytes: of.machine.memory_kilobytes.saturating_mul(1024),
        object: serde_json::Value::Null,
        network_problem: None,
    }
}

/// What the node's object tells.
fn object_facts(config: &Config, ips: &[IpAddr]) -> object::Facts {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    object::Facts {
        name: config.node_name.clone(),
        ips: ips.to_vec(),
        cpu_millis: i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1000),
        machine: Machine::read(&config.data_dir),
        pods_max: config.pods_max,
        reserved: config.reserved.clone(),
        thresholds: Thresholds::new(config.data_dir.clone(), config.eviction_hard.clone()),
        labels: config.api.as_ref().map(|api| api.labels.clone()).unwrap_or_default(),
        taints: config.api.as_ref().map(|api| api.taints.clone()).unwrap_or_default(),
    }
}

/// The registration of this node with the API server, as the agent `id`.
pub(crate) fn registration(
    (config, api, id): (&Config, &Api, String),
    (cri, clock, node, events): (Cri, Clock, &Node, Events),
    runtime: watch::Receiver<Option<Runtime>>,
    port: watch::Receiver<u16>,
) -> Registration {
    let facts = object_facts(config, &node.ips);
    let thresholds = Thresholds::new(config.data_dir.clone(), config.eviction_hard.clone());
    let client = api.cache.client().clone();
    Registration {
        lease: Lease { client, node: config.node_name.clone(), id, clock },
        status: Status {
            cache: api.cache.clone(),
            cri,
            clock,
            facts,
            thresholds,
            pressure: Pressure::default(),
            runtime,
            port,
            events,
        },
        named: api.named.clone(),
        register: api.register,
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
