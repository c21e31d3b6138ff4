//! Resources that change while a pod runs. The node grants what it has; what it cannot grant now waits, and the pod runs
//! with what it was given before.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};

use crate::admit::{self, Taken};
use crate::desired::{Desired, DesiredPod};
use crate::observed::Observed;
use crate::resources::Limits;
use crate::status::Waiting;

/// Takes over a changed pod with the resources that it was granted before. Gives that pod, and the changed one where it
/// wants other resources.
#[must_use]
pub fn split(granted: &Pod, changed: &Arc<Pod>) -> (Arc<Pod>, Option<Arc<Pod>>) {
    let mut kept = Pod::clone(changed);
    if let (Some(spec), Some(old)) = (&mut kept.spec, &granted.spec) {
        spec.resources.clone_from(&old.resources);
        let PodSpec { containers, init_containers, .. } = spec;
        for container in containers.iter_mut().chain(init_containers.iter_mut().flatten()) {
            if let Some(old) = crate::pod::container(granted, &container.name) {
                container.resources.clone_from(&old.resources);
            }
        }
    }
    match kept == **changed {
        true => (changed.clone(), None),
        false => (Arc::new(kept), Some(changed.clone())),
    }
}

/// Why a pod is not granted the resources that it wants; `None`: it is.
pub(crate) fn refusal(
    wanted: &Pod,
    pod: &DesiredPod,
    desired: &Desired,
    observed: &Observed,
) -> Option<Waiting> {
    if let Some(lack) = Taken::default().lacks(wanted, &observed.node) {
        return Some(Waiting::new("Infeasible", &lack.capacity_text()));
    }
    let others = admit::taken_by_others(desired, observed, &pod.uid);
    others.lacks(wanted, &observed.node).map(|lack| Waiting::new("Deferred", &lack.text()))
}

/// How what the kernel was told of a container differs from what it should be told: in CPU, in memory.
pub(crate) fn differs(told: Limits, wanted: Limits) -> (bool, bool) {
    // Some runtimes tell shares that went through another scale.
    let near = |a: i64, b: i64| (a - b).abs() <= a.max(b) / 50 + 1;
    let quota = |limits: Limits| limits.cpu_quota_us.unwrap_or(-1);
    let cpu = !near(told.cpu_shares, wanted.cpu_shares) || !near(quota(told), quota(wanted));
    (cpu, told.memory_bytes.unwrap_or(0) != wanted.memory_bytes.unwrap_or(0))
}

/// Whether such a change takes a restart of the container.
pub(crate) fn takes_restart(spec: &Spec, (cpu, memory): (bool, bool)) -> bool {
    let restarts = |resource: &str| {
        let policies = spec.resize_policy.iter().flatten();
        policies.into_iter().any(|p| p.resource_name == resource && p.restart_policy == "RestartContainer")
    };
    cpu && restarts("cpu") || memory && restarts("memory")
}
