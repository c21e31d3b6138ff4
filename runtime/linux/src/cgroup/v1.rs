//! Cgroup version 1: one directory for each controller.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::CgroupError;
use super::device::DeviceTable;
use super::files::{is, keyed, make, number, read, read_or_empty, write};
use super::limits::{Cpu, Io, Limits, Memory};
use super::stats::{CpuStats, IoStats, MemoryStats, Stats};

/// Where the cgroup is in the hierarchy of a controller.
trait Directories: Fn(&str) -> Option<PathBuf> {}
impl<F: Fn(&str) -> Option<PathBuf>> Directories for F {}

/// Makes the cgroup in one hierarchy.
pub(super) fn create(mount: &Path, path: &str, cpuset: bool) -> Result<(), CgroupError> {
    let mut directory = mount.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let parent = directory.clone();
        directory.push(part);
        make(&directory)?;
        if cpuset {
            // A cpuset starts empty and takes no process until it has CPUs and nodes.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if read(&directory, file)?.trim().is_empty() {
                    write(&directory, file, read(&parent, file)?.trim())?;
                }
            }
        }
    }
    Ok(())
}

/// Writes limits.
pub(super) fn limit(at: impl Fn(&str) -> Option<PathBuf>, limits: &Limits) -> Result<(), CgroupError> {
    if let Some(file) = limits.unified.keys().next() {
        return Err(CgroupError::unsupported(
            format!("unified.{file}"),
            "this machine has cgroup v1; remove it",
        ));
    }
    cpu(&at, &limits.cpu)?;
    memory(&at, &limits.memory)?;
    if let Some(pids) = limits.pids {
        let value = if pids > 0 { pids.to_string() } else { "max".to_owned() };
        write(&need(&at, "pids", "pids.limit")?, "pids.max", &value)?;
    }
    if let Some(rules) = &limits.devices {
        let directory = need(&at, "devices", "devices")?;
        for (file, line) in DeviceTable::of(rules)?.lines() {
            write(&directory, file, &line)?;
        }
    }
    for (size, bytes) in &limits.hugetlb {
        let directory = need(&at, "hugetlb", "hugepageLimits")?;
        write(&directory, &format!("hugetlb.{size}.limit_in_bytes"), &bytes.to_string())?;
    }
    io(&at, &limits.io)
}

fn need(at: &impl Directories, controller: &str, limit: &str) -> Result<PathBuf, CgroupError> {
    at(controller).ok_or_else(|| {
        let reason =
            format!("this machine mounts no v1 hierarchy with {controller}; mount one, or remove the limit");
        CgroupError::unsupported(limit, reason)
    })
}

fn cpu(at: &impl Directories, cpu: &Cpu) -> Result<(), CgroupError> {
    let of = |limit: &str| need(at, "cpu", limit);
    if let Some(shares) = cpu.shares {
        write(&of("cpu.shares")?, "cpu.shares", &shares.to_string())?;
    }
    if let Some(idle) = cpu.idle {
        write(&of("cpu.idle")?, "cpu.idle", &idle.to_string())?;
    }
    let mut period_late = false;
    if let Some(period) = cpu.period {
        match write(&of("cpu.period")?, "cpu.cfs_period_us", &period.to_string()) {
            // The old quota does not fit the new period: the new quota goes first.
            Err(error) if is(&error, Errno::INVAL) && cpu.quota.is_some() => period_late = true,
            other => other?,
        }
    }
    if let Some(quota) = cpu.quota {
        write(&of("cpu.quota")?, "cpu.cfs_quota_us", &if quota > 0 { quota } else { -1 }.to_string())?;
    }
    if let (true, Some(period)) = (period_late, cpu.period) {
        write(&of("cpu.period")?, "cpu.cfs_period_us", &period.to_string())?;
    }
    if let Some(burst) = cpu.burst {
        write(&of("cpu.burst")?, "cpu.cfs_burst_us", &burst.to_string())?;
    }
    for (limit, file, list) in
        [("cpu.cpus", "cpuset.cpus", &cpu.cpus), ("cpu.mems", "cpuset.mems", &cpu.mems)]
    {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            write(&need(at, "cpuset", limit)?, file, list)?;
        }
    }
    Ok(())
}

