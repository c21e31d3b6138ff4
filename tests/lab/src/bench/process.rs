//! What the processes of a machine cost.

use std::fs;
use std::ops::AddAssign;
use std::time::Duration;

use anyhow::{Result, bail};
use lab::Machine;

use super::pod::WORKLOAD;

/// The proportional set size of processes, in kB: what would be free again without them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) pss: u64,
    /// What only memory can hold. The rest is pages of files, the program's text above all.
    pub(crate) anonymous: u64,
}

impl Memory {
    /// Of a process; none when it is gone.
    pub(crate) fn of(pid: u32) -> Option<Memory> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let field = |name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        };
        Some(Memory { pss: field("Pss:")?, anonymous: field("Pss_Anon:").unwrap_or_default() })
    }
}

impl AddAssign for Memory {
    fn add_assign(&mut self, other: Memory) {
        self.pss += other.pss;
        self.anonymous += other.anonymous;
    }
}

/// The machine's processes but the workload, and the idle `sleep` of its first process.
pub(crate) fn of_runtime(machine: &Machine) -> impl Iterator<Item = u32> {
    machine.processes().into_iter().filter(|pid| {
        !command_line(*pid).is_some_and(|line| line == WORKLOAD.join(" ") || line == "sleep 3600")
    })
}

fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned())
}

/// CPU time of everything on a machine so far, ended processes included.
pub(crate) fn cpu(machine: &Machine) -> Result<Duration> {
    for cgroup in machine.cgroups() {
        if let Ok(text) = fs::read_to_string(cgroup.join("cpuacct.usage")) {
            return Ok(Duration::from_nanos(text.trim().parse()?));
        }
    }
    for cgroup in machine.cgroups() {
        let text = fs::read_to_string(cgroup.join("cpu.stat")).unwrap_or_default();
        if let Some(usec) = text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
            return Ok(Duration::from_micros(usec.parse()?));
        }
    }
    bail!("no cgroup of the machine accounts for CPU time")
}
