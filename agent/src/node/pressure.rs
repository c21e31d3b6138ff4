//! What the node is short of, by the kubelet's thresholds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fmt, fs};

use agent_core::quantity::Amount;

/// The signals that an `evictionHard` may name and that are looked at here, with the kubelet's defaults; the kubelet has
/// none for process ids.
const SIGNALS: [(&str, &str); 4] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("pid.available", "5%"),
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

/// Something of which less is left than should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) signal: &'static str,
    /// As `evictionHard` has it.
    pub(crate) threshold: String,
    /// In the signal's unit, as is `of`.
    pub(crate) left: u64,
    pub(crate) of: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is below {}", self.signal, self.threshold)
    }
}

/// What the node is short of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: Option<Shortage>,
    pub(crate) disk: Option<Shortage>,
    pub(crate) pids: Option<Shortage>,
}

impl Pressure {
    /// All that is short.
    pub(crate) fn shortages(&self) -> impl Iterator<Item = &Shortage> {
        [&self.memory, &self.disk, &self.pids].into_iter().flatten()
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
            memory: memory().and_then(|(left, all)| self.shortage("memory.available", left, all)),
            disk: self.disk(),
            pids: pids().and_then(|(left, all)| self.shortage("pid.available", left, all)),
        }
    }

    fn disk(&self) -> Option<Shortage> {
        let disk = rustix::fs::statvfs(&self.data_dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        self.shortage("nodefs.available", bytes(disk.f_bavail), bytes(disk.f_blocks))
            .or_else(|| self.shortage("nodefs.inodesFree", disk.f_favail, disk.f_files))
    }

    fn shortage(&self, signal: &'static str, left: u64, of: u64) -> Option<Shortage> {
        let (text, threshold) = self.of(signal)?;
        let short = || Shortage { signal, threshold: text.to_owned(), left, of };
        threshold.is_below(left, of).then(short)
    }

    /// How much of what there is has to be left.
    pub(crate) fn least(&self, signal: &str, of: i64) -> i64 {
        match self.of(signal) {
            Some((_, Threshold::Bytes(least))) => i64::try_from(least).unwrap_or(of).min(of),
            Some((_, Threshold::Percent(percent))) => {
                of / 100 * i64::try_from(percent).unwrap_or(100).min(100)
            }
            None => 0,
        }
    }

    /// The threshold of a signal, as it is written and as it is meant.
    fn of(&self, signal: &str) -> Option<(&str, Threshold)> {
        let given = self.hard.get(signal).map(String::as_str);
        let usual = SIGNALS.iter().find(|(known, _)| *known == signal).map(|(_, text)| *text);
        [given, usual].into_iter().flatten().find_map(|text| Some((text, Threshold::parse(signal, text)?)))
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

    #[test]
    fn what_is_short_is_told_by_its_threshold() {
        let hard = [("memory.available", "1Ei"), ("nodefs.available", "nonsense"), ("pid.available", "0%")];
        let hard = hard.map(|(signal, text)| (signal.to_owned(), text.to_owned())).into();
        let thresholds = Thresholds::new(PathBuf::from("/nowhere"), hard);
        let pressure = thresholds.pressure();
        let told: Vec<String> = pressure.shortages().map(ToString::to_string).collect();
        assert_eq!(told, ["memory.available is below 1Ei"]);
        let short = thresholds.shortage("nodefs.available", 9, 100).map(|short| short.to_string());
        assert_eq!(short.as_deref(), Some("nodefs.available is below 10%"));
        assert_eq!(thresholds.shortage("nodefs.available", 10, 100), None);
    }
}
