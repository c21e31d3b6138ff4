//! How much of a disk a tree takes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{StoreError, disk};

/// Space on a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of allocated blocks.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl std::ops::Add for Usage {
    type Output = Usage;

    fn add(self, more: Usage) -> Usage {
        Usage { bytes: self.bytes + more.bytes, inodes: self.inodes + more.inodes }
    }
}

/// What the tree at `path` takes; nothing if it is absent. What vanishes meanwhile is not counted, a file with
/// several names in the tree is counted once per name.
pub fn disk_use(path: &Path) -> Result<Usage, StoreError> {
    let Some(metadata) = disk::present(fs::symlink_metadata(path), "measure", path)? else {
        return Ok(Usage::default());
    };
    let mut usage = Usage { bytes: metadata.blocks() * 512, inodes: 1 };
    if metadata.is_dir() {
        let Some(entries) = disk::present(fs::read_dir(path), "list", path)? else { return Ok(usage) };
        for entry in entries {
            usage = usage + disk_use(&entry.map_err(disk::failed("list", path))?.path())?;
        }
    }
    Ok(usage)
}
