//! Which pods may not begin. A static pod that another pod or the node's size is in the way of waits; it is tried
//! again whenever the others change. A pod of the API server fails, so that its owner may place another elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;

use crate::desired::{Desired, DesiredPod};
use crate::observed::{Node, Observed};
use crate::pod;
use crate::quantity::Amount;
use crate::resources;
use crate::status::Waiting;

/// A port of the node: protocol, address, port.
type HostPort = (String, String, i32);

/// Sysctls that belong to the pod alone.
pub const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Why a pod may not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// It waits.
    Wait(Waiting),
    /// It never will.
    Refuse(Waiting),
}

/// What pods that run or may run have taken.
#[derive(Default)]
pub(crate) struct Taken {
    ports: Vec<(HostPort, String)>,
    amounts: BTreeMap<String, Amount>,
}

/// Says for each pod that may not begin, by uid, why. Pods that were let begin or are ending keep what they have;
/// after them the order of the desired pods counts.
#[must_use]
pub fn holds(desired: &Desired, observed: &Observed) -> BTreeMap<String, Hold> {
    let begun = |pod: &&DesiredPod| begun(pod, observed);
    let over = |pod: &&DesiredPod| over(pod, observed);
    let ending: BTreeSet<String> =
        desired.pods.iter().filter(|p| p.end.is_some()).map(|p| pod::full_name(&p.pod)).collect();
    let mut taken = Taken::default();
    for pod in desired.pods.iter().filter(begun).filter(|p| !over(p)) {
        taken.take(&pod.pod, &observed.node);
    }
    let mut holds = BTreeMap::new();
    for pod in desired.pods.iter().filter(|p| !begun(p) && !over(p)) {
        let of_api = pod::is_of_api(&pod.pod);
        let name = pod::full_name(&pod.pod);
        let hold = match !of_api && ending.contains(&name) {
            true => {
                let text = format!("the earlier pod {name} is still ending");
                Some(Hold::Wait(Waiting::new("Replacing", &text)))
            }
            false if of_api => unfit(&pod.pod, &observed.node)
                .or_else(|| taken.lacks(&pod.pod, &observed.node).map(|lack| lack.refusal()))
                .or_else(|| misplaced(&pod.pod, &observed.node))
                .or_else(|| taken.port(&pod.pod).map(|_| occupied()))
                .or_else(|| driven_off(&pod.pod, &observed.node))
                .map(Hold::Refuse),
            false => taken.problem(&pod.pod, &observed.node).map(Hold::Wait),
        };
        match hold {
            Some(hold) => drop(holds.insert(pod.uid.clone(), hold)),
            None => taken.take(&pod.pod, &observed.node),
        }
    }
    holds
}

/// A pod that was let begin: once it was, it is for ever.
fn begun(pod: &DesiredPod, observed: &Observed) -> bool {
    let seen = observed.pods.get(&pod.uid);
    let told = seen.and_then(|seen| seen.status.as_ref()).is_some_and(|s| s.start_time.is_some());
    pod.end.is_some() || seen.is_some_and(|seen| !seen.sandboxes.is_empty()) || told
}

fn over(pod: &DesiredPod, observed: &Observed) -> bool {
    let status = observed.pods.get(&pod.uid).and_then(|seen| seen.status.as_ref());
    matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// What all pods but one have taken.
pub(crate) fn taken_by_others(desired: &Desired, observed: &Observed, uid: &str) -> Taken {
    let mut taken = Taken::default();
    let others = desired.pods.iter().filter(|p| p.uid != uid && begun(p, observed) && !over(p, observed));
    others.for_each(|pod| taken.take(&pod.pod, &observed.node));
    taken
}

/// Why a pod of the API server does not fit this node at all.
fn unfit(pod: &Pod, node: &Node) -> Option<Waiting> {
    let spec = pod::spec(pod);
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let text = "Failed to admit pod as the OS field doesn't match node OS";
        return Some(Waiting::new("PodOSNotSupported", text));
    }
    let sysctls = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    let why = sysctls.map(|s| s.name.replace('/', ".")).find_map(|name| forbidden(pod, node, &name))?;
    Some(Waiting::new("SysctlForbidden", &format!("forbidden sysctl: {why}")))
}

fn forbidden(pod: &Pod, node: &Node, name: &str) -> Option<String> {
    let spec = pod::spec(pod);
    let listed = |pattern: &String| match pattern.strip_suffix('*') {
        Some(head) => name.starts_with(head),
        None => name == pattern,
    };
    if !SAFE_SYSCTLS.contains(&name) && !node.unsafe_sysctls.iter().any(listed) {
        return Some(format!("{name:?} not allowlisted"));
    }
    let shared = [("net.", spec.host_network, "Net"), ("kernel.", spec.host_ipc, "IPC")];
    let shared = shared.into_iter().find(|(head, host, _)| name.starts_with(head) && *host == Some(true));
    shared.map(|(_, _, namespace)| format!("{name:?} not allowed with host {namespace} enabled"))
}

