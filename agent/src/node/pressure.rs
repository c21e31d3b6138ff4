//! What the node is short of, by the kubelet's thresholds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use agent_core::quantity::Amount;

use super::object::Pressure;

/// Less of the process ids than this is too little, in hundredths, where nobody says otherwise.
const PIDS_PERCENT_MIN: u64 = 5;
/// The signals that an `evictionHard` may name and that are looked at here, with the kubelet's defaults.
const SIGNALS: [(&str, Threshold); 4] = [
    ("memory.available", Threshold::Bytes(100 << 20)),
    ("nodefs.available", Threshold::Percent(10)),
    ("nodefs.inodesFree", Threshold::Percent(5)),
    ("pid.available", Threshold::Percent(PIDS_PERCENT_MIN)),
];

/// Less than this is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threshold {
    /// An amount.
    Bytes(u64),
    /// Hundredths of what there is at all.
    Percent(u64),
}

impl Threshold {
    /// Reads `10%` or a quantity, of a signal that is looked at here; `None` where either is not known.
    pub(crate) fn parse(signal: &str, text: &str) -> Option<Self> {
        SIGNALS.iter().find(|(known, _)| *known == signal)?;
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().map(Self::Percent),
            None => u64::try_from(Amount::parse(text).ok()?.units()).ok().map(Self::Bytes),
        }
    }

    fn is_below(self, left: u64, of: u64) -> bool {
        match self {
            Self::Bytes(least) => left < least,
            Self::Percent(percent) => of > 0 && left.saturating_mul(100) < of.saturating_mul(percent),
        }
    }
}

/// Below which the node is short of something.
#[derive(Debug, Clone)]
pub(crate) struct Thresholds {
    /// Where pods' data is.
    data_dir: PathBuf,
    /// By signal.
    hard: BTreeMap<String, String>,
}

impl Thresholds {
    /// `hard` as in `evictionHard`; a signal that it does not name has the kubelet's default.
    pub(crate) fn new(data_dir: PathBuf, hard: BTreeMap<String, String>) -> Self {
        Self { data_dir, hard }
    }

    /// What the node is short of now; what cannot be read counts as enough.
    pub(crate) fn pressure(&self) -> Pressure {
        Pressure {
            memory: memory().is_some_and(|(left, all)| self.is_short("memory.available", left, all)),
            disk: self.disk_is_short().unwrap_or(false),
            pids: pids().is_some_and(|(left, all)| self.is_short("pid.available", left, all)),
        }
    }

    fn disk_is_short(&self) -> Option<bool> {
        let disk = rustix::fs::statvfs(&self.data_dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some(
            self.is_short("nodefs.available", bytes(disk.f_bavail), bytes(disk.f_blocks))
                || self.is_short("nodefs.inodesFree", disk.f_favail, disk.f_files),
        )
    }

    fn is_short(&self, signal: &str, left: u64, of: u64) -> bool {
        self.of(signal).is_some_and(|threshold| threshold.is_below(left, of))
    }

    /// How much of what there is has to be left.
    pub(crate) fn least(&self, signal: &str, of: i64) -> i64 {
        match self.of(signal) {
            Some(Threshold::Bytes(least)) => i64::try_from(least).unwrap_or(of).min(of),
            Some(Threshold::Percent(percent)) => of / 100 * i64::try_from(percent).unwrap_or(100).min(100),
            None => 0,
        }
    }

    fn of(&self, signal: &str) -> Option<Threshold> {
        let given = self.hard.get(signal).and_then(|text| Threshold::parse(signal, text));
        let usual = SIGNALS.iter().find(|(known, _)| *known == signal).map(|(_, threshold)| *threshold);
        given.or(usual)
    }
}

/// Bytes available, and in all.
fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some((of("MemAvailable:")?, of("MemTotal:")?))
}

/// Process ids available, and in all.
fn pids() -> Option<(u64, u64)> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let used: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((most.saturating_sub(used), most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_below() {
        let tenth = Threshold::parse("nodefs.available", "10%").unwrap();
        assert!(tenth.is_below(9, 100) && !tenth.is_below(10, 100) && !tenth.is_below(0, 0));
        let gib = Threshold::parse("memory.available", "1Gi").unwrap();
        assert!(gib.is_below((1 << 30) - 1, 0) && !gib.is_below(1 << 30, 0));
        assert_eq!(Threshold::parse("imagefs.available", "10%"), None);
        assert_eq!(Threshold::parse("memory.available", "much"), None);
        assert!(memory().is_some_and(|(left, all)| 0 < left && left < all));
        assert!(pids().is_some());
    }
}
