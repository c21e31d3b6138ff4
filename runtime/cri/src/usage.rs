//! What a container or a pod uses, beyond what every statistic shows: from cgroup files, `/proc`, the file system.

use std::fs;
use std::path::Path;

use linux::cgroup::{Cgroup, Stats};
use proto_cri::LinuxContainerResources;

use crate::node::{Node, now};
use crate::record;

const NANOS: i64 = 1_000_000_000;
/// The kernel's values where none is configured.
const CPU_PERIOD: u64 = 100_000;
const CPU_SHARES: u64 = 1024;

/// Everything that can be said of a cgroup's use.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(crate) stats: Stats,
    pub(crate) periods: u64,
    pub(crate) cpu_period: u64,
    pub(crate) cpu_quota: Option<u64>,
    pub(crate) cpu_shares: u64,
    pub(crate) limit_hits: u64,
    pub(crate) kernel_bytes: u64,
    pub(crate) mapped_bytes: u64,
    pub(crate) peak_bytes: u64,
    pub(crate) swap_limit: u64,
    pub(crate) processes: u64,
    pub(crate) descriptors: u64,
    pub(crate) sockets: u64,
    /// Seconds since the epoch.
    pub(crate) seen_at: u64,
    pub(crate) started_at: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) fs_bytes: u64,
    pub(crate) fs_inodes: u64,
    pub(crate) fs_inodes_free: u64,
}

/// A network interface of a pod: bytes, packets, errors, drops, each way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) receive: [u64; 4],
    pub(crate) transmit: [u64; 4],
}

impl Node {
    pub(crate) fn usage_of_container(&self, record: &record::Container) -> Option<Usage> {
        let resources = record.config.linux.as_ref().and_then(|linux| linux.resources.clone());
        let mut usage = self.usage(&record.cgroup, record.started_at, &resources.unwrap_or_default())?;
        let disk = self.disk.size(&record.id, || self.snapshots.usage(&record.id).unwrap_or_default());
        usage.disk_bytes = disk.bytes;
        Some(usage)
    }

    pub(crate) fn usage_of_pod(&self, pod: &record::Pod, cgroup: &str) -> Option<Usage> {
        let resources = pod.config.linux.as_ref().and_then(|linux| linux.resources.clone());
        self.usage(cgroup, pod.created_at, &resources.unwrap_or_default())
    }

    fn usage(&self, path: &str, started_at: i64, resources: &LinuxContainerResources) -> Option<Usage> {
        let stats = self.cgroup_stats(path)?;
        let cgroup = Cgroup::of_path(&self.hierarchies, path).ok()?;
        let pids = cgroup.pids().unwrap_or_default();
        let (descriptors, sockets) = descriptors(&pids);
        let fs = rustix::fs::statvfs(&self.config.data_dir).ok();
        let field = |file: &str, names: &[&str]| field(&cgroup, file, names);
        let number = |files: &[&str]| files.iter().find_map(|file| text(&cgroup, file)?.trim().parse().ok());
        let seconds = |nanos: i64| u64::try_from(nanos / NANOS).unwrap_or(0);
        let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
        Some(Usage {
            stats,
            periods: field("cpu.stat", &["nr_periods"]),
            cpu_period: positive(resources.cpu_period).unwrap_or(CPU_PERIOD),
            cpu_quota: positive(resources.cpu_quota),
            cpu_shares: positive(resources.cpu_shares).unwrap_or(CPU_SHARES),
            limit_hits: number(&["memory.failcnt"]).unwrap_or_else(|| field("memory.events", &["max"])),
            kernel_bytes: number(&["memory.kmem.usage_in_bytes"])
                .unwrap_or_else(|| field("memory.stat", &["kernel"])),
            mapped_bytes: field("memory.stat", &["mapped_file", "file_mapped"]),
            peak_bytes: number(&["memory.max_usage_in_bytes", "memory.peak"]).unwrap_or(0),
            swap_limit: positive(resources.memory_swap_limit_in_bytes).unwrap_or(0),
            processes: u64::try_from(pids.len()).unwrap_or(u64::MAX),
            descriptors,
            sockets,
            seen_at: seconds(now()),
            started_at: seconds(started_at),
            disk_bytes: 0,
            fs_bytes: fs.as_ref().map_or(0, |fs| fs.f_blocks * fs.f_frsize),
            fs_inodes: fs.as_ref().map_or(0, |fs| fs.f_files),
            fs_inodes_free: fs.as_ref().map_or(0, |fs| fs.f_ffree),
        })
    }
}

/// A file of the cgroup, in whichever hierarchy has it.
fn text(cgroup: &Cgroup, file: &str) -> Option<String> {
    cgroup.directories().iter().find_map(|directory| fs::read_to_string(directory.join(file)).ok())
}

/// The first of these fields in a file of `name value` lines.
fn field(cgroup: &Cgroup, file: &str, names: &[&str]) -> u64 {
    let text = text(cgroup, file).unwrap_or_default();
    let value =
        |name: &&str| text.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(' ')?.parse().ok());
    names.iter().find_map(value).unwrap_or(0)
}

/// Open descriptors of these processes, and how many of them are sockets.
fn descriptors(pids: &[u32]) -> (u64, u64) {
    let mut counts = (0, 0);
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            let socket = fs::read_link(entry.path()).is_ok_and(|to| is_socket(&to));
            counts = (counts.0 + 1, counts.1 + u64::from(socket));
        }
    }
    counts
}

fn is_socket(link: &Path) -> bool {
    link.to_str().is_some_and(|link| link.starts_with("socket:"))
}

/// The interfaces of a pod but its loopback, as its monitor's namespace shows them.
pub(crate) fn interfaces(pod: &record::Pod) -> Vec<Interface> {
    let table =
        pod.monitor.as_ref().map(|monitor| fs::read_to_string(format!("/proc/{}/net/dev", monitor.pid)));
    table.and_then(Result::ok).map(|table| parse(&table)).unwrap_or_default()
}

fn parse(table: &str) -> Vec<Interface> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let four = |at: usize| <[u64; 4]>::try_from(numbers.get(at..at + 4)?).ok();
        Some(Interface { name: name.trim().to_owned(), receive: four(0)?, transmit: four(8)? })
    };
    table.lines().skip(2).filter_map(line).filter(|one| one.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_table() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 20 5 6 7 0 0 0 0\n";
        let expected = Interface { name: "eth0".into(), receive: [10, 2, 3, 4], transmit: [20, 5, 6, 7] };
        assert_eq!(parse(table), [expected]);
    }
}