fn memory(at: &impl Directories, memory: &Memory) -> Result<(), CgroupError> {
    let of = |limit: &str| need(at, "memory", limit);
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    // Memory may never be above memory and swap, not even between two writes.
    let limit = memory.limit.filter(|limit| *limit != 0);
    let swap = memory.swap.filter(|swap| *swap != 0).or(limit.filter(|limit| *limit == -1));
    let mut swap_late = swap;
    if let (Some(limit), Some(swap)) = (limit, swap) {
        let now = number(&of("memory.swap")?, SWAP)?.unwrap_or(u64::MAX);
        if swap == -1 || u64::try_from(limit).is_ok_and(|limit| limit > now) {
            write_swap(&of("memory.swap")?, SWAP, swap)?;
            swap_late = None;
        }
    }
    if let Some(limit) = limit {
        write(&of("memory.limit")?, LIMIT, &limit.to_string())?;
    }
    if let Some(swap) = swap_late {
        write_swap(&of("memory.swap")?, SWAP, swap)?;
    }
    if let Some(reservation) = memory.reservation.filter(|bytes| *bytes != 0) {
        write(&of("memory.reservation")?, "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness {
        write(&of("memory.swappiness")?, "memory.swappiness", &swappiness.to_string())?;
    }
    if let Some(disable) = memory.disable_oom_killer {
        let value = if disable { "1" } else { "0" };
        write(&of("memory.disableOOMKiller")?, "memory.oom_control", value)?;
    }
    Ok(())
}

/// A machine without swap accounting has no file for it, and so no limit either.
fn write_swap(directory: &Path, file: &str, bytes: i64) -> Result<(), CgroupError> {
    match write(directory, file, &bytes.to_string()) {
        Err(error) if is(&error, Errno::NOENT) && bytes == -1 => Ok(()),
        other => other,
    }
}

fn io(at: &impl Directories, io: &Io) -> Result<(), CgroupError> {
    let of = |limit: &str| need(at, "blkio", limit);
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        let directory = of("blockIO.weight")?;
        let file = if directory.join("blkio.weight").exists() { "blkio.weight" } else { "blkio.bfq.weight" };
        write(&directory, file, &weight.to_string())?;
    }
    for (device, weight) in &io.weight_device {
        let directory = of("blockIO.weightDevice")?;
        let old = directory.join("blkio.weight_device").exists();
        let file = if old { "blkio.weight_device" } else { "blkio.bfq.weight_device" };
        write(&directory, file, &format!("{device} {weight}"))?;
    }
    let throttles = [
        ("blockIO.throttleReadBpsDevice", "blkio.throttle.read_bps_device", &io.read_bps),
        ("blockIO.throttleWriteBpsDevice", "blkio.throttle.write_bps_device", &io.write_bps),
        ("blockIO.throttleReadIOPSDevice", "blkio.throttle.read_iops_device", &io.read_iops),
        ("blockIO.throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", &io.write_iops),
    ];
    for (limit, file, rates) in throttles {
        for (device, rate) in rates {
            write(&of(limit)?, file, &format!("{device} {rate}"))?;
        }
    }
    Ok(())
}

/// What the cgroup and those below use.
pub(super) fn stats(at: impl Fn(&str) -> Option<PathBuf>) -> Result<Stats, CgroupError> {
    let mut stats = Stats::default();
    if let Some(directory) = at("cpuacct") {
        stats.cpu.usage_ns = number(&directory, "cpuacct.usage")?.unwrap_or(0);
        stats.cpu.user_ns = number(&directory, "cpuacct.usage_user")?.unwrap_or(0);
        stats.cpu.system_ns = number(&directory, "cpuacct.usage_sys")?.unwrap_or(0);
    }
    if let Some(directory) = at("cpu") {
        let text = read_or_empty(&directory, "cpu.stat")?;
        stats.cpu = CpuStats {
            throttled_periods: keyed(&text, "nr_throttled"),
            throttled_ns: keyed(&text, "throttled_time"),
            ..stats.cpu
        };
    }
    if let Some(directory) = at("memory") {
        let usage = number(&directory, "memory.usage_in_bytes")?.unwrap_or(0);
        let limit = number(&directory, "memory.limit_in_bytes")?;
        stats.memory = memory_stats(usage, limit, &read_or_empty(&directory, "memory.stat")?);
        stats.oom_kills = oom_kills(&directory)?;
    }
    if let Some(directory) = at("pids") {
        stats.pids = number(&directory, "pids.current")?.unwrap_or(0);
        stats.pids_limit = number(&directory, "pids.max")?;
    }
    if let Some(directory) = at("blkio") {
        let bytes = read_or_empty(&directory, "blkio.throttle.io_service_bytes_recursive")?;
        let ops = read_or_empty(&directory, "blkio.throttle.io_serviced_recursive")?;
        stats.io = IoStats {
            read_bytes: sum(&bytes, "Read"),
            write_bytes: sum(&bytes, "Write"),
            read_ops: sum(&ops, "Read"),
            write_ops: sum(&ops, "Write"),
        };
    }
    Ok(stats)
}

/// From `memory.stat`; the `total_` figures are those of the cgroups below too.
pub(super) fn memory_stats(usage: u64, limit: Option<u64>, stat: &str) -> MemoryStats {
    // "No limit" reads as the largest multiple of a page: nothing that large is a limit.
    const NO_LIMIT: u64 = 1 << 62;
    MemoryStats {
        usage,
        working_set: usage.saturating_sub(keyed(stat, "total_inactive_file")),
        rss: keyed(stat, "total_rss"),
        cache: keyed(stat, "total_cache"),
        swap: keyed(stat, "total_swap"),
        limit: limit.filter(|limit| *limit < NO_LIMIT),
        page_faults: keyed(stat, "total_pgfault"),
        major_page_faults: keyed(stat, "total_pgmajfault"),
    }
}

/// The sum of one operation over the devices of a `major:minor Operation number` file.
fn sum(text: &str, operation: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            (words.next() == Some(operation)).then(|| words.next()?.parse::<u64>().ok())?
        })
        .sum()
}

/// Unlike v2, v1 counts in the cgroup of the killed process only: those below are added up.
pub(super) fn oom_kills(directory: &Path) -> Result<u64, CgroupError> {
    let mut kills = 0;
    for cgroup in super::processes::tree(directory)? {
        kills += keyed(&read_or_empty(&cgroup, "memory.oom_control")?, "oom_kill");
    }
    Ok(kills)
}
