//! What a cgroup uses, read from the files of cgroup v1 or v2.

/// What a cgroup and those below it use. A controller that this machine does not have leaves its figures at zero
/// or `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks alive (processes and threads).
    pub pids: u64,
    /// Greatest number of tasks; `None` without limit.
    pub pids_limit: Option<u64>,
    /// How often the kernel killed a process of this cgroup for lack of memory.
    pub oom_kills: u64,
    /// Block device traffic, all devices together.
    pub io: IoStats,
    /// Pressure of CPU, memory and io; v2 only.
    pub pressure: Option<Pressure>,
}

/// CPU time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Nanoseconds since the cgroup was made.
    pub usage_ns: u64,
    /// Of these in user mode.
    pub user_ns: u64,
    /// Of these in the kernel.
    pub system_ns: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Nanoseconds spent waiting for the next period.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// All that is charged to the cgroup.
    pub usage: u64,
    /// Usage without the file pages that can be dropped at once (inactive).
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Swap.
    pub swap: u64,
    /// The limit; `None` without one.
    pub limit: Option<u64>,
    /// Page faults, as a count.
    pub page_faults: u64,
    /// Those that had to read from a disk.
    pub major_page_faults: u64,
}

/// Block device traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Bytes.
    pub read_bytes: u64,
    /// Bytes.
    pub write_bytes: u64,
    /// Operations.
    pub read_ops: u64,
    /// Operations.
    pub write_ops: u64,
}

/// Pressure stall information.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pressure {
    /// CPU.
    pub cpu: Stall,
    /// Memory.
    pub memory: Stall,
    /// Block devices.
    pub io: Stall,
}

/// Stall of one resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stall {
    /// At least one task waited.
    pub some: StallShare,
    /// All tasks waited at once.
    pub full: StallShare,
}

/// How long tasks waited.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StallShare {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last 60 seconds.
    pub avg60: f64,
    /// Per cent of the last 300 seconds.
    pub avg300: f64,
    /// Microseconds in all.
    pub total_us: u64,
}
