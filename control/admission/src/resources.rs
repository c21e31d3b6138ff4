//! Lists of amounts by resource, and what a pod asks for as a whole.

use std::collections::BTreeMap;

use proto_kube::object;
use proto_kube::quantity::{Amount, Quantity};
use serde_json::{Map, Value};

/// How much of each resource.
pub(crate) type List = BTreeMap<String, Quantity>;

/// Of a `ResourceList`; what is missing is empty.
pub(crate) fn of(list: Option<&Value>) -> List {
    let members = list.and_then(Value::as_object).into_iter().flatten();
    members.map(|(name, value)| (name.clone(), Quantity::of(value))).collect()
}

/// As it stands in an object.
pub(crate) fn to_json(list: &List) -> Value {
    list.iter()
        .map(|(name, quantity)| (name.clone(), Value::from(quantity.to_string())))
        .collect::<Map<_, _>>()
        .into()
}

/// Adds each amount.
pub(crate) fn add(list: &mut List, more: &List) {
    for (name, quantity) in more {
        let sum = list.get(name).map_or(*quantity, |own| *own + *quantity);
        list.insert(name.clone(), sum);
    }
}

/// Takes over each amount that is larger.
fn raise(list: &mut List, other: &List) {
    for (name, quantity) in other {
        if list.get(name).is_none_or(|own| own.amount < quantity.amount) {
            list.insert(name.clone(), *quantity);
        }
    }
}

/// Of some resources only.
pub(crate) fn only(list: &List, wanted: impl Fn(&str) -> bool) -> List {
    list.iter().filter(|(name, _)| wanted(name)).map(|(name, quantity)| (name.clone(), *quantity)).collect()
}

/// Whether an amount is more than nothing.
pub(crate) fn is_positive(quantity: Quantity) -> bool {
    quantity.amount > Amount::default()
}

/// `requests` or `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Requests,
    Limits,
}

impl Side {
    fn key(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }

    /// Of one container, or of the pod as a whole.
    pub(crate) fn of(self, holder: &Value) -> List {
        of(object::at(holder, &["resources", self.key()]))
    }

    /// What a pod's containers ask for together: init containers run before the others, one after the other, except
    /// those that stay. What the pod itself says of processors, memory and huge pages counts instead.
    pub(crate) fn of_spec(self, pod: &Value) -> List {
        self.total(pod, |container, _| self.of(container))
    }

    /// The same as far as nodes already gave more, and with what the pod's runtime takes.
    pub(crate) fn in_use(self, pod: &Value) -> List {
        let infeasible = object::items(pod, &["status", "conditions"])
            .find(|c| c["type"] == "PodResizePending")
            .is_some_and(|c| c["reason"] == "Infeasible");
        let mut total = self.total(pod, |container, stays| {
            let name = object::text(container, &["name"]);
            let statuses = ["containerStatuses", "initContainerStatuses"];
            let mut status = statuses.into_iter().flat_map(|list| object::items(pod, &["status", list]));
            let status = status.find(|s| object::text(s, &["name"]) == name);
            let spec = self.of(container);
            match status.filter(|s| stays && object::at(s, &["resources"]).is_some()) {
                None => spec,
                Some(status) => {
                    let mut used = self.of(status);
                    if self == Self::Requests {
                        raise(&mut used, &of(status.get("allocatedResources")));
                    }
                    if !infeasible {
                        raise(&mut used, &spec);
                    }
                    used
                }
            }
        });
        let overhead = of(object::at(pod, &["spec", "overhead"]));
        let counts = |name: &str| self == Self::Requests || total.get(name).copied().is_some_and(is_positive);
        let overhead = only(&overhead, counts);
        add(&mut total, &overhead);
        total
    }

    /// Sums up; `one` tells of a container what counts, given whether it runs as long as the pod.
    fn total(self, pod: &Value, one: impl Fn(&Value, bool) -> List) -> List {
        let mut total = List::new();
        for container in object::items(pod, &["spec", "containers"]) {
            add(&mut total, &one(container, true));
        }
        let (mut staying, mut starting) = (List::new(), List::new());
        for container in object::items(pod, &["spec", "initContainers"]) {
            let stays = container["restartPolicy"] == "Always";
            let mut own = one(container, stays);
            if stays {
                add(&mut total, &own);
                add(&mut staying, &own);
                own.clone_from(&staying);
            } else {
                add(&mut own, &staying);
            }
            raise(&mut starting, &own);
        }
        raise(&mut total, &starting);
        let whole = pod.get("spec").map(|spec| self.of(spec)).unwrap_or_default();
        total.extend(only(&whole, is_of_pod));
        total
    }
}

/// Whether a pod as a whole may ask for a resource.
pub(crate) fn is_of_pod(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(cpu: &str, stays: bool) -> Value {
        let policy = if stays { json!("Always") } else { Value::Null };
        json!({"name": cpu, "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    #[test]
    fn init_containers_run_one_after_the_other() {
        for (init, main, total) in [
            (vec![], vec![("1", false), ("500m", false)], "1500m"),
            (vec![("3", false), ("2", false)], vec![("1", false)], "3"),
            (vec![("1", true)], vec![("1", false)], "2"),
            (vec![("1", true), ("3", false)], vec![("1", false)], "4"),
            (vec![("3", false), ("1", true)], vec![("1", false)], "3"),
            (vec![("1", true), ("1", true)], vec![("100m", false)], "2100m"),
        ] {
            let list =
                |of: &[(&str, bool)]| of.iter().map(|(cpu, stays)| container(cpu, *stays)).collect::<Value>();
            let pod = json!({"spec": {"initContainers": list(&init), "containers": list(&main)}});
            assert_eq!(Side::Requests.of_spec(&pod)["cpu"].to_string(), total, "{init:?} {main:?}");
            assert_eq!(Side::Limits.in_use(&pod)["cpu"].to_string(), total);
        }
    }

    #[test]
    fn overhead_status_and_the_pods_own_word_count() {
        let mut pod = json!({"spec": {"containers": [container("1", false)], "overhead": {"cpu": "250m", "memory": "1Mi"}}});
        assert_eq!(Side::Requests.in_use(&pod)["memory"].to_string(), "1Mi");
        assert_eq!(Side::Requests.in_use(&pod)["cpu"].to_string(), "1250m");
        assert!(!Side::Limits.in_use(&pod).contains_key("memory"));
        assert_eq!(Side::Requests.of_spec(&pod)["cpu"].to_string(), "1");
        pod["status"] = json!({"containerStatuses": [{"name": "1", "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1500m"}}}]});
        assert_eq!(Side::Requests.in_use(&pod)["cpu"].to_string(), "2250m");
        pod["spec"]["resources"] = json!({"requests": {"cpu": "5", "ephemeral-storage": "1Gi"}});
        assert_eq!(Side::Requests.in_use(&pod)["cpu"].to_string(), "5250m");
        assert!(!Side::Requests.in_use(&pod).contains_key("ephemeral-storage"));
    }
}
