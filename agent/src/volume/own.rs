//! Giving a volume to the pod's group.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use super::{VolumeFailed, failed};

/// What the group may do with files that only the node writes.
const READ: u32 = 0o440;
/// What it needs of directories beside that; new files are the group's, too.
const DIRECTORY: u32 = 0o2110;

/// Lets a group read what is below a path, and itself.
pub(super) fn give(path: &Path, group: u32) -> Result<(), VolumeFailed> {
    let meta = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    lchown(path, None, Some(group)).map_err(failed("set group of", path))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let more = if meta.is_dir() { READ | DIRECTORY } else { READ };
    let permissions = Permissions::from_mode(meta.mode() & 0o7777 | more);
    fs::set_permissions(path, permissions).map_err(failed("set mode of", path))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(failed("read", path))? {
            give(&entry.map_err(failed("read", path))?.path(), group)?;
        }
    }
    Ok(())
}
