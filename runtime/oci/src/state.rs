//! What is known about a container between two calls: `<root>/<id>/`, which holds
//!
//! ```text
//! state.json    Record: written by rename, before the effect it speaks of
//! config.json   the configuration as it was at creation; later changes in the bundle have no effect
//! start.sock    where the first process listens until it is started
//! ```
//!
//! Who changes a container holds the lock of its directory. Reading needs none.
//! The record says how far the creation came; whether the process still lives, and whether it was started,
//! the kernel is asked each time.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use linux::cgroup::{Cgroup, Hierarchies};
use oci_spec::runtime::{ContainerState, Spec, State, StateBuilder};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::{During, ErrorKind, RuntimeError};
use crate::spec;

/// The form of [`Record`].
const VERSION: u32 = 1;
const STATE_FILE: &str = "state.json";
pub(crate) const START_SOCKET: &str = "start.sock";
/// The version of the runtime spec that this runtime follows.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// A container, as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    /// Below the mounts of the cgroup hierarchies.
    pub(crate) cgroup: String,
    /// The first process; absent until it was made.
    pub(crate) process: Option<ProcessId>,
    /// Creation is complete.
    pub(crate) created: bool,
    /// Seconds since the epoch.
    pub(crate) created_at: u64,
}

/// A process, for ever: ids come again, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
}

impl ProcessId {
    pub(crate) fn of(pid: u32) -> Result<Self, RuntimeError> {
        let stat = linux::stat::of(pid).during(|| format!("process {pid}"))?;
        Ok(Self { pid, start_time: stat.start_time })
    }

    /// Whether it has not ended. A zombie has.
    pub(crate) fn lives(self) -> bool {
        linux::stat::of(self.pid)
            .is_ok_and(|stat| stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X' | 'x'))
    }
}

/// A container's directory, locked.
#[derive(Debug)]
pub(crate) struct Locked {
    directory: PathBuf,
    _lock: File,
    pub(crate) record: Record,
}

fn check_id(id: &str) -> Result<(), RuntimeError> {
    let good = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
    if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(good) {
        let text = format!("container id {id:?}: use letters, digits and '_', '+', '-', '.'");
        return Err(RuntimeError::new(ErrorKind::InvalidSpec, text));
    }
    Ok(())
}

fn not_found(root: &Path, id: &str) -> RuntimeError {
    RuntimeError::new(ErrorKind::NotFound, format!("container {id} does not exist in {}", root.display()))
}

/// Takes an id: makes its directory with a first record and the configuration.
pub(crate) fn create(root: &Path, record: Record, spec: &Spec) -> Result<Locked, RuntimeError> {
    check_id(&record.id)?;
    std::fs::create_dir_all(root).during(|| format!("state directory {}", root.display()))?;
    let directory = root.join(&record.id);
    match std::fs::DirBuilder::new().create(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let text = format!("container {} exists already; delete it first", record.id);
            return Err(RuntimeError::new(ErrorKind::WrongState, text));
        }
        other => other.during(|| format!("state directory {}", directory.display()))?,
    }
    let made = || {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&directory, mode).during(|| format!("mode of {}", directory.display()))?;
        let lock = lock(&directory).during(|| format!("lock {}", directory.display()))?;
        let config = serde_json::to_vec(spec).during(|| "config.json as JSON")?;
        write(&directory, spec::CONFIG_FILE, &config)?;
        let locked = Locked { directory: directory.clone(), _lock: lock, record };
        locked.save()?;
        Ok(locked)
    };
    made().inspect_err(|_| drop(std::fs::remove_dir_all(&directory)))
}

fn lock(directory: &Path) -> std::io::Result<File> {
    let file = File::open(directory)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), RuntimeError> {
    let new = directory.join(format!(".{name}"));
    let done = File::create(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&new, directory.join(name)))
        .and_then(|()| File::open(directory)?.sync_all());
    done.during(|| format!("write {}", directory.join(name).display()))
}

