//! From a pod's requests and limits to its class and to what the kernel is told.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod;
use crate::quantity::{Amount, amount};

/// The period of the CPU quota, in microseconds.
pub const CPU_PERIOD_US: i64 = 100_000;
const CPU_QUOTA_US_MIN: i64 = 1_000;
/// The least CPU shares the kernel knows; also those of pods that request nothing.
pub const CPU_SHARES_MIN: i64 = 2;
const CPU_SHARES_MAX: i64 = 262_144;
const OOM_GUARANTEED: i64 = -997;
const OOM_BEST_EFFORT: i64 = 1000;

/// A pod's quality of service class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits for CPU and memory, and requests as much.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Qos {
    /// As the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The directory of its pods below the agent's root cgroup; guaranteed pods are in the root itself.
    #[must_use]
    pub fn directory(self) -> Option<&'static str> {
        match self {
            Self::Guaranteed => None,
            Self::Burstable => Some("burstable"),
            Self::BestEffort => Some("besteffort"),
        }
    }
}

/// CPU and memory, where given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_millis: Option<i64>,
    /// Bytes.
    pub memory_bytes: Option<i64>,
}

impl Amounts {
    fn each(a: Self, b: Self, f: impl Fn(Option<i64>, Option<i64>) -> Option<i64>) -> Self {
        Self { cpu_millis: f(a.cpu_millis, b.cpu_millis), memory_bytes: f(a.memory_bytes, b.memory_bytes) }
    }

    fn plus(self, other: Self) -> Self {
        Self::each(self, other, |a, b| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        })
    }

    fn max(self, other: Self) -> Self {
        Self::each(self, other, Option::max)
    }
}

/// What the kernel is told about a container or a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `cpu.shares` as cgroup v1 counts them.
    pub cpu_shares: i64,
    /// `cpu.cfs_quota_us`; `None` is unlimited.
    pub cpu_quota_us: Option<i64>,
    /// Memory in bytes; `None` is unlimited.
    pub memory_bytes: Option<i64>,
}

/// A container's limits.
#[must_use]
pub fn limits(resources: Option<&ResourceRequirements>) -> Amounts {
    let get = |name: &str| resources?.limits.as_ref()?.get(name).and_then(amount);
    Amounts { cpu_millis: get("cpu").map(Amount::millis), memory_bytes: get("memory").map(Amount::units) }
}

/// A container's requests; what is limited and not requested is requested as limited.
#[must_use]
pub fn requests(resources: Option<&ResourceRequirements>) -> Amounts {
    let get = |name: &str| resources?.requests.as_ref()?.get(name).and_then(amount);
    let own = Amounts {
        cpu_millis: get("cpu").map(Amount::millis),
        memory_bytes: get("memory").map(Amount::units),
    };
    Amounts::each(own, limits(resources), Option::or)
}

/// What the pod needs at its neediest: app containers and sidecars together, or an init container beside the sidecars
/// before it.
fn needs(pod: &Pod, of: impl Fn(&Spec) -> Amounts) -> Amounts {
    let mut running = pod::containers(pod).iter().map(&of).fold(Amounts::default(), Amounts::plus);
    let mut sidecars = Amounts::default();
    let mut init = Amounts::default();
    for spec in pod::init_containers(pod) {
        let own = of(spec).plus(sidecars);
        init = init.max(own);
        if pod::sidecar(spec) {
            sidecars = own;
            running = running.plus(of(spec));
        }
    }
    running.max(init)
}

/// What the pod requests, with its overhead.
#[must_use]
pub fn pod_requests(pod: &Pod) -> Amounts {
    let overhead = pod::spec(pod).overhead.clone();
    let overhead = ResourceRequirements { requests: overhead, ..ResourceRequirements::default() };
    let own = needs(pod, |spec| requests(spec.resources.as_ref()));
    let own = Amounts::each(requests(pod::spec(pod).resources.as_ref()), own, Option::or);
    own.plus(requests(Some(&overhead)))
}

/// What the pod requests of any resource, with its overhead.
#[must_use]
pub fn pod_request(pod: &Pod, resource: &str) -> Amount {
    let given = |list: Option<&BTreeMap<String, Quantity>>| list?.get(resource).and_then(amount);
    let millis = |own: Option<&ResourceRequirements>| {
        let own = own?;
        let asked = given(own.requests.as_ref()).or_else(|| given(own.limits.as_ref()))?;
        Some(asked.millis())
    };
    let of = |spec: &Spec| Amounts { cpu_millis: millis(spec.resources.as_ref()), memory_bytes: None };
    let own = millis(pod::spec(pod).resources.as_ref()).or(needs(pod, of).cpu_millis).unwrap_or(0);
    let overhead = given(pod::spec(pod).overhead.as_ref()).map_or(0, Amount::millis);
    Amount::from_millis(own.saturating_add(overhead))
}

