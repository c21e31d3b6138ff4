//! The Node as this machine wants it in the API. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_core::event::Event;
use jiff::Timestamp;
use proto_kube::object;
use proto_kube::quantity::{Amount, Format, Quantity};
use serde_json::{Map, Value, json};

use super::machine::Machine;
use super::pressure::{Pressure, Shortage, Thresholds};
use crate::runtime::Runtime;

/// The version of the kubelet whose behaviour this is.
const KUBELET_VERSION: &str = concat!("v1.37.0+cleat-", env!("CARGO_PKG_VERSION"));
/// How many images a Node tells of.
const IMAGES_MAX: usize = 50;
/// How many names of each.
const IMAGE_NAMES_MAX: usize = 5;

/// What the Node is made from.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) cpu_millis: i64,
    pub(crate) machine: Machine,
    pub(crate) pods_max: u32,
    /// By resource, as quantities.
    pub(crate) reserved: BTreeMap<String, String>,
    /// Below which the node is short, so that pods can never have it.
    pub(crate) thresholds: Thresholds,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Value>,
}

/// What of the node changes while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// How the runtime is; `None` until it has answered.
    pub(crate) runtime: Option<Runtime>,
    /// Where the agent serves the kubelet's API; 0: nowhere yet.
    pub(crate) port: u16,
    pub(crate) images: Vec<Image>,
    pub(crate) pressure: Pressure,
}

/// An image of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) names: Vec<String>,
    pub(crate) bytes: i64,
}

/// The labels that are the node's own.
pub(crate) fn own_labels(name: &str) -> [(&'static str, String); 5] {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    [
        ("kubernetes.io/hostname", name.to_owned()),
        ("kubernetes.io/os", "linux".to_owned()),
        ("kubernetes.io/arch", arch.to_owned()),
        ("beta.kubernetes.io/os", "linux".to_owned()),
        ("beta.kubernetes.io/arch", arch.to_owned()),
    ]
}

/// The Node to register with.
pub(crate) fn node(facts: &Facts, state: &State, now: Timestamp) -> Value {
    let mut labels: Map<String, Value> = facts.labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    labels.extend(own_labels(&facts.name).map(|(k, v)| (k.to_owned(), json!(v))));
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": facts.name, "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
        "spec": {},
        "status": status(facts, state, &Value::Null, now),
    });
    if !facts.taints.is_empty() {
        node["spec"]["taints"] = json!(facts.taints);
    }
    node
}

/// The status, with the transition times of the one that is there.
pub(crate) fn status(facts: &Facts, state: &State, old: &Value, now: Timestamp) -> Value {
    let mut status = Map::new();
    let capacity = capacity(facts);
    status.insert("allocatable".into(), allocatable(facts, &capacity));
    status.insert("capacity".into(), shown(&capacity));
    let addresses = facts.ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}));
    let hostname = json!({"type": "Hostname", "address": facts.name});
    status.insert("addresses".into(), addresses.chain([hostname]).collect());
    status.insert("nodeInfo".into(), info(facts, state.runtime.as_ref()));
    status.insert("conditions".into(), conditions(state, old, now));
    if state.port != 0 {
        let ports = json!({"kubeletEndpoint": {"Port": state.port}});
        status.insert("daemonEndpoints".into(), ports);
        // Today's websockets are passed on to us as they are, by any API server that looks.
        status.insert("declaredFeatures".into(), json!(["ExtendWebSocketsToKubelet"]));
    }
    if !state.images.is_empty() {
        status.insert("images".into(), images(&state.images));
    }
    if let Some(runtime) = &state.runtime {
        let handlers = runtime.handlers.iter().map(|(name, read_only, users)| {
            let features = json!({"recursiveReadOnlyMounts": read_only, "userNamespaces": users});
            match name.is_empty() {
                true => json!({"features": features}),
                false => json!({"name": name, "features": features}),
            }
        });
        status.insert("runtimeHandlers".into(), handlers.collect());
        if let Some(policy) = runtime.supplemental_groups_policy {
            status.insert("features".into(), json!({"supplementalGroupsPolicy": policy}));
        }
    }
    Value::Object(status)
}

