//! The processes of a cgroup: list, kill, freeze, and wait for their end to remove it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::files;
use super::{Cgroup, CgroupError, Hierarchies};

/// How often a state of the kernel is looked at before giving up; the pauses sum up to about five seconds.
const LOOKS: u32 = 110;

impl Cgroup {
    /// The processes here and in all cgroups below; empty when it does not exist.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for directory in self.directories() {
            for cgroup in tree(&directory)? {
                let text = files::read_or_empty(&cgroup, "cgroup.procs")?;
                // 0 is a process of a PID namespace outside ours.
                pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
            }
        }
        Ok(pids.into_iter().collect())
    }

    /// Sends a signal to every process here and below that is there now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn signal(&self, signal: i32) -> Result<(), CgroupError> {
        for pid in self.pids()? {
            send(pid, signal).map_err(|source| {
                CgroupError::io(
                    format!("send signal {signal} to process {pid} of"),
                    Path::new(&self.path),
                    source,
                )
            })?;
        }
        Ok(())
    }

    /// Sends `SIGKILL` to every process here and below, also to those that are just being made. Does not wait for
    /// their end. One that does not exist is no error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Hierarchies::V2(mount) = &self.hierarchies {
            match files::write(&self.below(mount), "cgroup.kill", "1") {
                Err(error) if files::is(&error, Errno::NOENT) && self.exists() => {}
                Err(error) if files::is(&error, Errno::NOENT) || files::is(&error, Errno::NODEV) => {
                    return Ok(());
                }
                other => return other,
            }
        }
        // Without cgroup.kill (v1, kernels before 5.14): nothing forks while it is frozen.
        let freezer = self.directory("freezer").filter(|directory| directory.is_dir());
        if let Some(freezer) = &freezer {
            self.write_freezer(freezer, true)?;
        }
        let mut killed = BTreeSet::new();
        let result = loop {
            let fresh: Vec<u32> = self.pids()?.into_iter().filter(|pid| killed.insert(*pid)).collect();
            if fresh.is_empty() {
                break Ok(());
            }
            for pid in fresh {
                if let Err(source) = send(pid, Signal::KILL.as_raw()) {
                    return Err(CgroupError::io(
                        format!("kill process {pid} of"),
                        Path::new(&self.path),
                        source,
                    ));
                }
            }
        };
        if let Some(freezer) = &freezer {
            self.write_freezer(freezer, false)?;
        }
        result
    }

    /// Stops every process here and below, and returns when they stand (v1: the freezer hierarchy).
    ///
    /// # Errors
    /// No freezer on this machine, or what the kernel says.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let freezer = self.freezer()?;
        for look in 0..LOOKS {
            // On v1 a task that is just forked may escape a first attempt: ask again.
            if look % 10 == 0 {
                self.write_freezer(&freezer, true)?;
            }
            if self.frozen()? {
                return Ok(());
            }
            pause(look);
        }
        self.write_freezer(&freezer, false)?;
        Err(CgroupError::NotFrozen { path: self.path.clone() })
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Self::freeze`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.write_freezer(&self.freezer()?, false)
    }

    /// Whether they stand.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn frozen(&self) -> Result<bool, CgroupError> {
        let Some(freezer) = self.directory("freezer") else { return Ok(false) };
        Ok(match &self.hierarchies {
            Hierarchies::V1(_) => files::read_or_empty(&freezer, "freezer.state")?.trim() == "FROZEN",
            Hierarchies::V2(_) => {
                files::keyed(&files::read_or_empty(&freezer, "cgroup.events")?, "frozen") == 1
            }
        })
    }

    fn freezer(&self) -> Result<PathBuf, CgroupError> {
        self.directory("freezer").ok_or_else(|| {
            CgroupError::unsupported("freezer", "this machine mounts no v1 freezer hierarchy; mount one")
        })
    }

    fn write_freezer(&self, directory: &Path, freeze: bool) -> Result<(), CgroupError> {
        match &self.hierarchies {
            Hierarchies::V1(_) => {
                files::write(directory, "freezer.state", if freeze { "FROZEN" } else { "THAWED" })
            }
            Hierarchies::V2(_) => files::write(directory, "cgroup.freeze", if freeze { "1" } else { "0" }),
        }
    }

    /// Removes it and all cgroups below, which must hold no process but dying ones (these are waited for, a few
    /// seconds at most). One that does not exist is no error.
    ///
    /// # Errors
    /// It still holds processes, or what the kernel says.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for directory in self.directories() {
            for look in 0.. {
                match remove_tree(&directory) {
                    Ok(()) => break,
                    Err((_, source)) if source.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                        if look == LOOKS {
                            return Err(CgroupError::Busy { path: self.path.clone(), pids: self.pids()? });
                        }
                        pause(look);
                    }
                    Err((path, source)) => return Err(CgroupError::io("remove", &path, source)),
                }
            }
        }
        Ok(())
    }
}

/// A pause that grows from 1 to 50 milliseconds.
fn pause(look: u32) {
    std::thread::sleep(Duration::from_millis(u64::from(look + 1).min(50)));
}

/// Sends a signal; a process that has ended is no error.
fn send(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    match crate::process::send_signal(pid, signal) {
        Err(Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A cgroup directory and all below it, parents first; nothing when it does not exist.
pub(super) fn tree(directory: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(current) = found.get(next).cloned() {
        next += 1;
        let entries = match std::fs::read_dir(&current) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(CgroupError::io("list", &current, source)),
        };
        let below =
            entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(below.map(|entry| entry.path()));
    }
    Ok(found)
}

fn remove_tree(directory: &Path) -> Result<(), (PathBuf, io::Error)> {
    match std::fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Children make it busy too: they go first.
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
        Err(error) => return Err((directory.to_owned(), error)),
    }
    let below = tree(directory).map_err(|error| (directory.to_owned(), io::Error::other(error)))?;
    for cgroup in below.iter().rev() {
        match std::fs::remove_dir(cgroup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((cgroup.clone(), error)),
            _ => {}
        }
    }
    Ok(())
}
