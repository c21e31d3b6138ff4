//! ContainerStats, PodSandboxStats and their lists, from cgroups, `/proc` and the writable layers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use linux::cgroup::{Cgroup, Stall, Stats};
use proto_cri::{
    ContainerAttributes, ContainerStats, ContainerStatsFilter, CpuUsage, FilesystemIdentifier,
    FilesystemUsage, IoUsage, LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage, NetworkUsage,
    PodSandboxAttributes, PodSandboxStats, PodSandboxStatsFilter, ProcessUsage, PsiData, PsiStats, SwapUsage,
    UInt64Value,
};

use crate::container_status::has_labels;
use crate::error::Failure;
use crate::lifecycle::{Phase, PodPhase};
use crate::node::{Node, blocking, lock, now};
use crate::record;
use crate::sandbox_run::INTERFACE;
use crate::usage::{Interface, interfaces};

/// How long the size of a writable layer counts; reading it walks a tree.
const DISK_AGE: Duration = Duration::from_secs(10);

/// What was measured last, by container id, sandbox id or directory.
#[derive(Debug, Default)]
pub(crate) struct DiskCache {
    sizes: Mutex<BTreeMap<String, (Instant, image::Usage)>>,
    cpu: Mutex<BTreeMap<String, (Instant, u64)>>,
}

impl DiskCache {
    pub(crate) fn forget(&self, id: &str) {
        lock(&self.sizes).remove(id);
        lock(&self.cpu).remove(id);
    }

    /// A size that is young enough, or measured now.
    pub(crate) fn size(&self, id: &str, measure: impl FnOnce() -> image::Usage) -> image::Usage {
        if let Some((at, size)) = lock(&self.sizes).get(id)
            && at.elapsed() < DISK_AGE
        {
            return *size;
        }
        let size = measure();
        lock(&self.sizes).insert(id.to_owned(), (Instant::now(), size));
        size
    }