/// Why a pod that was bound to this node does not want it.
fn misplaced(pod: &Pod, node: &Node) -> Option<Waiting> {
    let spec = serde_json::to_value(pod::spec(pod)).unwrap_or_default();
    let wanted = node.object.is_null() || proto_kube::node::is_wanted(&spec, &node.object);
    let text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    (!wanted).then(|| Waiting::new("NodeAffinity", text))
}

/// Why the node does not want a pod.
fn driven_off(pod: &Pod, node: &Node) -> Option<Waiting> {
    let tolerations = pod::spec(pod).tolerations.iter().flatten();
    let tolerations: Vec<_> = tolerations.filter_map(|t| serde_json::to_value(t).ok()).collect();
    let bears = proto_kube::node::bears(&tolerations, &node.object, &["NoExecute"]);
    let text = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
    (!bears).then(|| Waiting::new("TaintToleration", text))
}

fn occupied() -> Waiting {
    let text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    Waiting::new("NodePorts", text)
}

/// A resource of which the node has too little.
pub(crate) struct Lack {
    name: String,
    wanted: i64,
    taken: i64,
    all: i64,
}

impl Lack {
    /// In upstream's words.
    fn refusal(&self) -> Waiting {
        let Self { name, .. } = self;
        Waiting::new(&format!("OutOf{name}"), &self.text())
    }

    /// The sentence for a pod that would not even fit alone, in upstream's words.
    pub(crate) fn capacity_text(&self) -> String {
        let Self { name, wanted, all, .. } = self;
        format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {all}")
    }

    /// The sentence, in upstream's words.
    pub(crate) fn text(&self) -> String {
        let Self { name, wanted, taken, all } = self;
        format!(
            "Node didn't have enough resource: {name}, requested: {wanted}, used: {taken}, capacity: {all}"
        )
    }
}

impl Taken {
    fn take(&mut self, pod: &Pod, node: &Node) {
        let name = pod::full_name(pod);
        self.ports.extend(host_ports(pod).into_iter().map(|port| (port, name.clone())));
        for resource in node.allocatable.keys() {
            let taken = self.amounts.entry(resource.clone()).or_default();
            *taken = Amount::from_millis(taken.millis().saturating_add(asked(pod, resource).millis()));
        }
    }

    /// The first resource that the node lacks for a pod.
    pub(crate) fn lacks(&self, pod: &Pod, node: &Node) -> Option<Lack> {
        let order = |name: &str| ["pods", "cpu", "memory"].iter().position(|n| *n == name).unwrap_or(9);
        let mut all: Vec<_> = node.allocatable.iter().collect();
        all.sort_by_key(|(name, _)| (order(name), (*name).clone()));
        all.into_iter().find_map(|(name, all)| {
            let (wanted, taken) = (asked(pod, name), self.amounts.get(name).copied().unwrap_or_default());
            let over = taken.millis().saturating_add(wanted.millis()) > all.millis();
            let shown = |amount: Amount| if name == "cpu" { amount.millis() } else { amount.units() };
            (wanted > Amount::default() && over).then(|| Lack {
                name: name.clone(),
                wanted: shown(wanted),
                taken: shown(taken),
                all: shown(*all),
            })
        })
    }

    /// A port of the node that a pod wants and another has, and which pod that is.
    fn port(&self, pod: &Pod) -> Option<(HostPort, &str)> {
        host_ports(pod).into_iter().find_map(|port| {
            let (_, other) = self.ports.iter().find(|(taken, _)| overlap(taken, &port))?;
            Some((port, other.as_str()))
        })
    }

    fn problem(&self, pod: &Pod, node: &Node) -> Option<Waiting> {
        if let Some((port, other)) = self.port(pod) {
            let text = format!(
                "hostPort {}/{} is in use by pod {other}: choose another hostPort, or remove that pod",
                port.2, port.0
            );
            return Some(Waiting::new("Unschedulable", &text));
        }
        let Lack { name, wanted, taken, all } = self.lacks(pod, node)?;
        let unit = match name.as_str() {
            "cpu" => "m",
            "memory" => " bytes",
            _ => "",
        };
        let text = format!(
            "Insufficient {name}: the pod requests {wanted}{unit}, and {} of the node's {all}{unit} are not yet requested",
            all - taken
        );
        Some(Waiting::new("Unschedulable", &text))
    }
}

/// What a pod asks of a resource of the node.
fn asked(pod: &Pod, resource: &str) -> Amount {
    match resource {
        "pods" => Amount::from_units(1),
        name => resources::pod_request(pod, name),
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