/// The pod's class.
#[must_use]
pub fn qos(pod: &Pod) -> Qos {
    let own = pod::spec(pod).resources.as_ref();
    let all: Vec<Option<&ResourceRequirements>> = match own {
        Some(_) => vec![own],
        None => pod::all_containers(pod).map(|spec| spec.resources.as_ref()).collect(),
    };
    let positive = |a: Amounts| Amounts::each(a, a, |a, _| a.filter(|a| *a > 0));
    let (mut nothing, mut exact) = (true, !all.is_empty());
    for resources in all {
        let (limits, requests) = (positive(limits(resources)), positive(requests(resources)));
        nothing &= limits == Amounts::default() && requests == Amounts::default();
        exact &= limits.cpu_millis.is_some() && limits.memory_bytes.is_some() && limits == requests;
    }
    match (nothing, exact) {
        (true, _) => Qos::BestEffort,
        (_, true) => Qos::Guaranteed,
        _ => Qos::Burstable,
    }
}

/// CPU shares for so many thousandths of a core.
#[must_use]
pub fn cpu_shares(millis: i64) -> i64 {
    (millis.saturating_mul(1024) / 1000).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX)
}

fn cpu_quota_us(millis: i64) -> Option<i64> {
    (millis > 0).then(|| (millis.saturating_mul(CPU_PERIOD_US) / 1000).max(CPU_QUOTA_US_MIN))
}

fn kernel(requests: Amounts, limits: Amounts) -> Limits {
    Limits {
        cpu_shares: cpu_shares(requests.cpu_millis.unwrap_or(0)),
        cpu_quota_us: limits.cpu_millis.and_then(cpu_quota_us),
        memory_bytes: limits.memory_bytes.filter(|bytes| *bytes > 0),
    }
}

/// What the kernel is told about a container.
#[must_use]
pub fn container_limits(spec: &Spec) -> Limits {
    kernel(requests(spec.resources.as_ref()), limits(spec.resources.as_ref()))
}

/// What the kernel is told about the pod. A resource is limited for the pod when it is for every container.
#[must_use]
pub fn pod_limits(pod: &Pod) -> Limits {
    let each = |of: fn(Amounts) -> Option<i64>| {
        pod::all_containers(pod).all(|spec| of(limits(spec.resources.as_ref())).is_some())
    };
    let (cpu, memory) = (each(|a| a.cpu_millis), each(|a| a.memory_bytes));
    let sum = needs(pod, |spec| limits(spec.resources.as_ref()));
    let sum = Amounts {
        cpu_millis: sum.cpu_millis.filter(|_| cpu),
        memory_bytes: sum.memory_bytes.filter(|_| memory),
    };
    let own = limits(pod::spec(pod).resources.as_ref());
    kernel(pod_requests(pod), Amounts::each(own, sum, Option::or))
}

/// What the pod's sandbox takes beside its containers.
#[must_use]
pub fn overhead(pod: &Pod) -> Limits {
    let requests = pod::spec(pod).overhead.clone();
    let own = ResourceRequirements { requests, ..ResourceRequirements::default() };
    let own = self::requests(Some(&own));
    if own == Amounts::default() { Limits::default() } else { kernel(own, own) }
}

/// CPU shares of the cgroup above all pods of a class: as much as they request together. Guaranteed pods have none
/// above them but the root.
pub fn class_shares<'a>(class: Qos, pods: impl Iterator<Item = &'a Pod>) -> i64 {
    let of_class = pods.filter(|pod| qos(pod) == class);
    cpu_shares(of_class.map(|pod| pod_requests(pod).cpu_millis.unwrap_or(0)).sum())
}

/// How readily the kernel kills a container for lack of memory: the less it requests of the node's memory the more.
#[must_use]
pub fn oom_score_adj(pod: &Pod, spec: &Spec, node_memory_bytes: i64) -> i64 {
    match qos(pod) {
        Qos::Guaranteed => OOM_GUARANTEED,
        Qos::BestEffort => OOM_BEST_EFFORT,
        Qos::Burstable if pod::is_sidecar(pod, &spec.name) => {
            // A sidecar must not go before those it serves.
            let apps = pod::containers(pod).iter().map(|app| burstable(app, node_memory_bytes));
            apps.chain([burstable(spec, node_memory_bytes)]).min().unwrap_or(OOM_BEST_EFFORT - 1)
        }
        Qos::Burstable => burstable(spec, node_memory_bytes),
    }
}

