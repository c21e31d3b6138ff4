//! Where the cgroup hierarchies of this machine are mounted.

use std::path::PathBuf;

use super::CgroupError;

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

impl Hierarchy {
    /// Whether a controller is here.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }
}

const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

impl Hierarchies {
    /// Reads them from this process's mount table.
    ///
    /// # Errors
    /// When there is no cgroup mount.
    pub fn read() -> Result<Self, CgroupError> {
        let file = PathBuf::from("/proc/self/mountinfo");
        let text = std::fs::read_to_string(&file).map_err(|source| CgroupError::io("read", &file, source))?;
        Self::parse(&text).ok_or(CgroupError::NotMounted)
    }

    /// Whether the controllers are on version 2.
    pub fn unified(&self) -> bool {
        matches!(self, Self::V2(_))
    }

    /// From the text of `/proc/<pid>/mountinfo`. A machine with any v1 controller is v1: its v2 mount has none of
    /// the controllers that limits need. Only mounts below `/sys/fs/cgroup` count, and of several mounts of one
    /// hierarchy the first: others are some container's view.
    pub(super) fn parse(mountinfo: &str) -> Option<Self> {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut v2 = None;
        for line in mountinfo.lines() {
            let Some((place, source)) = line.split_once(" - ") else { continue };
            let Some(mount) = place.split(' ').nth(4).filter(|mount| mount.starts_with("/sys/fs/cgroup"))
            else {
                continue;
            };
            let mut source = source.split(' ');
            match source.next() {
                Some("cgroup2") => drop(v2.get_or_insert_with(|| PathBuf::from(mount))),
                Some("cgroup") => {
                    let options = source.nth(1).unwrap_or_default().split(',');
                    let controllers: Vec<String> = options
                        .filter(|option| CONTROLLERS.contains(option) || option.starts_with("name="))
                        .map(str::to_owned)
                        .collect();
                    if !controllers.is_empty() && !v1.iter().any(|known| known.controllers == controllers) {
                        v1.push(Hierarchy { controllers, mount: PathBuf::from(mount) });
                    }
                }
                _ => {}
            }
        }
        let controls = v1.iter().any(|one| one.controllers.iter().any(|name| !name.starts_with("name=")));
        match v2 {
            Some(mount) if !controls => Some(Self::V2(mount)),
            _ if v1.is_empty() => None,
            _ => Some(Self::V1(v1)),
        }
    }
}
