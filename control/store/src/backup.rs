//! A store in one file: written while it works, checked, and made a store again.

use std::{fs, io, path::Path, sync::Arc};

use crate::{
    Entry, State,
    log::{
        Damage, Header,
        disk::{Disk, Folder, LOCK},
        random, snapshot,
    },
};

/// How far a restored store's revision lies above the backup's. What was written between the backup and the loss is
/// gone, but clients have seen those revisions: none of them is used again, and a watch from there is told 410.
pub const JUMP: i64 = 1_000_000_000;

/// Writes a backup. The name must be free, so that no earlier backup is lost to a failed one.
pub(crate) fn write<I>(
    path: &Path,
    revision: i64,
    time: u64,
    entries: &[Arc<Entry<I>>],
) -> Result<(), Damage> {
    let failed = |source| Damage::Io { path: path.to_owned(), source };
    if fs::exists(path).map_err(failed)? {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let (folder, name) = split(path).map_err(failed)?;
    let header = Header { store: random().map_err(failed)?, after: revision, time };
    snapshot::write(&folder, name, header, entries).map_err(failed)?;
    Ok(())
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The revision at which it was taken.
    pub revision: i64,
    /// When it was taken, in milliseconds since 1970.
    pub time: u64,
    /// Number of keys.
    pub keys: usize,
    /// Bytes of all keys and values.
    pub bytes: usize,
}

/// Reads a backup to its end and checks it.
///
/// # Errors
/// The file cannot be read or is damaged.
pub fn verify(path: &Path) -> Result<Backup, Damage> {
    read(path).map(|(header, state)| describe(&header, &state))
}

/// Makes a store of a backup, in a directory that must be empty or missing. Its revision lies [`JUMP`] above the
/// backup's.
///
/// # Errors
/// The backup is damaged, the directory holds something, or cannot be written to.
pub fn restore(path: &Path, directory: &Path) -> Result<Backup, Damage> {
    let (header, state) = read(path)?;
    let failed = |source| Damage::Io { path: directory.to_owned(), source };
    let empty = || Folder::unlocked(directory).names().map(|names| names.iter().all(|name| name == LOCK));
    if directory.exists() && !empty().map_err(failed)? {
        return Err(failed(io::ErrorKind::DirectoryNotEmpty.into()));
    }
    let folder = Folder::open(directory).map_err(failed)?;
    let restored = Header { store: random().map_err(failed)?, after: header.after + JUMP, time: header.time };
    snapshot::write(&folder, &crate::log::snapshot_name(restored.after), restored, &state.all())
        .map_err(failed)?;
    Ok(describe(&header, &state))
}

fn describe(header: &Header, state: &State) -> Backup {
    Backup { revision: header.after, time: header.time, keys: state.keys(), bytes: state.live() }
}

fn read(path: &Path) -> Result<(Header, State), Damage> {
    let (folder, name) = split(path).map_err(|source| Damage::Io { path: path.to_owned(), source })?;
    snapshot::read(&folder, name)
}

/// The directory of a file, and its name there.
fn split(path: &Path) -> io::Result<(impl Disk, &str)> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((Folder::unlocked(parent.unwrap_or(Path::new("."))), name))
}
