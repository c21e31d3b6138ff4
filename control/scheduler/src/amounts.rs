//! How much of each resource a pod asks for, and how much a node has.

use std::collections::BTreeMap;

use proto_kube::object::{at, items, text};
use proto_kube::quantity::Quantity;
use serde_json::Value;

/// What a container without a request counts for where pods are spread by load: a tenth of a core,
const CPU_UNASKED: i64 = 100;
/// and 200 MiB.
const MEMORY_UNASKED: i64 = 200 << 20;

/// Amounts of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// In thousandths of a core.
    pub cpu: i64,
    /// In bytes.
    pub memory: i64,
    /// In bytes.
    pub ephemeral_storage: i64,
    /// Extended resources, huge pages and the like, by name.
    pub scalar: BTreeMap<String, i64>,
}

type List = BTreeMap<String, Quantity>;

impl Amounts {
    /// Of a `ResourceList`.
    #[must_use]
    pub fn of(list: &Value) -> Self {
        Self::from(read(Some(list)))
    }

    /// What a pod asks for by its spec.
    #[must_use]
    pub fn requested(pod: &Value) -> Self {
        Self::from(requests(pod, false, false))
    }

    /// What a pod on a node holds: while it is being resized, the larger of what it had and what it wants.
    #[must_use]
    pub fn held(pod: &Value) -> Self {
        Self::from(requests(pod, true, false))
    }

    /// The same with something for each container that asks for nothing.
    #[must_use]
    pub fn estimated(pod: &Value) -> Self {
        Self::from(requests(pod, true, true))
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.ephemeral_storage == 0 && self.scalar.is_empty()
    }

    /// The amount of a scalar resource.
    #[must_use]
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalar.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.change(other, 1);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.change(other, -1);
    }

    fn change(&mut self, other: &Self, sign: i64) {
        let add = |to: &mut i64, amount: i64| *to = to.saturating_add(amount.saturating_mul(sign));
        add(&mut self.cpu, other.cpu);
        add(&mut self.memory, other.memory);
        add(&mut self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            add(self.scalar.entry(name.clone()).or_default(), *amount);
        }
    }
}

impl From<List> for Amounts {
    fn from(list: List) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.amount.millis(),
                "memory" => amounts.memory = quantity.amount.units(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.amount.units(),
                other if is_scalar(other) => {
                    amounts.scalar.insert(name, quantity.amount.units());
                }
                _ => {}
            }
        }
        amounts
    }
}

fn is_scalar(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn read(list: Option<&Value>) -> List {
    let members = list.and_then(Value::as_object).into_iter().flatten();
    members.map(|(name, value)| (name.clone(), Quantity::of(value))).collect()
}

fn add(list: &mut List, other: &List) {
    for (name, quantity) in other {
        let sum = list.get(name).map_or(*quantity, |old| *old + *quantity);
        list.insert(name.clone(), sum);
    }
}

fn raise(list: &mut List, other: &List) {
    for (name, quantity) in other {
        if list.get(name).is_none_or(|old| old.amount < quantity.amount) {
            list.insert(name.clone(), *quantity);
        }
    }
}

fn requests(pod: &Value, by_status: bool, estimate: bool) -> List {
    let mut sum = of_containers(pod, by_status, estimate);
    let of_pod = read(at(pod, &["spec", "resources", "requests"]));
    if of_pod.keys().any(|name| is_of_pods(name)) {
        let effective = match (by_status, at(pod, &["status", "resources"])) {
            (true, Some(status)) => {
                Some(effective(pod, &of_pod, status, &pod["status"]["allocatedResources"]))
            }
            _ => None,
        };
        for (name, quantity) in of_pod.iter().filter(|(name, _)| is_of_pods(name)) {
            let held = effective.as_ref().map_or(Some(quantity), |all| all.get(name));
            sum.insert(name.clone(), held.copied().unwrap_or_default());
        }
    }
    add(&mut sum, &read(at(pod, &["spec", "overhead"])));
    sum
}

fn of_containers(pod: &Value, by_status: bool, estimate: bool) -> List {
    let statuses = |list: &'static str| items(pod, &["status", list]);
    let asked = |container: &Value, list: &'static str| {
        let spec = read(at(container, &["resources", "requests"]));
        let status = statuses(list).find(|s| s["name"] == container["name"]);
        let mut held = match status.and_then(|s| Some((s, at(s, &["resources"])?))) {
            Some((status, resources)) if by_status => {
                effective(pod, &spec, resources, &status["allocatedResources"])
            }
            _ => spec.clone(),
        };
        if estimate {
            for (name, unasked) in [("cpu", CPU_UNASKED), ("memory", MEMORY_UNASKED)] {
                let unasked = if name == "cpu" {
                    Quantity::of(&format!("{unasked}m").into())
                } else {
                    Quantity::units(unasked)
                };
                held.entry(name.to_owned()).or_insert(unasked);
            }
        }
        held
    };
    let mut sum = List::new();
    for container in items(pod, &["spec", "containers"]) {
        add(&mut sum, &asked(container, "containerStatuses"));
    }
    let (mut sidecars, mut start) = (List::new(), List::new());
    for container in items(pod, &["spec", "initContainers"]) {
        let mut needed = asked(container, "initContainerStatuses");
        if text(container, &["restartPolicy"]) == "Always" {
            add(&mut sum, &needed);
            add(&mut sidecars, &needed);
            needed.clone_from(&sidecars);
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut start, &needed);
    }
    raise(&mut sum, &start);
    sum
}

/// What a resize leaves a container: the largest of wanted, had and promised; without the wish where the node cannot
/// fulfil it.
fn effective(pod: &Value, spec: &List, had: &Value, promised: &Value) -> List {
    let pending = items(pod, &["status", "conditions"]).find(|c| c["type"] == "PodResizePending");
    let mut most = read(at(had, &["requests"]));
    raise(&mut most, &read(Some(promised)));
    if pending.is_none_or(|c| c["reason"] != "Infeasible") {
        raise(&mut most, spec);
    }
    most
}

#[cfg(test)]
mod tests;
