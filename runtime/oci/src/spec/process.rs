//! `process` of a configuration, for a container's first process and for those that join it.

use std::ffi::CString;
use std::path::PathBuf;

use linux::process::SchedulerAttributes;
use oci_spec::runtime as oci;

use crate::error::RuntimeError;

/// A process to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) terminal: bool,
    /// Columns and rows of the terminal.
    pub(crate) console_size: Option<(u16, u16)>,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) cwd: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: u32,
    pub(crate) capabilities: Capabilities,
    /// Resource number, soft, hard.
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    /// Class and level.
    pub(crate) io_priority: Option<(u16, u16)>,
    pub(crate) scheduler: Option<SchedulerAttributes>,
}

/// Capability sets, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

fn refuse<T>(field: &str, problem: impl std::fmt::Display) -> Result<T, RuntimeError> {
    Err(RuntimeError::spec(format!("process.{field}"), problem))
}

fn strings(field: &str, all: &[String]) -> Result<Vec<CString>, RuntimeError> {
    all.iter()
        .map(|one| {
            CString::new(one.as_str()).or_else(|_| refuse(field, format!("{one:?} holds a null byte")))
        })
        .collect()
}

impl Process {
    pub(crate) fn of(process: &oci::Process) -> Result<Self, RuntimeError> {
        let arguments = strings("args", process.args().as_deref().unwrap_or_default())?;
        if arguments.first().is_none_or(|program| program.is_empty()) {
            return refuse("args", "empty; name a program");
        }
        let environment = strings("env", process.env().as_deref().unwrap_or_default())?;
        if let Some(bad) = environment.iter().find(|one| !one.as_bytes().contains(&b'=')) {
            return refuse("env", format!("{bad:?} is not NAME=value"));
        }
        if !process.cwd().is_absolute() {
            return refuse("cwd", format!("{:?} is not absolute", process.cwd()));
        }
        let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if set(process.apparmor_profile()) && process.apparmor_profile().as_deref() != Some("unconfined") {
            return refuse("apparmorProfile", "AppArmor is not supported; remove it to run without");
        }
        if set(process.selinux_label()) {
            return refuse("selinuxLabel", "SELinux is not supported; remove it to run without");
        }
        if process.exec_cpu_affinity().is_some() {
            return refuse("execCPUAffinity", "not supported; use linux.resources.cpu.cpus");
        }
        let size = |size: u64| {
            u16::try_from(size).or_else(|_| refuse("consoleSize", format!("{size} is too large")))
        };
        let console_size = match process.console_size() {
            Some(console) => Some((size(console.width())?, size(console.height())?)),
            None => None,
        };
        let user = process.user();
        Ok(Self {
            terminal: process.terminal().unwrap_or(false),
            console_size,
            arguments,
            environment,
            cwd: process.cwd().clone(),
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022) & 0o777,
            capabilities: process
                .capabilities()
                .as_ref()
                .map_or(Ok(Capabilities::default()), Capabilities::of)?,
            rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: oom_score_adj(process.oom_score_adj())?,
            io_priority: process.io_priority().as_ref().map(io_priority).transpose()?,
            scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
        })
    }
}

fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>, RuntimeError> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => {
            refuse("oomScoreAdj", format!("{value} is not -1000 to 1000"))
        }
        other => Ok(other),
    }
}

fn rlimits(limits: &[oci::PosixRlimit]) -> Result<Vec<(u32, u64, u64)>, RuntimeError> {
    let mut all: Vec<(u32, u64, u64)> = Vec::new();
    for limit in limits {
        use oci::PosixRlimitType as Type;
        let number = match limit.typ() {
            Type::RlimitCpu => 0,
            Type::RlimitFsize => 1,
            Type::RlimitData => 2,
            Type::RlimitStack => 3,
            Type::RlimitCore => 4,
            Type::RlimitRss => 5,
            Type::RlimitNproc => 6,
            Type::RlimitNofile => 7,
            Type::RlimitMemlock => 8,
            Type::RlimitAs => 9,
            Type::RlimitLocks => 10,
            Type::RlimitSigpending => 11,
            Type::RlimitMsgqueue => 12,
            Type::RlimitNice => 13,
            Type::RlimitRtprio => 14,
            Type::RlimitRttime => 15,
        };
        if limit.soft() > limit.hard() {
            return refuse("rlimits", format!("{}: the soft limit is above the hard one", limit.typ()));
        }
        if all.iter().any(|(known, ..)| *known == number) {
            return refuse("rlimits", format!("{} is there twice", limit.typ()));
        }
        all.push((number, limit.soft(), limit.hard()));
    }
    Ok(all)
}

fn io_priority(priority: &oci::LinuxIOPriority) -> Result<(u16, u16), RuntimeError> {
    let class = match priority.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    match u16::try_from(priority.priority()) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => refuse("ioPriority.priority", "is not 0 to 7"),
    }
}

fn scheduler(scheduler: &oci::Scheduler) -> Result<SchedulerAttributes, RuntimeError> {
    use oci::{LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy};
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
        Policy::SchedIso => return refuse("scheduler.policy", "SCHED_ISO is in no kernel"),
    };
    let flags = scheduler.flags().iter().flatten().map(|flag| match flag {
        Flag::SchedResetOnFork => 1,
        Flag::SchedFlagReclaim => 2,
        Flag::SchedFlagDLOverrun => 4,
        Flag::SchedFlagKeepPolicy => 8,
        Flag::SchedFlagKeepParams => 16,
        Flag::SchedFlagUtilClampMin => 32,
        Flag::SchedFlagUtilClampMax => 64,
    });
    let Ok(priority) = u32::try_from(scheduler.priority().unwrap_or(0)) else {
        return refuse("scheduler.priority", "is negative");
    };
    Ok(SchedulerAttributes {
        size: 0,
        policy,
        flags: flags.fold(0, |all, flag| all | flag),
        nice: scheduler.nice().unwrap_or(0),
        priority,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

impl Capabilities {
    fn of(sets: &oci::LinuxCapabilities) -> Result<Self, RuntimeError> {
        let bits = |set: &Option<oci::Capabilities>| {
            set.iter().flatten().fold(0, |bits, capability| bits | 1_u64 << number(*capability))
        };
        let all = Self {
            bounding: bits(sets.bounding()),
            effective: bits(sets.effective()),
            permitted: bits(sets.permitted()),
            inheritable: bits(sets.inheritable()),
            ambient: bits(sets.ambient()),
        };
        if all.effective & !all.permitted != 0 {
            return refuse("capabilities.effective", "holds one that is not in permitted; add it there");
        }
        Ok(all)
    }
}

/// The number of a capability (linux/capability.h).
fn number(capability: oci::Capability) -> u32 {
    NAMES
        .iter()
        .position(|name| *name == capability.to_string())
        .and_then(|at| u32::try_from(at).ok())
        .unwrap_or(63)
}

/// In the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The names of the capabilities, `CAP_CHOWN` first.
pub(crate) fn capability_names() -> Vec<String> {
    NAMES.iter().map(|name| format!("CAP_{name}")).collect()
}
