//! subPaths, resolved by the kernel without leaving the volume, and held by a bind mount: what a container does to the
//! volume afterwards cannot redirect them.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{VolumeFailed, failed, is_mount_point};

/// Binds `path` below `root` to `at`. Directories that are not there are made.
pub(super) fn bind(volume: &str, root: &Path, path: &str, at: &Path) -> Result<PathBuf, VolumeFailed> {
    let refused = |source| VolumeFailed::SubPath { volume: volume.to_owned(), path: path.to_owned(), source };
    let target = open(root, Path::new(path)).map_err(refused)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", target.as_raw_fd()));
    let meta = fs::metadata(&source).map_err(failed("look at", &source))?;
    if at.symlink_metadata().is_ok() && (is_mount_point(at)? || mounted(at)?) {
        return Ok(at.to_path_buf());
    }
    let parent = at.parent().unwrap_or(at);
    fs::create_dir_all(parent).map_err(failed("make directory", parent))?;
    match meta.is_dir() {
        true => fs::create_dir_all(at).map_err(failed("make directory", at))?,
        false => drop(File::create(at).map_err(failed("make file", at))?),
    }
    rustix::mount::mount_bind(&source, at).map_err(|e| failed("bind", at)(e.into()))?;
    Ok(at.to_path_buf())
}

/// A bind mount within one file system is seen only in the mount table.
fn mounted(at: &Path) -> Result<bool, VolumeFailed> {
    let points = super::mounts_below(at)?;
    let at = fs::canonicalize(at).map_err(failed("resolve", at))?;
    Ok(points.contains(&at))
}

fn open(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let mut current = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has '..' or begins with '/'"));
        };
        let last = parts.peek().is_none();
        let opened = rustix::fs::openat2(current.as_fd(), name, flags, Mode::empty(), resolve);
        current = match opened {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(current.as_fd(), name, Mode::from_bits_truncate(0o750))?;
                if last {
                    rustix::fs::chmodat(
                        current.as_fd(),
                        name,
                        Mode::from_bits_truncate(0o777),
                        rustix::fs::AtFlags::empty(),
                    )?;
                }
                rustix::fs::openat2(current.as_fd(), name, flags, Mode::empty(), resolve)?
            }
            result => result?,
        };
    }
    Ok(current)
}
