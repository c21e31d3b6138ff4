//! Which pods may not begin yet because another pod or the node's size is in their way. Such a pod waits; it is tried
//! again whenever the others change.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;

use crate::desired::{Desired, DesiredPod};
use crate::observed::{Node, Observed};
use crate::pod;
use crate::resources;
use crate::status::Waiting;

/// A port of the node: protocol, address, port.
type HostPort = (String, String, i32);

/// What pods that run or may run have taken.
#[derive(Default)]
struct Taken {
    ports: Vec<(HostPort, String)>,
    cpu_millis: i64,
    memory_bytes: i64,
}

/// Says for each pod that has to wait, by uid, what for. Pods that have a sandbox or are ending keep what they have;
/// after them the order of the desired pods counts.
#[must_use]
pub fn holds(desired: &Desired, observed: &Observed) -> BTreeMap<String, Waiting> {
    let begun = |pod: &&DesiredPod| {
        pod.end.is_some() || observed.pods.get(&pod.uid).is_some_and(|seen| !seen.sandboxes.is_empty())
    };
    let over = |pod: &&DesiredPod| {
        let status = observed.pods.get(&pod.uid).and_then(|seen| seen.status.as_ref());
        matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
    };
    let ending: BTreeSet<String> =
        desired.pods.iter().filter(|p| p.end.is_some()).map(|p| pod::full_name(&p.pod)).collect();
    let mut taken = Taken::default();
    for pod in desired.pods.iter().filter(begun).filter(|p| !over(p)) {
        taken.take(&pod.pod);
    }
    let mut holds = BTreeMap::new();
    for pod in desired.pods.iter().filter(|p| !begun(p) && !over(p)) {
        let name = pod::full_name(&pod.pod);
        let problem = match ending.contains(&name) {
            true => Some(Waiting::new("Replacing", &format!("the earlier pod {name} is still ending"))),
            false => taken.problem(&pod.pod, &observed.node),
        };
        match problem {
            Some(problem) => drop(holds.insert(pod.uid.clone(), problem)),
            None => taken.take(&pod.pod),
        }
    }
    holds
}

impl Taken {
    fn take(&mut self, pod: &Pod) {
        let name = pod::full_name(pod);
        self.ports.extend(host_ports(pod).into_iter().map(|port| (port, name.clone())));
        let requests = resources::pod_requests(pod);
        self.cpu_millis += requests.cpu_millis.unwrap_or(0);
        self.memory_bytes += requests.memory_bytes.unwrap_or(0);
    }

    fn problem(&self, pod: &Pod, node: &Node) -> Option<Waiting> {
        for port in host_ports(pod) {
            if let Some((_, other)) = self.ports.iter().find(|(taken, _)| overlap(taken, &port)) {
                let text = format!(
                    "hostPort {}/{} is in use by pod {other}: choose another hostPort, or remove that pod",
                    port.2, port.0
                );
                return Some(Waiting::new("Unschedulable", &text));
            }
        }
        let requests = resources::pod_requests(pod);
        let lacks = [
            ("cpu", requests.cpu_millis, self.cpu_millis, node.cpu_millis, "m"),
            ("memory", requests.memory_bytes, self.memory_bytes, node.memory_bytes, " bytes"),
        ];
        lacks.into_iter().find_map(|(what, wanted, taken, all, unit)| {
            let wanted = wanted.filter(|wanted| *wanted > 0 && all > 0 && taken + wanted > all)?;
            let text = format!(
                "Insufficient {what}: the pod requests {wanted}{unit}, and {} of the node's {all}{unit} are not yet requested",
                all - taken
            );
            Some(Waiting::new("Unschedulable", &text))
        })
    }
}

/// The node's ports that a pod wants.
fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let host_network = pod::host_network(pod);
    let ports =
        pod::containers(pod).iter().chain(pod::init_containers(pod).iter().filter(|c| pod::sidecar(c)));
    let ports = ports.flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = if host_network { Some(port.container_port) } else { port.host_port };
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            let ip = port.host_ip.clone().unwrap_or_default();
            number.filter(|n| *n > 0).map(|number| (protocol, ip, number))
        })
        .collect()
}

fn overlap(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || any(&a.1) || any(&b.1))
}
