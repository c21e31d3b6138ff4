//! Cgroup version 2: one directory for all controllers.

use std::path::Path;

use super::CgroupError;
use super::device::DeviceTable;
use super::files::{is, keyed, make, number, read, read_or_empty, write};
use super::limits::{Cpu, Io, Limits, Memory};
use super::stats::{CpuStats, IoStats, MemoryStats, Pressure, Stall, StallShare, Stats};

/// Makes the cgroup; each parent hands all its controllers down.
pub(super) fn create(mount: &Path, path: &str) -> Result<(), CgroupError> {
    let mut directory = mount.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        hand_down(&directory)?;
        directory.push(part);
        make(&directory)?;
    }
    Ok(())
}

/// Enables every controller for the children. A controller that cannot be (a parent that holds processes, a threaded
/// subtree) stays off: a limit that needs it is then refused by name.
fn hand_down(parent: &Path) -> Result<(), CgroupError> {
    let enabled = read(parent, "cgroup.subtree_control")?;
    let available = read(parent, "cgroup.controllers")?;
    let missing: Vec<String> = available
        .split_whitespace()
        .filter(|name| !enabled.split_whitespace().any(|own| own == *name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() || write(parent, "cgroup.subtree_control", &missing.join(" ")).is_ok() {
        return Ok(());
    }
    for one in &missing {
        match write(parent, "cgroup.subtree_control", one) {
            Err(error) if is(&error, rustix::io::Errno::NOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Writes limits.
pub(super) fn limit(directory: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let mut files = Vec::new();
    cpu(&limits.cpu, directory, &mut files)?;
    memory(&limits.memory, &mut files)?;
    if let Some(pids) = limits.pids {
        files.push((
            "pids.limit",
            "pids.max".to_owned(),
            if pids > 0 { pids.to_string() } else { "max".into() },
        ));
    }
    for (size, bytes) in &limits.hugetlb {
        files.push(("hugepageLimits", format!("hugetlb.{size}.max"), amount(*bytes)));
    }
    io(&limits.io, directory, &mut files);
    for (file, value) in &limits.unified {
        if file.contains('/') {
            return Err(CgroupError::unsupported(format!("unified.{file}"), "a file name holds no '/'"));
        }
        files.push(("unified", file.clone(), value.clone()));
    }
    for (limit, file, value) in files {
        match write(directory, &file, &value) {
            Err(error) if is(&error, rustix::io::Errno::NOENT) => {
                // Without swap accounting there is no file, and no swap to limit.
                if !(file == "memory.swap.max" && (value == "max" || value == "0")) {
                    let reason =
                        format!("{} is not there; hand its controller down", directory.join(&file).display());
                    return Err(CgroupError::unsupported(limit, reason));
                }
            }
            other => other?,
        }
    }
    match &limits.devices {
        Some(rules) => DeviceTable::of(rules)?.attach(directory),
        None => Ok(()),
    }
}

/// The OCI name of a limit, the file, what to write.
type File = (&'static str, String, String);

/// `max` for no limit.
fn amount(bytes: i64) -> String {
    if bytes < 0 { "max".to_owned() } else { bytes.to_string() }
}

fn cpu(cpu: &Cpu, directory: &Path, files: &mut Vec<File>) -> Result<(), CgroupError> {
    if let Some(idle) = cpu.idle {
        files.push(("cpu.idle", "cpu.idle".into(), idle.to_string()));
    }
    // An idle cgroup has no weight to write.
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0 && cpu.idle != Some(1)) {
        files.push(("cpu.shares", "cpu.weight".into(), weight_of_shares(shares).to_string()));
    }
    match (cpu.quota, cpu.period) {
        (None, None) => {}
        (None, Some(period)) => {
            let text = read_or_empty(directory, "cpu.max")?;
            let quota = text.split(' ').next().filter(|quota| !quota.is_empty()).unwrap_or("max");
            files.push(("cpu.period", "cpu.max".into(), format!("{quota} {period}")));
        }
        (Some(quota), period) => {
            let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
            let period = period.map(|period| format!(" {period}")).unwrap_or_default();
            files.push(("cpu.quota", "cpu.max".into(), format!("{quota}{period}")));
        }
    }
    if let Some(burst) = cpu.burst {
        files.push(("cpu.burst", "cpu.max.burst".into(), burst.to_string()));
    }
    for (limit, file, list) in
        [("cpu.cpus", "cpuset.cpus", &cpu.cpus), ("cpu.mems", "cpuset.mems", &cpu.mems)]
    {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            files.push((limit, file.into(), list.to_owned()));
        }
    }
    Ok(())
}

/// `cpu.weight` for v1 shares, by the curve that Kubernetes, runc and crun agreed on in 2025: it maps 2 to 1, 1024 to
/// 100 and 262144 to 10000.
pub(super) fn weight_of_shares(shares: u64) -> u32 {
    let log = f64::from(u32::try_from(shares.clamp(2, 262_144)).unwrap_or(262_144)).log2();
    let weight = 10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
    // Rounding must not lift an exact value (100.00000000000001) to the next.
    let weight = (weight - 1e-9).ceil().clamp(1.0, 10_000.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=10000 above")]
    let weight = weight as u32;
    weight
}

fn memory(memory: &Memory, files: &mut Vec<File>) -> Result<(), CgroupError> {
    if memory.swappiness.is_some() {
        return Err(CgroupError::unsupported("memory.swappiness", "cgroup v2 has none; remove it"));
    }
    if memory.disable_oom_killer == Some(true) {
        return Err(CgroupError::unsupported("memory.disableOOMKiller", "cgroup v2 has none; remove it"));
    }
    let limit = memory.limit.filter(|limit| *limit != 0);
    let swap = memory.swap.filter(|swap| *swap != 0).or(limit.filter(|limit| *limit == -1));
    if let Some(swap) = swap {
        let only = match (swap, limit) {
            (-1, _) => -1,
            (swap, Some(limit)) if limit >= 0 && swap >= limit => swap - limit,
            _ => {
                let reason = "it counts memory and swap together: memory.limit must be set, and not above it";
                return Err(CgroupError::unsupported("memory.swap", reason));
            }
        };
        files.push(("memory.swap", "memory.swap.max".into(), amount(only)));
    }
    if let Some(limit) = limit {
        files.push(("memory.limit", "memory.max".into(), amount(limit)));
    }
    if let Some(reservation) = memory.reservation.filter(|bytes| *bytes != 0) {
        files.push(("memory.reservation", "memory.low".into(), amount(reservation)));
    }
    Ok(())
}

fn io(io: &Io, directory: &Path, files: &mut Vec<File>) {
    // BFQ has its own file and scale (1 to 1000, like v1); io.weight is 1 to 10000.
    let bfq = directory.join("io.bfq.weight").exists();
    let scale = |weight: u64| if bfq { weight } else { 1 + weight.saturating_sub(10) * 9999 / 990 };
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        files.push(("blockIO.weight", file.into(), scale(weight.into()).to_string()));
    }
    for (device, weight) in &io.weight_device {
        files.push(("blockIO.weightDevice", file.into(), format!("{device} {}", scale(*weight))));
    }
    let throttles = [
        ("rbps", &io.read_bps),
        ("wbps", &io.write_bps),
        ("riops", &io.read_iops),
        ("wiops", &io.write_iops),
    ];
    for (key, rates) in throttles {
        for (device, rate) in rates {
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            files.push(("blockIO.throttle", "io.max".into(), format!("{device} {key}={rate}")));
        }
    }
}

/// What the cgroup and those below use.
pub(super) fn stats(directory: &Path) -> Result<Stats, CgroupError> {
    let cpu = read_or_empty(directory, "cpu.stat")?;
    let usage = number(directory, "memory.current")?.unwrap_or(0);
    let memory = read_or_empty(directory, "memory.stat")?;
    Ok(Stats {
        cpu: CpuStats {
            usage_ns: keyed(&cpu, "usage_usec") * 1000,
            user_ns: keyed(&cpu, "user_usec") * 1000,
            system_ns: keyed(&cpu, "system_usec") * 1000,
            throttled_periods: keyed(&cpu, "nr_throttled"),
            throttled_ns: keyed(&cpu, "throttled_usec") * 1000,
        },
        memory: MemoryStats {
            usage,
            working_set: usage.saturating_sub(keyed(&memory, "inactive_file")),
            rss: keyed(&memory, "anon"),
            cache: keyed(&memory, "file"),
            swap: number(directory, "memory.swap.current")?.unwrap_or(0),
            limit: number(directory, "memory.max")?,
            page_faults: keyed(&memory, "pgfault"),
            major_page_faults: keyed(&memory, "pgmajfault"),
        },
        pids: number(directory, "pids.current")?.unwrap_or(0),
        pids_limit: number(directory, "pids.max")?,
        oom_kills: keyed(&read_or_empty(directory, "memory.events")?, "oom_kill"),
        io: io_stats(&read_or_empty(directory, "io.stat")?),
        pressure: pressure(directory)?,
    })
}

pub(super) fn io_stats(text: &str) -> IoStats {
    let sum = |key: &str| {
        text.split_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter(|(name, _)| *name == key)
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    };
    IoStats {
        read_bytes: sum("rbytes"),
        write_bytes: sum("wbytes"),
        read_ops: sum("rios"),
        write_ops: sum("wios"),
    }
}

/// `None` on a kernel without pressure accounting.
fn pressure(directory: &Path) -> Result<Option<Pressure>, CgroupError> {
    let text = |file: &str| match read(directory, file) {
        Err(error) if is(&error, rustix::io::Errno::NOENT) || is(&error, rustix::io::Errno::OPNOTSUPP) => {
            Ok(None)
        }
        other => other.map(Some),
    };
    let Some(cpu) = text("cpu.pressure")? else { return Ok(None) };
    let of = |file: &str| Ok::<_, CgroupError>(text(file)?.map(|text| stall(&text)).unwrap_or_default());
    Ok(Some(Pressure { cpu: stall(&cpu), memory: of("memory.pressure")?, io: of("io.pressure")? }))
}

pub(super) fn stall(text: &str) -> Stall {
    let share = |kind: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(kind)).unwrap_or_default();
        let word = |key: &str| {
            line.split(' ')
                .filter_map(|word| word.split_once('='))
                .find(|(name, _)| *name == key)
                .map(|(_, v)| v)
        };
        let average = |key: &str| word(key).and_then(|value| value.parse().ok()).unwrap_or(0.0);
        StallShare {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total_us: word("total").and_then(|value| value.parse().ok()).unwrap_or(0),
        }
    };
    Stall { some: share("some"), full: share("full") }
}
