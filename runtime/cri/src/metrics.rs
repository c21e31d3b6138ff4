//! ListMetricDescriptors and ListPodSandboxMetrics: cAdvisor's metrics of containers, which the kubelet serves on
//! `/metrics/cadvisor`. One table says what there is; a metric whose source this kernel lacks has no value.

use std::sync::Arc;

use proto_cri::{ContainerMetrics, Metric, MetricDescriptor, MetricType, PodSandboxMetrics, UInt64Value};

use crate::error::Failure;
use crate::lifecycle::{Phase, PodPhase};
use crate::node::{Node, blocking, now};
use crate::record;
use crate::usage::{Interface, Usage, interfaces};

/// A metric of a container or of an interface `S`: its name, what it says, and where it comes from. Those with
/// `_total` in their name only grow.
struct Kind<S> {
    name: &'static str,
    help: &'static str,
    value: fn(&S) -> Option<u64>,
}

/// Labels of a metric of a container; one of an interface has `interface` too.
const LABELS: [&str; 3] = ["id", "name", "image"];
const NANOS: u64 = 1_000_000_000;
const MICROS: u64 = 1_000_000;

const fn kind<S>(name: &'static str, help: &'static str, value: fn(&S) -> Option<u64>) -> Kind<S> {
    Kind { name, help, value }
}

const CPU: &[Kind<Usage>] = &[
    kind("container_cpu_usage_seconds_total", "CPU time.", |u| Some(u.stats.cpu.usage_ns / NANOS)),
    kind("container_cpu_user_seconds_total", "CPU time in user mode.", |u| Some(u.stats.cpu.user_ns / NANOS)),
    kind("container_cpu_system_seconds_total", "CPU time in the kernel.", |u| {
        Some(u.stats.cpu.system_ns / NANOS)
    }),
    kind("container_cpu_cfs_periods_total", "Periods that the quota was accounted in.", |u| Some(u.periods)),
    kind("container_cpu_cfs_throttled_periods_total", "Periods in which the quota was used up.", |u| {
        Some(u.stats.cpu.throttled_periods)
    }),
    kind("container_cpu_cfs_throttled_seconds_total", "Time spent waiting for quota.", |u| {
        Some(u.stats.cpu.throttled_ns / NANOS)
    }),
    kind("container_spec_cpu_period", "Period of the quota, in microseconds.", |u| Some(u.cpu_period)),
    kind("container_spec_cpu_quota", "Quota, in microseconds a period.", |u| u.cpu_quota),
    kind("container_spec_cpu_shares", "Weight among others.", |u| Some(u.cpu_shares)),
];

const MEMORY: &[Kind<Usage>] = &[
    kind("container_memory_usage_bytes", "Memory charged, with caches.", |u| Some(u.stats.memory.usage)),
    kind("container_memory_working_set_bytes", "Memory that cannot be dropped at once.", |u| {
        Some(u.stats.memory.working_set)
    }),
    kind("container_memory_rss", "Anonymous memory.", |u| Some(u.stats.memory.rss)),
    kind("container_memory_cache", "Page cache.", |u| Some(u.stats.memory.cache)),
    kind("container_memory_swap", "Swap.", |u| Some(u.stats.memory.swap)),
    kind("container_memory_failcnt", "How often the limit was hit.", |u| Some(u.limit_hits)),
    kind("container_memory_failures_total", "Page faults.", |u| Some(u.stats.memory.page_faults)),
    kind("container_memory_kernel_usage", "The kernel's memory.", |u| Some(u.kernel_bytes)),
    kind("container_memory_mapped_file", "Mapped files.", |u| Some(u.mapped_bytes)),
    kind("container_memory_max_usage_bytes", "Most memory ever charged.", |u| Some(u.peak_bytes)),
    kind("container_spec_memory_limit_bytes", "Limit; 0: none.", |u| Some(u.stats.memory.limit.unwrap_or(0))),
    kind("container_spec_memory_swap_limit_bytes", "Limit of memory and swap; 0: none.", |u| {
        Some(u.swap_limit)
    }),
    kind("container_oom_events_total", "Kills for lack of memory.", |u| Some(u.stats.oom_kills)),
];

