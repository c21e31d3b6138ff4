//! Control groups, version 1 (hybrid too) and version 2: make, limit, join, freeze, kill, remove, and read what they
//! use. Which cgroup gets which limit is the caller's affair.
//!
//! A cgroup is named by its path below the mount of the hierarchy (`/kubepods/burstable/pod<uid>`); on v1 the same
//! path is used in every hierarchy.

mod device;
mod files;
mod hierarchy;
mod limits;
mod processes;
mod stats;
mod v1;
mod v2;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

pub use hierarchy::{Hierarchies, Hierarchy};
pub use limits::{Cpu, Device, DeviceKind, DeviceRule, Io, Limits, Memory};
pub use stats::{CpuStats, IoStats, MemoryStats, Pressure, Stall, StallShare, Stats};

/// Why a cgroup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup file system is mounted.
    #[error("no cgroup file system in /proc/self/mountinfo: mount cgroup2 at /sys/fs/cgroup")]
    NotMounted,
    /// The path is relative, or climbs.
    #[error("cgroup path {0:?}: it must be absolute, without '..'")]
    Path(String),
    /// A limit that this machine or this cgroup version cannot hold.
    #[error("cgroup limit {limit}: {reason}")]
    Unsupported {
        /// The limit, as the OCI spec names it.
        limit: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A file or directory of the cgroup file system.
    #[error("cgroup: {action} {path}")]
    Io {
        /// What was tried, e.g. `write "100" to`.
        action: String,
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Processes are left.
    #[error("cgroup {path}: still holds processes {pids:?}")]
    Busy {
        /// The cgroup.
        path: String,
        /// Its processes.
        pids: Vec<u32>,
    },
    /// Processes did not stop in time.
    #[error("cgroup {path}: its processes do not freeze; one may hang in the kernel (state D)")]
    NotFrozen {
        /// The cgroup.
        path: String,
    },
}

impl CgroupError {
    pub(crate) fn io(action: impl Into<String>, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action: action.into(), path: path.to_owned(), source: source.into() }
    }

    fn unsupported(limit: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { limit: limit.into(), reason: reason.into() }
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
    ///
    /// # Errors
    /// A path that is not absolute, or climbs.
    pub fn of_path(hierarchies: &Hierarchies, path: &str) -> Result<Self, CgroupError> {
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(CgroupError::Path(path.to_owned()));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        Ok(Self { hierarchies: hierarchies.clone(), path: format!("/{}", parts.join("/")) })
    }

    /// The cgroup of a process on v2; `None` on v1, where it may be in several.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(hierarchies: &Hierarchies, pid: u32) -> Result<Option<Self>, CgroupError> {
        if !hierarchies.unified() {
            return Ok(None);
        }
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = std::fs::read_to_string(&file).map_err(|source| CgroupError::io("read", &file, source))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        path.map(|path| Self::of_path(hierarchies, path)).transpose()
    }

    /// Whether it holds cgroups instead of processes: on v2 one that hands controllers down takes no process itself.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn holds_cgroups(&self) -> Result<bool, CgroupError> {
        let Hierarchies::V2(mount) = &self.hierarchies else { return Ok(false) };
        Ok(!files::read_or_empty(&self.below(mount), "cgroup.subtree_control")?.trim().is_empty())
    }

    /// Its path below the mounts.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its directories: one on v2, one for each hierarchy on v1.
    pub fn directories(&self) -> Vec<PathBuf> {
        match &self.hierarchies {
            Hierarchies::V1(all) => all.iter().map(|one| self.below(&one.mount)).collect(),
            Hierarchies::V2(mount) => vec![self.below(mount)],
        }
    }

    /// The directory of a v1 controller, or the only one on v2.
    fn directory(&self, controller: &str) -> Option<PathBuf> {
        match &self.hierarchies {
            Hierarchies::V1(all) => {
                all.iter().find(|one| one.has(controller)).map(|one| self.below(&one.mount))
            }
            Hierarchies::V2(mount) => Some(self.below(mount)),
        }
    }

    fn below(&self, mount: &Path) -> PathBuf {
        mount.join(self.path.trim_start_matches('/'))
    }

    /// Whether it exists (on v1: in any hierarchy).
    pub fn exists(&self) -> bool {
        self.directories().iter().any(|directory| directory.is_dir())
    }

    /// Makes it with all its parents; one that exists is no error. On v2 the controllers of the parents are handed
    /// down, on v1 cpusets inherit their parent's CPUs and nodes.
    ///
    /// # Errors
    /// What the kernel says, with the directory.
    pub fn create(&self) -> Result<(), CgroupError> {
        match &self.hierarchies {
            Hierarchies::V1(all) => {
                for one in all {
                    v1::create(&one.mount, &self.path, one.has("cpuset"))?;
                }
                Ok(())
            }
            Hierarchies::V2(mount) => v2::create(mount, &self.path),
        }
    }

    /// Writes limits.
    ///
    /// # Errors
    /// A limit whose controller this machine lacks, or what the kernel says, with the file.
    pub fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        match &self.hierarchies {
            Hierarchies::V1(_) => v1::limit(|controller| self.directory(controller), limits),
            Hierarchies::V2(mount) => v2::limit(&self.below(mount), limits),
        }
    }

    /// Moves a process here (on v1: in every hierarchy).
    ///
    /// # Errors
    /// What the kernel says, with the directory.
    pub fn join(&self, pid: u32) -> Result<(), CgroupError> {
        for directory in self.directories() {
            files::write(&directory, "cgroup.procs", &pid.to_string())?;
        }
        Ok(())
    }

    /// The directory for `CLONE_INTO_CGROUP`; `None` on v1.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Hierarchies::V2(mount) = &self.hierarchies else { return Ok(None) };
        let directory = self.below(mount);
        rustix::fs::open(&directory, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(Some)
            .map_err(|source| CgroupError::io("open", &directory, source))
    }

    /// What it and those below use.
    ///
    /// # Errors
    /// It does not exist, or what the kernel says.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        if !self.exists() {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(CgroupError::io("read", Path::new(&self.path), source));
        }
        match &self.hierarchies {
            Hierarchies::V1(_) => v1::stats(|controller| self.directory(controller)),
            Hierarchies::V2(mount) => v2::stats(&self.below(mount)),
        }
    }

    /// How often the kernel killed a process of this cgroup, or of one below, for lack of memory; 0 when it does not
    /// exist.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        match (&self.hierarchies, self.directory("memory")) {
            (_, None) => Ok(0),
            (Hierarchies::V1(_), Some(directory)) => v1::oom_kills(&directory),
            (Hierarchies::V2(_), Some(directory)) => {
                Ok(files::keyed(&files::read_or_empty(&directory, "memory.events")?, "oom_kill"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
