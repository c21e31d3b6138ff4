//! What a cgroup may use, in the units of the OCI runtime spec (config-linux.md#control-groups), which are those of
//! cgroup v1; the files of v2 are derived from them.

use std::collections::BTreeMap;

/// Limits to write into a cgroup. What is `None` or empty stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU time and placement.
    pub cpu: Cpu,
    /// Memory and swap.
    pub memory: Memory,
    /// Greatest number of tasks; `-1` for no limit.
    pub pids: Option<i64>,
    /// Device access, the last matching rule decides; `None` leaves device access alone.
    pub devices: Option<Vec<DeviceRule>>,
    /// Huge page size as the kernel spells it (`2MB`) to bytes; `-1` for no limit.
    pub hugetlb: BTreeMap<String, i64>,
    /// Block devices.
    pub io: Io,
    /// Files of cgroup v2 by name, written last and as they are. Refused on v1.
    pub unified: BTreeMap<String, String>,
}

/// CPU time and placement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Relative weight, 2 to 262144; 1024 is one ordinary share.
    pub shares: Option<u64>,
    /// Microseconds of CPU time in each period; `-1` for no limit.
    pub quota: Option<i64>,
    /// Length of a period in microseconds.
    pub period: Option<u64>,
    /// Unused microseconds that may be saved up.
    pub burst: Option<u64>,
    /// `1` makes it run only when nothing else would.
    pub idle: Option<i64>,
    /// CPUs as a list (`0-2,5`).
    pub cpus: Option<String>,
    /// Memory nodes as a list.
    pub mems: Option<String>,
}

/// Memory and swap, in bytes; `-1` for no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Memory.
    pub limit: Option<i64>,
    /// Memory the kernel tries to reclaim down to under pressure (v2: `memory.low`).
    pub reservation: Option<i64>,
    /// Memory and swap together, as on v1.
    pub swap: Option<i64>,
    /// 0 to 100. There is none on v2, where it is refused.
    pub swappiness: Option<u64>,
    /// Let tasks wait instead of killing one. There is none on v2, where it is refused.
    pub disable_oom_killer: Option<bool>,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Io {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Weight for single devices.
    pub weight_device: Vec<(Device, u64)>,
    /// Bytes per second.
    pub read_bps: Vec<(Device, u64)>,
    /// Bytes per second.
    pub write_bps: Vec<(Device, u64)>,
    /// Operations per second.
    pub read_iops: Vec<(Device, u64)>,
    /// Operations per second.
    pub write_iops: Vec<(Device, u64)>,
}

/// A block device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl std::fmt::Display for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.major, self.minor)
    }
}

/// The kind of device a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Block and character devices.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// Allows or denies access to devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// Major number; `None` for any.
    pub major: Option<u32>,
    /// Minor number; `None` for any.
    pub minor: Option<u32>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be made by mknod.
    pub mknod: bool,
}
