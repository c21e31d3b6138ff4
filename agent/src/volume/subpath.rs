//! subPaths, resolved by the kernel without leaving the volume, and held by a bind mount: what a container does to the
//! volume afterwards cannot redirect them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::UnmountFlags;

use super::{VolumeFailed, failed, is_mount_point};

/// The largest file of variables, in bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Binds `path` below `root` to `at`. Directories that are not there are made. What was bound there before and is no
/// longer what the path leads to gives way.
pub(super) fn bind(volume: &str, root: &Path, path: &str, at: &Path) -> Result<PathBuf, VolumeFailed> {
    let refused = |source| VolumeFailed::SubPath { volume: volume.to_owned(), path: path.to_owned(), source };
    let target = open(root, Path::new(path)).map_err(refused)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", target.as_raw_fd()));
    let meta = fs::metadata(&source).map_err(failed("look at", &source))?;
    if at.symlink_metadata().is_ok() && (is_mount_point(at)? || mounted(at)?) {
        let bound = fs::metadata(at).map_err(failed("look at", at))?;
        if (bound.dev(), bound.ino()) == (meta.dev(), meta.ino()) {
            return Ok(at.to_path_buf());
        }
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(at, flags).map_err(|e| failed("unmount", at)(e.into()))?;
    }
    let parent = at.parent().unwrap_or(at);
    fs::create_dir_all(parent).map_err(failed("make directory", parent))?;
    match (meta.is_dir(), at.is_dir()) {
        (true, false) if at.exists() => fs::remove_file(at).map_err(failed("remove", at))?,
        (false, true) => fs::remove_dir(at).map_err(failed("remove", at))?,
        _ => {}
    }
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

/// Reads a file as text; links in its path are followed as long as they stay in the volume.
pub(super) fn read(root: &Path, path: &Path) -> io::Result<String> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut text = String::new();
    file.take(TEXT_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Opens a path; links in it are followed as long as they stay in the volume.
fn open(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has '..' or begins with '/'"));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let inside = |path: &Path| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve)
    };
    let mut parts = path.components().collect::<Vec<_>>();
    let mut missing = Vec::new();
    let mut current = loop {
        let there: PathBuf = parts.iter().collect();
        match inside(if parts.is_empty() { Path::new(".") } else { &there }) {
            Err(rustix::io::Errno::NOENT) => missing.extend(parts.pop()),
            result => break result?,
        }
    };
    let mode = Mode::from_bits_truncate(rustix::fs::fstat(&root)?.st_mode & 0o7777);
    while let Some(name) = missing.pop() {
        let name = name.as_os_str();
        rustix::fs::mkdirat(current.as_fd(), name, Mode::from_bits_truncate(0o750))?;
        rustix::fs::chmodat(current.as_fd(), name, mode, rustix::fs::AtFlags::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        current = rustix::fs::openat2(current.as_fd(), name, flags, Mode::empty(), resolve)?;
    }
    Ok(current)
}
