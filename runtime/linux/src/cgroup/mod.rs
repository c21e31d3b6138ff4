//! Control groups, version 1 (hybrid too) and version 2: make, limit, join, freeze, kill, remove, and read what they
//! use. Which cgroup gets which limit is the caller's affair.
//!
//! A cgroup is named by its path below the mount of the hierarchy (`/kubepods/burstable/pod<uid>`); on v1 the same
//! path is used in every hierarchy.

mod limits;
mod stats;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use limits::{Cpu, Device, DeviceKind, DeviceRule, Io, Limits, Memory};
pub use stats::{CpuStats, IoStats, MemoryStats, Pressure, Stall, StallShare, Stats};

/// Why a cgroup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Not done yet.
    #[error("cgroup: {0} is not there yet")]
    Missing(&'static str),
}

/// The cgroup hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchies {
    /// Version 1, and hybrid machines whose controllers are on version 1.
    V1(Vec<Hierarchy>),
    /// Version 2, with its mount point.
    V2(PathBuf),
}

/// One hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers (`cpu`, `cpuacct`), or `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
}

impl Hierarchies {
    /// Reads them from this process's mount table.
    ///
    /// # Errors
    /// When there is no cgroup mount.
    pub fn read() -> Result<Self, CgroupError> {
        Err(CgroupError::Missing("Hierarchies::read"))
    }
}

/// A cgroup: one directory on v2, one in every hierarchy on v1. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    path: String,
}

impl Cgroup {
    /// Names the cgroup at `path` below the mounts of `hierarchies`; nothing is made.
    pub fn of_path(hierarchies: &Hierarchies, path: &str) -> Self {
        Self { hierarchies: hierarchies.clone(), path: path.to_owned() }
    }

    /// Its path below the mounts.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it exists (on v1: in any hierarchy).
    pub fn exists(&self) -> bool {
        false
    }

    /// Makes it with all its parents; one that exists is no error. On v2 the controllers of the parents are handed
    /// down, on v1 cpusets inherit their parent's CPUs and nodes.
    ///
    /// # Errors
    /// What the kernel says, with the directory.
    pub fn create(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("create"))
    }

    /// Writes limits.
    ///
    /// # Errors
    /// A limit whose controller this machine lacks, or what the kernel says, with the file.
    pub fn limit(&self, _limits: &Limits) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("limit"))
    }

    /// Moves a process here (on v1: in every hierarchy).
    ///
    /// # Errors
    /// What the kernel says, with the directory.
    pub fn join(&self, _pid: u32) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("join"))
    }

    /// The directory for `CLONE_INTO_CGROUP`; `None` on v1.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(&self) -> Result<Option<OwnedFd>, CgroupError> {
        Err(CgroupError::Missing("open"))
    }

    /// The processes here and in all cgroups below; empty when it does not exist.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        Err(CgroupError::Missing("pids"))
    }

    /// Sends `SIGKILL` to every process here and below, also to those that are just being made. Does not wait for
    /// their end. One that does not exist is no error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("kill"))
    }

    /// Stops every process here and below, and returns when they stand (v1: the freezer hierarchy).
    ///
    /// # Errors
    /// No freezer on this machine, or what the kernel says.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("freeze"))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Self::freeze`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("thaw"))
    }

    /// Whether they stand.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn frozen(&self) -> Result<bool, CgroupError> {
        Err(CgroupError::Missing("frozen"))
    }

    /// Removes it and all cgroups below, which must hold no process but dying ones (these are waited for, a few
    /// seconds at most). One that does not exist is no error.
    ///
    /// # Errors
    /// It still holds processes, or what the kernel says.
    pub fn remove(&self) -> Result<(), CgroupError> {
        Err(CgroupError::Missing("remove"))
    }

    /// What it and those below use.
    ///
    /// # Errors
    /// It does not exist, or what the kernel says.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Err(CgroupError::Missing("stats"))
    }

    /// How often the kernel killed a process of this cgroup for lack of memory; 0 when it does not exist.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        Err(CgroupError::Missing("oom_kills"))
    }
}