type Resources = BTreeMap<String, Quantity>;

fn binary(bytes: i64) -> Quantity {
    Quantity { amount: Amount::from_units(bytes), format: Format::Binary }
}

fn capacity(facts: &Facts) -> Resources {
    let machine = &facts.machine;
    let cpu = Quantity { amount: Amount::from_millis(facts.cpu_millis), format: Format::Decimal };
    let mut capacity = Resources::from([
        ("cpu".to_owned(), cpu),
        ("memory".to_owned(), binary(machine.memory_kilobytes.saturating_mul(1024))),
        ("ephemeral-storage".to_owned(), binary(machine.disk_bytes)),
        ("pods".to_owned(), Quantity::units(facts.pods_max.into())),
    ]);
    for (kilobytes, count) in &machine.huge_pages {
        let name = format!("hugepages-{}", binary(kilobytes.saturating_mul(1024)));
        capacity.insert(name, binary(kilobytes.saturating_mul(1024).saturating_mul(*count)));
    }
    capacity
}

/// What is left for pods of the capacity.
pub(crate) fn amounts(facts: &Facts) -> BTreeMap<String, Amount> {
    left(facts, &capacity(facts)).into_iter().map(|(name, quantity)| (name, quantity.amount)).collect()
}

fn left(facts: &Facts, capacity: &Resources) -> Resources {
    let huge: i64 = capacity
        .iter()
        .filter(|(name, _)| name.starts_with("hugepages-"))
        .map(|(_, q)| q.amount.units())
        .sum();
    let less = |name: &str, of: Quantity| {
        let reserved =
            facts.reserved.get(name).and_then(|text| Quantity::parse(text).ok()).unwrap_or_default();
        let kept = match name {
            "memory" => huge.saturating_add(facts.thresholds.least("memory.available", of.amount.units())),
            "ephemeral-storage" => facts.thresholds.least("nodefs.available", of.amount.units()),
            _ => 0,
        };
        let taken = reserved.amount.millis().saturating_add(kept.saturating_mul(1000));
        match of.amount.millis().saturating_sub(taken) {
            _ if taken == 0 => of,
            millis => Quantity { amount: Amount::from_millis(millis.max(0)), ..of },
        }
    };
    capacity.iter().map(|(name, of)| (name.clone(), less(name, *of))).collect()
}

fn allocatable(facts: &Facts, capacity: &Resources) -> Value {
    shown(&left(facts, capacity))
}

fn shown(resources: &Resources) -> Value {
    resources.iter().map(|(name, quantity)| (name.clone(), json!(quantity.to_string()))).collect()
}

fn info(facts: &Facts, runtime: Option<&Runtime>) -> Value {
    let machine = &facts.machine;
    let version = runtime.map(|r| format!("{}://{}", r.name, r.version)).unwrap_or_default();
    let [_, (_, os), (_, arch), ..] = own_labels(&facts.name);
    let mut info = json!({
        "machineID": machine.machine_id, "systemUUID": machine.system_uuid, "bootID": machine.boot_id,
        "kernelVersion": machine.kernel, "osImage": machine.os_image, "containerRuntimeVersion": version,
        "kubeletVersion": KUBELET_VERSION, "kubeProxyVersion": "",
        "operatingSystem": os, "architecture": arch,
    });
    if machine.swap_bytes > 0 {
        info["swap"] = json!({"capacity": machine.swap_bytes});
    }
    info
}

