//! Sizes on disk: of file systems by asking, of directories by walking, the latter not too often.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto_cri as cri;

use super::{Pod, figure};
use crate::config::Config;

/// How long a walked size counts.
const AGE: Duration = Duration::from_secs(60);
/// What `st_blocks` counts in, in bytes.
const BLOCK: u64 = 512;

/// A file system, or a part of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) available: u64,
    pub(crate) capacity: u64,
    pub(crate) used: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
    pub(crate) inodes_used: u64,
}

impl Disk {
    /// The file system below a path.
    pub(crate) fn of_file_system(path: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some(Self {
            available: bytes(disk.f_bavail),
            capacity: bytes(disk.f_blocks),
            used: bytes(disk.f_blocks.saturating_sub(disk.f_bfree)),
            inodes: disk.f_files,
            inodes_free: disk.f_ffree,
            inodes_used: disk.f_files.saturating_sub(disk.f_ffree),
        })
    }

    /// What the runtime uses of a file system.
    pub(crate) fn of_usage(usage: &cri::FilesystemUsage) -> Option<Self> {
        let whole = Self::of_file_system(Path::new(&usage.fs_id.as_ref()?.mountpoint))?;
        Some(
            whole.with(
                figure(usage.used_bytes.as_ref())?,
                figure(usage.inodes_used.as_ref()).unwrap_or_default(),
            ),
        )
    }

    /// The same file system, of which so much is meant.
    pub(crate) fn with(self, used: u64, inodes_used: u64) -> Self {
        Self { used, inodes_used, ..self }
    }
}

/// Bytes and inodes.
type Size = (u64, u64);

/// Walked sizes, young enough, by path.
#[derive(Default)]
pub(crate) struct Sizes(Mutex<HashMap<PathBuf, (Instant, Size)>>);

impl Sizes {
    fn of(&self, path: &Path) -> Size {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, size)) = kept().get(path)
            && at.elapsed() < AGE
        {
            return *size;
        }
        let size = walk(path);
        kept().insert(path.to_owned(), (Instant::now(), size));
        size
    }

    /// Forgets what will be measured anew anyway, such as the volumes of pods that are gone.
    pub(crate) fn forget_old(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (at, _)| at.elapsed() < AGE);
    }
}

/// Bytes on the disk and inodes below a path. A file of several names counts once a name; links are not followed.
fn walk(path: &Path) -> Size {
    let Ok(metadata) = fs::symlink_metadata(path) else { return (0, 0) };
    let (mut bytes, mut inodes) = (metadata.blocks() * BLOCK, 1);
    let mut left = if metadata.is_dir() { vec![path.to_owned()] } else { Vec::new() };
    while let Some(directory) = left.pop() {
        // What is removed meanwhile has no size.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * BLOCK;
            inodes += 1;
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

/// Measures a pod's volumes and logs.
pub(super) fn measure(config: &Config, pod: &mut Pod, sizes: &Sizes) {
    let volumes = config.pods_dir().join(&pod.uid).join("volumes");
    let kinds = fs::read_dir(volumes).into_iter().flatten().flatten().map(|kind| kind.path());
    let dirs = kinds.flat_map(|kind| fs::read_dir(kind).into_iter().flatten().flatten());
    pod.volumes = dirs
        .filter_map(|dir| {
            let path = dir.path();
            let disk = Disk::of_file_system(&path)?;
            let (used, inodes) = sizes.of(&path);
            Some((dir.file_name().to_string_lossy().into_owned(), disk.with(used, inodes)))
        })
        .collect();
    pod.volumes.sort_by(|a, b| a.0.cmp(&b.0));
    let logs = config.log_dir.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid));
    for container in &mut pod.containers {
        let path = logs.join(&container.name);
        let (used, inodes) = sizes.of(&path);
        container.logs = Disk::of_file_system(&path).map(|disk| disk.with(used, inodes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_as_large_as_its_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let (bytes, inodes) = walk(dir.path());
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        assert_eq!(inodes, 4);
        let sizes = Sizes::default();
        assert_eq!(sizes.of(dir.path()), (bytes, inodes));
        fs::write(dir.path().join("c"), "more").unwrap();
        assert_eq!(sizes.of(dir.path()), (bytes, inodes), "it counts for a while");
        let disk = Disk::of_file_system(dir.path()).unwrap();
        assert!(disk.capacity > 0 && disk.used <= disk.capacity);
        assert_eq!(walk(&dir.path().join("none")), (0, 0));
    }
}
