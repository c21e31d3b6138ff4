//! Files and directories that survive a crash: written beside their name, synced, renamed into place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Names the action and the path in an error.
pub(crate) fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
            StoreError::Full { path: path.to_owned(), source }
        }
        _ => StoreError::Io { action, path: path.to_owned(), source },
    }
}

/// A file held locked; letting it go unlocks it. A process that dies lets go of its locks.
#[derive(Debug)]
pub(crate) struct Locked(#[expect(dead_code, reason = "held for its lock")] File);

/// Locks the file at `path` for this holder alone; waits for others, threads of this process included.
pub(crate) fn lock(path: &Path) -> Result<Locked, StoreError> {
    let file = lock_file(path)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
        .map_err(|e| failed("lock", path)(e.into()))?;
    Ok(Locked(file))
}

/// As [`lock`], but `None` when another holds it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Locked>, StoreError> {
    let file = lock_file(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Locked(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(failed("lock", path)(e.into())),
    }
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    File::options().create(true).truncate(false).write(true).open(path).map_err(failed("open", path))
}

/// Makes the file at `path` hold `content`, wholly or not at all; on return it is on the disk.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let beside = beside(path);
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_directory(path.parent().unwrap_or(Path::new("/")))
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(&beside);
        failed("write", path)(e)
    })
}

/// A name in the same directory that nobody else uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", unique()));
    path.with_file_name(name)
}

/// A name that no other thread or process gives.
pub(crate) fn unique() -> String {
    format!("{:x}-{:012x}", std::process::id(), fastrand::u64(..1 << 48))
}

/// Brings the entries of a directory to the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Brings everything written to the file system of `directory` to the disk.
pub(crate) fn sync_file_system(directory: impl AsFd, path: &Path) -> Result<(), StoreError> {
    rustix::fs::syncfs(directory).map_err(|e| failed("sync", path)(e.into()))
}

/// Writes a record as JSON, see [`write`].
pub(crate) fn write_json(path: &Path, record: &impl Serialize) -> Result<(), StoreError> {
    write(path, &json(path, record)?)
}

/// A record's JSON.
pub(crate) fn json(path: &Path, record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(|e| failed("encode", path)(e.into()))
}

/// Reads a record; `None` if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(content) = present(fs::read(path), "read", path)? else { return Ok(None) };
    let corrupt = |e: serde_json::Error| StoreError::Corrupt { path: path.to_owned(), reason: e.to_string() };
    serde_json::from_slice(&content).map(Some).map_err(corrupt)
}

/// The names in a directory; none if it is absent.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    let Some(entries) = present(fs::read_dir(path), "list", path)? else { return Ok(Vec::new()) };
    entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .map_err(failed("list", path))
}

/// Removes a file or a tree; its absence is no error.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => linux::remove::tree(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    present(removed, "remove", path).map(|_| ())
}

/// Absence as `None`.
pub(crate) fn present<T>(
    result: io::Result<T>,
    action: &'static str,
    path: &Path,
) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(action, path)(e)),
    }
}

/// Makes a directory and what is missing above it.
pub(crate) fn make_directory(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(failed("make directory", path))
}
