//! The API server's defaults, for pods that never pass through one.

use k8s_openapi::api::core::v1::{Container, Pod, Probe};

use crate::pod;

/// Fills in what a manifest leaves out.
pub fn apply(pod: &mut Pod) {
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    let Some(spec) = &mut pod.spec else { return };
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.termination_grace_period_seconds.get_or_insert(pod::GRACE_SECONDS);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        of_container(container, host_network);
    }
}

fn of_container(container: &mut Container, host_network: bool) {
    let policy = pod::pull_policy(container).name();
    container.image_pull_policy.get_or_insert_with(|| policy.into());
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
    container.termination_message_policy.get_or_insert_with(|| "File".into());
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".into());
        if host_network {
            port.host_port.get_or_insert(port.container_port);
        }
    }
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    for probe in probes.into_iter().flatten() {
        of_probe(probe);
    }
    if let Some(resources) = &mut container.resources
        && let Some(limits) = &resources.limits
    {
        let requests = resources.requests.get_or_insert_default();
        for (name, quantity) in limits {
            requests.entry(name.clone()).or_insert_with(|| quantity.clone());
        }
    }
}

fn of_probe(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(get) = &mut probe.http_get {
        get.scheme.get_or_insert_with(|| "HTTP".into());
        get.path.get_or_insert_with(|| "/".into());
    }
}