/// Reads a container's record, without its lock.
pub(crate) fn read(root: &Path, id: &str) -> Result<Record, RuntimeError> {
    check_id(id)?;
    let file = root.join(id).join(STATE_FILE);
    let bytes = match std::fs::read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(not_found(root, id)),
        other => other.during(|| format!("read {}", file.display()))?,
    };
    let record: Record = serde_json::from_slice(&bytes).during(|| format!("read {}", file.display()))?;
    if record.version != VERSION {
        let text =
            format!("{}: version {} is not {VERSION}, of this cleat-oci", file.display(), record.version);
        return Err(RuntimeError::new(ErrorKind::WrongState, text));
    }
    Ok(record)
}

/// Opens a container to change it; waits for others who do.
pub(crate) fn open(root: &Path, id: &str) -> Result<Locked, RuntimeError> {
    check_id(id)?;
    let directory = root.join(id);
    let lock = match lock(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(not_found(root, id)),
        other => other.during(|| format!("lock {}", directory.display()))?,
    };
    let record = read(root, id)?;
    Ok(Locked { directory, _lock: lock, record })
}

/// The ids in a state directory.
pub(crate) fn ids(root: &Path) -> Result<Vec<String>, RuntimeError> {
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.during(|| format!("list {}", root.display()))?,
    };
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|id| root.join(id).join(STATE_FILE).exists())
        .collect();
    ids.sort();
    Ok(ids)
}

impl Record {
    pub(crate) fn new(id: &str, bundle: PathBuf, cgroup: String) -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        Self {
            version: VERSION,
            id: id.to_owned(),
            bundle,
            cgroup,
            process: None,
            created: false,
            created_at: u64::try_from(now).unwrap_or(0),
        }
    }

    pub(crate) fn cgroup(&self) -> Result<Cgroup, RuntimeError> {
        let hierarchies = Hierarchies::read().during(|| "cgroups")?;
        Cgroup::of_path(&hierarchies, &self.cgroup).during(|| format!("container {}", self.id))
    }

    /// Where the container is in its life, asked from the kernel.
    pub(crate) fn status(&self, root: &Path) -> ContainerState {
        match self.process {
            _ if !self.created && self.process.is_none_or(ProcessId::lives) => ContainerState::Creating,
            Some(process) if process.lives() => {
                // Whoever waits to be started listens. A connection without a word is a question, not a start.
                match linux::packet::connect(&root.join(&self.id), START_SOCKET) {
                    Ok(_) => ContainerState::Created,
                    Err(_) => ContainerState::Running,
                }
            }
            _ => ContainerState::Stopped,
        }
    }

    /// As the spec has it (runtime.md#state).
    pub(crate) fn state(&self, spec: &Spec, status: ContainerState) -> Result<State, RuntimeError> {
        let state = StateBuilder::default()
            .version(OCI_VERSION)
            .id(&self.id)
            .status(status)
            .bundle(&self.bundle)
            .annotations(spec.annotations().clone().unwrap_or_default());
        let alive = self.process.filter(|_| status != ContainerState::Stopped);
        let state = match alive.and_then(|process| i32::try_from(process.pid).ok()) {
            Some(pid) => state.pid(pid),
            None => state,
        };
        state.build().during(|| format!("state of container {}", self.id))
    }

    /// The error for a container in another state than `needed`.
    pub(crate) fn wrong_state(&self, status: ContainerState, needed: &str) -> RuntimeError {
        RuntimeError::new(ErrorKind::WrongState, format!("container {} is {status}, not {needed}", self.id))
    }
}

impl Locked {
    /// Writes the record.
    pub(crate) fn save(&self) -> Result<(), RuntimeError> {
        let bytes = serde_json::to_vec(&self.record).during(|| "state as JSON")?;
        write(&self.directory, STATE_FILE, &bytes)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The configuration at creation.
    pub(crate) fn spec(&self) -> Result<Spec, RuntimeError> {
        spec::read(&self.directory)
    }

    /// Gives the id back.
    pub(crate) fn remove(self) -> Result<(), RuntimeError> {
        // The record goes first: without it there is no container, whatever else is left of the directory.
        let _ = std::fs::remove_file(self.directory.join(STATE_FILE));
        std::fs::remove_dir_all(&self.directory).during(|| format!("remove {}", self.directory.display()))
    }
}