const REST: &[Kind<Usage>] = &[
    kind("container_processes", "Processes alive.", |u| Some(u.processes)),
    kind("container_threads", "Threads alive.", |u| Some(u.stats.pids)),
    kind("container_threads_max", "Most threads allowed; 0: any.", |u| Some(u.stats.pids_limit.unwrap_or(0))),
    kind("container_file_descriptors", "Open descriptors.", |u| Some(u.descriptors)),
    kind("container_sockets", "Open sockets.", |u| Some(u.sockets)),
    kind("container_last_seen", "When this was measured, in seconds since the epoch.", |u| Some(u.seen_at)),
    kind("container_start_time_seconds", "When it started, in seconds since the epoch.", |u| {
        Some(u.started_at)
    }),
    kind("container_fs_usage_bytes", "Bytes in the writable layer.", |u| Some(u.disk_bytes)),
    kind("container_fs_limit_bytes", "Size of the file system.", |u| Some(u.fs_bytes)),
    kind("container_fs_inodes_free", "Free inodes of the file system.", |u| Some(u.fs_inodes_free)),
    kind("container_fs_inodes_total", "Inodes of the file system.", |u| Some(u.fs_inodes)),
    kind("container_fs_reads_bytes_total", "Bytes read from block devices.", |u| Some(u.stats.io.read_bytes)),
    kind("container_fs_writes_bytes_total", "Bytes written to block devices.", |u| {
        Some(u.stats.io.write_bytes)
    }),
    kind("container_fs_reads_total", "Reads of block devices.", |u| Some(u.stats.io.read_ops)),
    kind("container_fs_writes_total", "Writes of block devices.", |u| Some(u.stats.io.write_ops)),
    kind("container_blkio_device_usage_total", "Bytes to and from block devices.", |u| {
        Some(u.stats.io.read_bytes + u.stats.io.write_bytes)
    }),
];

const PRESSURE: &[Kind<Usage>] = &[
    kind("container_pressure_cpu_waiting_seconds_total", "Time in which a task waited for a CPU.", |u| {
        u.stats.pressure.as_ref().map(|all| all.cpu.some.total_us / MICROS)
    }),
    kind("container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for a CPU.", |u| {
        u.stats.pressure.as_ref().map(|all| all.cpu.full.total_us / MICROS)
    }),
    kind("container_pressure_memory_waiting_seconds_total", "Time in which a task waited for memory.", |u| {
        u.stats.pressure.as_ref().map(|all| all.memory.some.total_us / MICROS)
    }),
    kind(
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all tasks waited for memory.",
        |u| u.stats.pressure.as_ref().map(|all| all.memory.full.total_us / MICROS),
    ),
    kind("container_pressure_io_waiting_seconds_total", "Time in which a task waited for a device.", |u| {
        u.stats.pressure.as_ref().map(|all| all.io.some.total_us / MICROS)
    }),
    kind(
        "container_pressure_io_stalled_seconds_total",
        "Time in which all tasks waited for a device.",
        |u| u.stats.pressure.as_ref().map(|all| all.io.full.total_us / MICROS),
    ),
];

const NETWORK: &[Kind<Interface>] = &[
    kind("container_network_receive_bytes_total", "Bytes received.", |i| Some(i.receive[0])),
    kind("container_network_receive_packets_total", "Packets received.", |i| Some(i.receive[1])),
    kind("container_network_receive_errors_total", "Errors while receiving.", |i| Some(i.receive[2])),
    kind("container_network_receive_packets_dropped_total", "Packets dropped while receiving.", |i| {
        Some(i.receive[3])
    }),
    kind("container_network_transmit_bytes_total", "Bytes sent.", |i| Some(i.transmit[0])),
    kind("container_network_transmit_packets_total", "Packets sent.", |i| Some(i.transmit[1])),
    kind("container_network_transmit_errors_total", "Errors while sending.", |i| Some(i.transmit[2])),
    kind("container_network_transmit_packets_dropped_total", "Packets dropped while sending.", |i| {
        Some(i.transmit[3])
    }),
];

