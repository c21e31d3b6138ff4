//! What the agent must know of a pod after a restart, one file a pod: `<uid>.json` beside the pod's directory.
//!
//! A pod is recorded before anything is done for it, its end before its first container is stopped; so a pod whose
//! manifest vanished while nobody looked still gets its hooks and its grace period.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use agent_core::{Health, Hooks};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the form below.
pub(crate) const VERSION: u32 = 1;

/// A pod as it is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The pod's uid.
    pub(crate) uid: String,
    /// When the node learned of the pod.
    pub(crate) seen_at: Timestamp,
    /// Its end, if asked for: when, and the grace in seconds.
    pub(crate) end: Option<(Timestamp, i64)>,
    /// The pod with its last status.
    pub(crate) pod: Value,
    /// Probe results by container id.
    pub(crate) health: BTreeMap<String, Health>,
    /// Hook outcomes by container id.
    pub(crate) hooks: BTreeMap<String, Hooks>,
}

/// Why a checkpoint cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {}", path.display())]
pub(crate) struct CheckpointFailed {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The directory of the checkpoints.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    dir: PathBuf,
}

impl Checkpoints {
    /// Opens the directory, making it if need be.
    pub(crate) fn open(dir: &Path) -> Result<Self, CheckpointFailed> {
        let failed = |source| CheckpointFailed { path: dir.to_path_buf(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_path_buf() })
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.dir.join(format!("{uid}.json"))
    }

    /// All checkpoints, oldest pod first, and those that cannot be used.
    pub(crate) fn read(&self) -> Result<(Vec<Checkpoint>, Vec<CheckpointFailed>), CheckpointFailed> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| CheckpointFailed { path, source }
        };
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.dir).map_err(failed(&self.dir))? {
            let path = entry.map_err(failed(&self.dir))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("json") => {}
                // Half-written by one of us that was killed.
                Some("new") => {
                    fs::remove_file(&path).map_err(failed(&path))?;
                    continue;
                }
                _ => continue,
            }
            match fs::read(&path).and_then(|bytes| parse(&bytes)) {
                Ok(checkpoint) => good.push(checkpoint),
                Err(source) => bad.push(CheckpointFailed { path, source }),
            }
        }
        good.sort_by(|a, b| (a.seen_at, &a.uid).cmp(&(b.seen_at, &b.uid)));
        Ok((good, bad))
    }

    /// Writes a checkpoint; when this returns it survives a power cut.
    pub(crate) fn write(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointFailed> {
        let path = self.path(&checkpoint.uid);
        let failed = |source| CheckpointFailed { path: path.clone(), source };
        let bytes = serde_json::to_vec(checkpoint).map_err(io::Error::from).map_err(failed)?;
        let new = path.with_extension("json.new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(failed)
    }

    /// Removes a checkpoint; one that is not there is no error.
    pub(crate) fn remove(&self, uid: &str) -> Result<(), CheckpointFailed> {
        let path = self.path(uid);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| CheckpointFailed { path, source }),
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Checkpoint> {
    let checkpoint: Checkpoint = serde_json::from_slice(bytes)?;
    if checkpoint.version == VERSION {
        return Ok(checkpoint);
    }
    let text = format!("its version is {}, this agent reads {VERSION}", checkpoint.version);
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survive_and_vanish() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let checkpoint = |uid: &str, second| Checkpoint {
            version: VERSION,
            uid: uid.into(),
            seen_at: Timestamp::from_second(second).unwrap(),
            end: Some((Timestamp::UNIX_EPOCH, 30)),
            pod: serde_json::json!({"metadata": {"name": uid}}),
            health: BTreeMap::new(),
            hooks: BTreeMap::from([("c".to_owned(), Hooks::default())]),
        };
        checkpoints.write(&checkpoint("b", 1)).unwrap();
        checkpoints.write(&checkpoint("a", 2)).unwrap();
        fs::write(dir.path().join("x.json"), "{").unwrap();
        fs::write(dir.path().join("y.json.new"), "{").unwrap();
        let (good, bad) = checkpoints.read().unwrap();
        assert_eq!(good, [checkpoint("b", 1), checkpoint("a", 2)]);
        assert_eq!(bad.len(), 1);
        assert!(!dir.path().join("y.json.new").exists());
        checkpoints.remove("a").unwrap();
        checkpoints.remove("a").unwrap();
        assert_eq!(checkpoints.read().unwrap().0.len(), 1);
    }

    #[test]
    fn another_version_is_refused() {
        let error = parse(br#"{"version":9,"uid":"u","seen_at":"2026-01-01T00:00:00Z","end":null,"pod":{},"health":{},"hooks":{}}"#);
        assert!(error.unwrap_err().to_string().contains("version is 9"));
    }
}