/// The conditions, `Ready` last.
fn conditions(state: &State, old: &Value, now: Timestamp) -> Value {
    let Pressure { memory, disk, pids } = &state.pressure;
    let pressed = |kind, short: &Option<Shortage>, yes: (&str, &str), no: (&str, &str)| match short {
        Some(short) => condition(old, now, kind, true, yes.0, &format!("{}: {short}", yes.1)),
        None => condition(old, now, kind, false, no.0, no.1),
    };
    let unready = unready(state);
    let ready = match &unready {
        None => condition(old, now, "Ready", true, "KubeletReady", "kubelet is posting ready status"),
        Some(why) => condition(old, now, "Ready", false, "KubeletNotReady", why),
    };
    json!([
        pressed(
            "MemoryPressure",
            memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressed(
            "DiskPressure",
            disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressed(
            "PIDPressure",
            pids,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ])
}

/// Whether a condition of a status is true; nothing where there is none.
fn holds(status: &Value, kind: &str) -> Option<bool> {
    let found = object::items(status, &["conditions"]).find(|c| object::text(c, &["type"]) == kind);
    found.map(|c| object::text(c, &["status"]) == "True")
}

/// Whether a node that is ready for the API is so no more.
pub(crate) fn falls(state: &State, old: &Value) -> bool {
    holds(old, "Ready") == Some(true) && unready(state).is_some()
}

/// Why pods cannot run here.
fn unready(state: &State) -> Option<String> {
    let Some(runtime) = &state.runtime else {
        return Some("container runtime status check may not have completed yet".to_owned());
    };
    let network = runtime.network_problem.as_ref().map(|(long, _)| long.clone());
    let problems: Vec<String> = runtime.problem.clone().into_iter().chain(network).collect();
    match problems.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

fn condition(old: &Value, now: Timestamp, kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let same = object::items(old, &["conditions"])
        .find(|c| object::text(c, &["type"]) == kind && object::text(c, &["status"]) == status);
    let now = time(now);
    let since = same.map(|c| object::text(c, &["lastTransitionTime"])).filter(|t| !t.is_empty());
    json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": since.unwrap_or(&now)})
}

/// An instant as the API writes it.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The largest images, as the API takes them.
fn images(images: &[Image]) -> Value {
    let mut largest: Vec<&Image> = images.iter().filter(|image| !image.names.is_empty()).collect();
    largest.sort_by(|a, b| (b.bytes, &a.names).cmp(&(a.bytes, &b.names)));
    let shown = |image: &Image| {
        let names: Vec<&String> = image.names.iter().take(IMAGE_NAMES_MAX).collect();
        json!({"names": names, "sizeBytes": image.bytes})
    };
    largest.into_iter().take(IMAGES_MAX).map(shown).collect()
}

/// The events that a change of the status is worth, in upstream's words.
pub(crate) fn changes(name: &str, old: &Value, new: &Value) -> Vec<Event> {
    let mut events = Vec::new();
    for (kind, yes, no) in [
        ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
        ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
        ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ("Ready", "NodeReady", "NodeNotReady"),
    ] {
        let (before, now) = (holds(old, kind), holds(new, kind));
        if let Some(now) = now.filter(|_| now != before) {
            let reason = if now { yes } else { no };
            events.push(Event::new(false, reason, &format!("Node {name} status is now: {reason}")));
        }
    }
    let boot = |of| object::text(of, &["nodeInfo", "bootID"]).to_owned();
    let (before, now) = (boot(old), boot(new));
    if !before.is_empty() && before != now {
        let text = format!("Node {name} has been rebooted, boot id: {now}");
        events.push(Event::new(true, "Rebooted", &text));
    }
    events
}

/// Lets conditions that have not changed keep their heartbeats: those are told now and then only.
pub(crate) fn keep_heartbeats(new: &mut Value, old: &Value) {
    let conditions = new.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let same =
            |old: &&Value| ["type", "status", "reason", "message"].iter().all(|k| old[k] == condition[k]);
        if let Some(old) = object::items(old, &["conditions"]).find(same) {
            condition["lastHeartbeatTime"] = old["lastHeartbeatTime"].clone();
        }
    }
}

#[cfg(test)]
mod tests;