fn kinds() -> impl Iterator<Item = &'static Kind<Usage>> {
    [CPU, MEMORY, REST, PRESSURE].into_iter().flatten()
}

/// What [`Node::pod_metrics`] may hold.
pub(crate) fn descriptors() -> Vec<MetricDescriptor> {
    let of = |name: &str, help: &str, labels: &[&str]| MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: labels.iter().map(ToString::to_string).collect(),
    };
    let [id, name, image] = LABELS;
    let containers = kinds().map(|kind| of(kind.name, kind.help, &LABELS));
    containers
        .chain(NETWORK.iter().map(|kind| of(kind.name, kind.help, &[id, name, image, "interface"])))
        .collect()
}

fn metrics<'a, S>(kinds: impl Iterator<Item = &'a Kind<S>>, source: &S, labels: &[String]) -> Vec<Metric>
where
    S: 'a,
{
    let metric = |kind: &Kind<S>| {
        let counter = kind.name.ends_with("_total");
        Some(Metric {
            name: kind.name.to_owned(),
            timestamp: now(),
            metric_type: if counter { MetricType::Counter } else { MetricType::Gauge } as i32,
            label_values: labels.to_vec(),
            value: Some(UInt64Value { value: (kind.value)(source)? }),
        })
    };
    kinds.filter_map(metric).collect()
}

impl Node {
    /// The metrics of all ready sandboxes and their running containers.
    pub(crate) async fn pod_metrics(self: &Arc<Self>) -> Result<Vec<PodSandboxMetrics>, Failure> {
        let node = self.clone();
        blocking(move || {
            let pods = node.all_pods().into_iter().map(|pod| pod.record());
            Ok(pods.filter(|pod| pod.phase == PodPhase::Ready).map(|pod| node.metrics_of(&pod)).collect())
        })
        .await
    }

    fn metrics_of(&self, pod: &record::Pod) -> PodSandboxMetrics {
        let containers = self.all_containers(Some(&pod.id)).into_iter().map(|container| container.record());
        let running = containers.filter(|record| record.phase == Phase::Running);
        let container_metrics = running.map(|record| {
            let name = record.config.metadata.clone().unwrap_or_default().name;
            let labels = [record.cgroup.clone(), name, record.image_name.clone()];
            let usage = self.usage_of_container(&record);
            let metrics = usage.map(|usage| metrics(kinds(), &usage, &labels)).unwrap_or_default();
            ContainerMetrics { container_id: record.id, metrics }
        });
        let container_metrics = container_metrics.collect();
        let cgroup = self.cgroup_parent(pod);
        let name = pod.config.metadata.clone().unwrap_or_default().name;
        let mut labels = vec![cgroup.clone(), name, String::new()];
        let usage = self.usage_of_pod(pod, &cgroup);
        let mut all = usage.map(|usage| metrics(kinds(), &usage, &labels)).unwrap_or_default();
        labels.push(String::new());
        for interface in interfaces(pod) {
            labels[LABELS.len()].clone_from(&interface.name);
            all.extend(metrics(NETWORK.iter(), &interface, &labels));
        }
        PodSandboxMetrics { pod_sandbox_id: pod.id.clone(), metrics: all, container_metrics }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_match_and_names_are_unique() {
        let all = descriptors();
        let mut names: Vec<_> = all.iter().map(|one| &one.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        let labels = ["/c", "app", "image"].map(ToOwned::to_owned);
        for metric in metrics(kinds(), &Usage::default(), &labels) {
            let descriptor = all.iter().find(|one| one.name == metric.name).unwrap();
            assert_eq!(descriptor.label_keys.len(), metric.label_values.len());
        }
    }
}
