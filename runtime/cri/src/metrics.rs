//! ListMetricDescriptors and ListPodSandboxMetrics: cAdvisor's metrics of containers, which the kubelet serves on
//! `/metrics/cadvisor`.

use std::sync::Arc;

use linux::cgroup::Stats;
use proto_cri::{ContainerMetrics, Metric, MetricDescriptor, MetricType, PodSandboxMetrics, UInt64Value};

use crate::error::Failure;
use crate::lifecycle::{Phase, PodPhase};
use crate::node::{Node, blocking, now};
use crate::record;

/// A metric of a container: its name, what it says, whether it only grows, and where it comes from.
struct Kind {
    name: &'static str,
    help: &'static str,
    counter: bool,
    value: fn(&Stats) -> Option<u64>,
}

/// Labels of every metric.
const LABELS: &[&str] = &["id", "name", "image"];
const NANOS: u64 = 1_000_000_000;

const KINDS: &[Kind] = &[
    counter("container_cpu_usage_seconds_total", "CPU time in seconds.", |s| Some(s.cpu.usage_ns / NANOS)),
    counter("container_cpu_user_seconds_total", "CPU time in user mode in seconds.", |s| {
        Some(s.cpu.user_ns / NANOS)
    }),
    counter("container_cpu_system_seconds_total", "CPU time in the kernel in seconds.", |s| {
        Some(s.cpu.system_ns / NANOS)
    }),
    counter("container_cpu_cfs_throttled_periods_total", "Periods in which the quota was used up.", |s| {
        Some(s.cpu.throttled_periods)
    }),
    counter("container_cpu_cfs_throttled_seconds_total", "Time spent waiting for quota in seconds.", |s| {
        Some(s.cpu.throttled_ns / NANOS)
    }),
    gauge("container_memory_usage_bytes", "Memory charged, with caches.", |s| Some(s.memory.usage)),
    gauge("container_memory_working_set_bytes", "Memory that cannot be dropped at once.", |s| {
        Some(s.memory.working_set)
    }),
    gauge("container_memory_rss", "Anonymous memory.", |s| Some(s.memory.rss)),
    gauge("container_memory_cache", "Page cache.", |s| Some(s.memory.cache)),
    gauge("container_memory_swap", "Swap.", |s| Some(s.memory.swap)),
    counter("container_memory_failures_total", "Page faults.", |s| Some(s.memory.page_faults)),
    gauge("container_spec_memory_limit_bytes", "Memory limit.", |s| s.memory.limit),
    counter("container_oom_events_total", "Kills for lack of memory.", |s| Some(s.oom_kills)),
    gauge("container_processes", "Processes alive.", |s| Some(s.pids)),
    gauge("container_threads", "Threads alive.", |s| Some(s.pids)),
    gauge("container_threads_max", "Most threads allowed.", |s| s.pids_limit),
    counter("container_fs_reads_bytes_total", "Bytes read from block devices.", |s| Some(s.io.read_bytes)),
    counter("container_fs_writes_bytes_total", "Bytes written to block devices.", |s| Some(s.io.write_bytes)),
    counter("container_fs_reads_total", "Reads of block devices.", |s| Some(s.io.read_ops)),
    counter("container_fs_writes_total", "Writes of block devices.", |s| Some(s.io.write_ops)),
];

const fn counter(name: &'static str, help: &'static str, value: fn(&Stats) -> Option<u64>) -> Kind {
    Kind { name, help, counter: true, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Stats) -> Option<u64>) -> Kind {
    Kind { name, help, counter: false, value }
}

/// What [`Node::pod_metrics`] may hold.
pub(crate) fn descriptors() -> Vec<MetricDescriptor> {
    let label_keys: Vec<String> = LABELS.iter().map(ToString::to_string).collect();
    let descriptor = |kind: &Kind| MetricDescriptor {
        name: kind.name.to_owned(),
        help: kind.help.to_owned(),
        label_keys: label_keys.clone(),
    };
    KINDS.iter().map(descriptor).collect()
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
            ContainerMetrics { metrics: self.read(&record.cgroup, &labels), container_id: record.id }
        });
        let container_metrics = container_metrics.collect();
        let cgroup = format!("/{}", self.cgroup_parent(pod).trim_matches('/'));
        let name = pod.config.metadata.clone().unwrap_or_default().name;
        let metrics = self.read(&cgroup, &[cgroup.clone(), name, String::new()]);
        PodSandboxMetrics { pod_sandbox_id: pod.id.clone(), metrics, container_metrics }
    }

    fn read(&self, cgroup: &str, labels: &[String]) -> Vec<Metric> {
        let Some(stats) = self.cgroup_stats(cgroup) else { return Vec::new() };
        let metric = |kind: &Kind| {
            let value = (kind.value)(&stats)?;
            Some(Metric {
                name: kind.name.to_owned(),
                timestamp: now(),
                metric_type: if kind.counter { MetricType::Counter } else { MetricType::Gauge } as i32,
                label_values: labels.to_vec(),
                value: Some(UInt64Value { value }),
            })
        };
        KINDS.iter().filter_map(metric).collect()
    }
}
