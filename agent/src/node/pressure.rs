//! What the node is short of, by the kubelet's thresholds.

use std::fs;
use std::path::PathBuf;

use super::object::Pressure;

/// Less memory than this is too little, in bytes.
const MEMORY_BYTES_MIN: i64 = 100 << 20;
/// Less of the disk than this is too little, in hundredths; of its inodes; of the process ids.
const DISK_PERCENT_MIN: u64 = 10;
const INODES_PERCENT_MIN: u64 = 5;
const PIDS_PERCENT_MIN: u64 = 5;

/// Below which the node is short of something.
#[derive(Debug, Clone)]
pub(crate) struct Thresholds {
    /// Where pods' data is.
    data_dir: PathBuf,
}

impl Thresholds {
    /// The kubelet's defaults.
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }

    /// What the node is short of now; what cannot be read counts as enough.
    pub(crate) fn pressure(&self) -> Pressure {
        Pressure {
            memory: memory_available().is_some_and(|bytes| bytes < MEMORY_BYTES_MIN),
            disk: self.disk_is_short().unwrap_or(false),
            pids: pids_are_short().unwrap_or(false),
        }
    }

    fn disk_is_short(&self) -> Option<bool> {
        let disk = rustix::fs::statvfs(&self.data_dir).ok()?;
        Some(
            below(disk.f_bavail, disk.f_blocks, DISK_PERCENT_MIN)
                || below(disk.f_favail, disk.f_files, INODES_PERCENT_MIN),
        )
    }
}

/// Whether less than so many hundredths are left of something that there is at all.
fn below(left: u64, of: u64, percent: u64) -> bool {
    of > 0 && left.saturating_mul(100) < of.saturating_mul(percent)
}

fn memory_available() -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

fn pids_are_short() -> Option<bool> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let used: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(below(most.saturating_sub(used), most, PIDS_PERCENT_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_below() {
        assert!(below(9, 100, 10) && !below(10, 100, 10) && !below(0, 0, 10));
        assert!(memory_available().is_some_and(|bytes| bytes > 0));
        assert!(pids_are_short().is_some());
    }
}
