//! Paths inside a container's root file system. The image decides what lies there, so no path is given to the kernel
//! but with the root as its limit, and what is found is used by descriptor.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The directory that is a container's `/`.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

const LINKS_MAX: u32 = 40;

impl Root {
    pub(super) fn open(path: impl rustix::path::Arg) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens what is there; symbolic links stay inside the root.
    pub(super) fn find(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.resolve(path, flags, ResolveFlags::empty())
    }

    /// As [`Self::find`], with `ELOOP` for a path that holds a symbolic link.
    pub(super) fn find_without_links(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.resolve(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut attempts = 0;
        loop {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // Something on the way was renamed meanwhile.
                Err(Errno::AGAIN) if attempts < 128 => attempts += 1,
                other => return other,
            }
        }
    }

    /// A directory to mount on, made with its parents where missing.
    pub(super) fn directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        match self.find(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => self.make(path, Kind::Directory),
            other => other,
        }
    }

    /// A file to mount on, made with its parents where missing.
    pub(super) fn file(&self, path: &Path) -> Result<OwnedFd, Errno> {
        match self.find(path, OFlags::PATH) {
            Err(Errno::NOENT) => self.make(path, Kind::File),
            other => other,
        }
    }

    /// The directory that holds a path, made where missing, and the last part of the path.
    pub(super) fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
        Ok((self.directory(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    /// Walks a path and makes what is missing, also what a dangling symbolic link points to. Each part is opened without
    /// following, so nothing that changes meanwhile leads out.
    fn make(&self, path: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut todo: VecDeque<PathBuf> = parts(path).collect();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == Path::new("..") {
                above.pop();
                continue;
            }
            let here = above.last().map_or(self.0.as_fd(), AsFd::as_fd);
            let missing = if todo.is_empty() { kind } else { Kind::Directory };
            let next = step(here, part.as_os_str(), missing)?;
            match FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) {
                FileType::Directory => above.push(next),
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes();
                    let target = PathBuf::from(OsString::from_vec(target));
                    if target.is_absolute() {
                        above.clear();
                    }
                    for part in parts(&target).rev() {
                        todo.push_front(part);
                    }
                }
                _ if todo.is_empty() && kind == Kind::File => return Ok(next),
                _ => return Err(Errno::NOTDIR),
            }
        }
        match above.pop() {
            Some(directory) => Ok(directory),
            None => Ok(rustix::io::fcntl_dupfd_cloexec(&self.0, 3)?),
        }
    }
}

/// What to make where there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = PathBuf> {
    let all: Vec<PathBuf> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    all.into_iter()
}

/// Opens one part of a path, made if there is nothing.
fn step(directory: BorrowedFd<'_>, name: &OsStr, missing: Kind) -> Result<OwnedFd, Errno> {
    let open = || {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(directory, name, flags, Mode::empty())
    };
    let make = || match missing {
        Kind::Directory => rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match open() {
        Err(Errno::NOENT) => match make() {
            Ok(()) | Err(Errno::EXIST) => open(),
            Err(error) => Err(error),
        },
        other => other,
    }
}