fn burstable(spec: &Spec, node_memory_bytes: i64) -> i64 {
    let requested = i128::from(requests(spec.resources.as_ref()).memory_bytes.unwrap_or(0));
    let share = 1000 * requested / i128::from(node_memory_bytes.max(1));
    let adj = OOM_BEST_EFFORT - i64::try_from(share).unwrap_or(OOM_BEST_EFFORT);
    adj.clamp(OOM_BEST_EFFORT + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
}

/// The path of a pod's cgroup below the mount of a hierarchy.
#[must_use]
pub fn cgroup_path(root: &str, pod: &Pod, uid: &str) -> String {
    let root = root.trim_end_matches('/');
    match qos(pod).directory() {
        Some(directory) => format!("{root}/{directory}/pod{uid}"),
        None => format!("{root}/pod{uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    /// `requests>limits` of one container: `cpu,memory>cpu,memory`, `-` for none.
    fn container(name: &str, text: &str) -> Spec {
        let list = |text: &str| {
            let pairs = ["cpu", "memory"].into_iter().zip(text.split(','));
            pairs.filter(|(_, v)| *v != "-").map(|(k, v)| (k.to_owned(), Quantity(v.to_owned()))).collect()
        };
        let (requests, limits) = text.split_once('>').unwrap();
        let resources = ResourceRequirements {
            requests: Some(list(requests)),
            limits: Some(list(limits)),
            ..ResourceRequirements::default()
        };
        Spec { name: name.into(), resources: Some(resources), ..Spec::default() }
    }

    fn pod(init: &[Spec], apps: &[Spec]) -> Pod {
        let spec =
            PodSpec { containers: apps.to_vec(), init_containers: Some(init.to_vec()), ..PodSpec::default() };
        Pod { spec: Some(spec), ..Pod::default() }
    }

    #[test]
    fn classes() {
        for (containers, class) in [
            (&["-,->-,-"][..], Qos::BestEffort),
            (&["0,0>0,0"], Qos::BestEffort),
            (&["1,1Gi>1,1Gi"], Qos::Guaranteed),
            (&["-,->1,1Gi"], Qos::Guaranteed),
            (&["1000m,1024Mi>1,1Gi"], Qos::Guaranteed),
            (&["1,1Gi>2,1Gi"], Qos::Burstable),
            (&["-,->1,-"], Qos::Burstable),
            (&["1,->-,-"], Qos::Burstable),
            (&["1,1Gi>1,1Gi", "-,->-,-"], Qos::Burstable),
        ] {
            let containers: Vec<Spec> = containers.iter().map(|c| container("c", c)).collect();
            assert_eq!(qos(&pod(&[], &containers)), class, "{containers:?}");
        }
    }

    #[test]
    fn kernel_values() {
        let limits = |text| container_limits(&container("c", text));
        assert_eq!(limits("-,->-,-"), Limits { cpu_shares: 2, cpu_quota_us: None, memory_bytes: None });
        assert_eq!(
            limits("250m,64Mi>500m,128Mi"),
            Limits { cpu_shares: 256, cpu_quota_us: Some(50_000), memory_bytes: Some(128 << 20) }
        );
        assert_eq!(limits("-,->1m,-").cpu_quota_us, Some(1000));
        assert_eq!(limits("-,->2,-").cpu_shares, 2048);
        assert_eq!(cpu_shares(i64::MAX), 262_144);
    }

    #[test]
    fn a_pod_is_its_neediest_moment() {
        let sidecar = Spec { restart_policy: Some("Always".into()), ..container("s", "100m,10Mi>100m,10Mi") };
        let init = container("i", "1,5Mi>1,5Mi");
        let pod = pod(
            &[sidecar, init],
            &[container("a", "200m,20Mi>200m,20Mi"), container("b", "200m,20Mi>-,20Mi")],
        );
        let requests = pod_requests(&pod);
        assert_eq!((requests.cpu_millis, requests.memory_bytes), (Some(1100), Some(50 << 20)));
        let limits = pod_limits(&pod);
        assert_eq!((limits.cpu_quota_us, limits.memory_bytes), (None, Some(50 << 20)));
    }

    #[test]
    fn classes_weigh_as_their_pods() {
        let pods =
            ["1,->-,-", "500m,->-,-", "-,->-,-", "1,1Gi>1,1Gi"].map(|c| pod(&[], &[container("c", c)]));
        assert_eq!(class_shares(Qos::Burstable, pods.iter()), 1536);
        assert_eq!(class_shares(Qos::BestEffort, pods.iter()), 2);
        assert_eq!(class_shares(Qos::Burstable, [].iter()), 2);
    }

    #[test]
    fn oom_scores() {
        let node = 4 << 30;
        let score = |text| {
            let spec = container("c", text);
            oom_score_adj(&pod(&[], std::slice::from_ref(&spec)), &spec, node)
        };
        assert_eq!(score("1,1Gi>1,1Gi"), -997);
        assert_eq!(score("-,->-,-"), 1000);
        assert_eq!(score("1,->-,-"), 999);
        assert_eq!(score("-,1Gi>-,-"), 750);
        assert_eq!(score("-,4Gi>-,-"), 3);
        let sidecar = Spec { restart_policy: Some("Always".into()), ..container("s", "1,->-,-") };
        let pod = pod(std::slice::from_ref(&sidecar), &[container("a", "-,2Gi>-,-")]);
        assert_eq!(oom_score_adj(&pod, &sidecar, node), 500);
    }

    #[test]
    fn paths() {
        let path = |text| cgroup_path("/kubepods", &pod(&[], &[container("c", text)]), "u");
        assert_eq!(path("1,1Gi>1,1Gi"), "/kubepods/podu");
        assert_eq!(path("1,->-,-"), "/kubepods/burstable/podu");
        assert_eq!(path("-,->-,-"), "/kubepods/besteffort/podu");
    }
}