    /// Billionths of a core used since the last question.
    fn nano_cores(&self, id: &str, usage: u64) -> Option<UInt64Value> {
        let at = Instant::now();
        let (then, before) = lock(&self.cpu).insert(id.to_owned(), (at, usage))?;
        let elapsed = at.duration_since(then).as_nanos();
        let used = u128::from(usage.saturating_sub(before)) * 1_000_000_000;
        value(u64::try_from(used.checked_div(elapsed)?).ok()?)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every field of these messages is optional")]
fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

impl Node {
    pub(crate) async fn container_stats(self: &Arc<Self>, id: &str) -> Result<ContainerStats, Failure> {
        let record = self.container(id)?.record();
        let node = self.clone();
        blocking(move || Ok(node.stats_of(&record))).await
    }

    pub(crate) async fn list_container_stats(
        self: &Arc<Self>,
        filter: Option<ContainerStatsFilter>,
    ) -> Result<Vec<ContainerStats>, Failure> {
        let (node, filter) = (self.clone(), filter.unwrap_or_default());
        blocking(move || {
            let all = node.all_containers(None);
            let records = all.iter().map(|container| container.record()).filter(|record| {
                record.phase == Phase::Running
                    && record.id.starts_with(&filter.id)
                    && record.pod.starts_with(&filter.pod_sandbox_id)
                    && has_labels(&filter.label_selector, &record.config.labels)
            });
            Ok(records.map(|record| node.stats_of(&record)).collect())
        })
        .await
    }

    fn stats_of(&self, record: &record::Container) -> ContainerStats {
        let usage = self.disk.size(&record.id, || self.snapshots.usage(&record.id).unwrap_or_default());
        let mut stats = ContainerStats {
            attributes: Some(ContainerAttributes {
                id: record.id.clone(),
                metadata: record.config.metadata.clone(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
            }),
            writable_layer: Some(FilesystemUsage {
                timestamp: now(),
                fs_id: Some(self.snapshot_fs()),
                used_bytes: value(usage.bytes),
                inodes_used: value(usage.inodes),
            }),
            ..ContainerStats::default()
        };
        if let Some(used) = self.cgroup_stats(&record.cgroup) {
            stats.cpu = Some(self.cpu(&record.id, &used));
            stats.memory = Some(memory(&used));
            stats.swap = Some(swap(&used));
            stats.io = Some(io(&used));
        }
        stats
    }

    pub(crate) fn snapshot_fs(&self) -> FilesystemIdentifier {
        FilesystemIdentifier { mountpoint: self.config.data_dir.join("snapshots").display().to_string() }
    }

    pub(crate) fn cgroup_stats(&self, path: &str) -> Option<Stats> {
        let cgroup = Cgroup::of_path(&self.hierarchies, path).ok()?;
        if cgroup.exists() { cgroup.stats().ok() } else { None }
    }

    fn cpu(&self, id: &str, used: &Stats) -> CpuUsage {
        CpuUsage {
            timestamp: now(),
            usage_core_nano_seconds: value(used.cpu.usage_ns),
            usage_nano_cores: self.disk.nano_cores(id, used.cpu.usage_ns),
            psi: used.pressure.as_ref().map(|pressure| psi(&pressure.cpu)),
        }
    }

    pub(crate) async fn pod_sandbox_stats(self: &Arc<Self>, id: &str) -> Result<PodSandboxStats, Failure> {
        let pod = self.pod(id)?.record();
        let node = self.clone();
        blocking(move || Ok(node.pod_stats(&pod))).await
    }

    pub(crate) async fn list_pod_sandbox_stats(
        self: &Arc<Self>,
        filter: Option<PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>, Failure> {
        let (node, filter) = (self.clone(), filter.unwrap_or_default());
        blocking(move || {
            let all = node.all_pods();
            let records = all.iter().map(|pod| pod.record()).filter(|pod| {
                pod.phase == PodPhase::Ready
                    && pod.id.starts_with(&filter.id)
                    && has_labels(&filter.label_selector, &pod.config.labels)
            });
            Ok(records.map(|pod| node.pod_stats(&pod)).collect())
        })
        .await
    }

    fn pod_stats(&self, pod: &record::Pod) -> PodSandboxStats {
        let containers = self.all_containers(Some(&pod.id));
        let containers = containers.iter().map(|container| container.record());
        let containers: Vec<_> = containers.filter(|record| record.phase == Phase::Running).collect();
        let containers = containers.iter().map(|record| self.stats_of(record)).collect();
        let mut linux = LinuxPodSandboxStats { network: network(pod), containers, ..Default::default() };
        if let Some(used) = self.cgroup_stats(&self.cgroup_parent(pod)) {
            linux.cpu = Some(self.cpu(&pod.id, &used));
            linux.memory = Some(memory(&used));
            linux.io = Some(io(&used));
            linux.process = Some(ProcessUsage { timestamp: now(), process_count: value(used.pids) });
        }
        PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: pod.id.clone(),
                metadata: pod.config.metadata.clone(),
                labels: pod.config.labels.clone(),
                annotations: pod.config.annotations.clone(),
            }),
            linux: Some(linux),
            windows: None,
        }
    }
}

fn memory(used: &Stats) -> MemoryUsage {
    let memory = &used.memory;
    MemoryUsage {
        timestamp: now(),
        working_set_bytes: value(memory.working_set),
        available_bytes: memory.limit.and_then(|limit| value(limit.saturating_sub(memory.working_set))),
        usage_bytes: value(memory.usage),
        rss_bytes: value(memory.rss),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: used.pressure.as_ref().map(|pressure| psi(&pressure.memory)),
    }
}

fn swap(used: &Stats) -> SwapUsage {
    SwapUsage { timestamp: now(), swap_available_bytes: None, swap_usage_bytes: value(used.memory.swap) }
}

fn io(used: &Stats) -> IoUsage {
    IoUsage { timestamp: now(), psi: used.pressure.as_ref().map(|pressure| psi(&pressure.io)) }
}

fn psi(stall: &Stall) -> PsiStats {
    let data = |share: &linux::cgroup::StallShare| PsiData {
        total: share.total_us,
        avg10: share.avg10,
        avg60: share.avg60,
        avg300: share.avg300,
    };
    PsiStats { full: Some(data(&stall.full)), some: Some(data(&stall.some)) }
}

/// The pod's interfaces.
fn network(pod: &record::Pod) -> Option<NetworkUsage> {
    pod.monitor.as_ref()?;
    let of = |one: Interface| NetworkInterfaceUsage {
        name: one.name,
        rx_bytes: value(one.receive[0]),
        rx_errors: value(one.receive[2]),
        tx_bytes: value(one.transmit[0]),
        tx_errors: value(one.transmit[2]),
    };
    let (default, others): (Vec<_>, Vec<_>) =
        interfaces(pod).into_iter().map(of).partition(|one| one.name == INTERFACE);
    Some(NetworkUsage { timestamp: now(), default_interface: default.into_iter().next(), interfaces: others })
}
