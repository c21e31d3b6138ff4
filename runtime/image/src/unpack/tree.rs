//! The directory a layer is unpacked into: finding an entry's place without ever leaving it.
//!
//! The kernel keeps every look-up beneath the root (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`).
//! Symbolic links of the layer itself are followed here, one component at a time, as a process inside the container
//! would follow them: an absolute link begins at the layer's root. One that climbs above the root is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::entry::Entry;

const LINKS_MAX: u32 = 40;
const OPAQUE: &str = "trusted.overlay.opaque";

/// What a directory gets when its content is complete.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    pub(super) fn of(entry: &Entry) -> Attributes {
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Attributes { mode, uid, gid, mtime, xattrs: entry.xattrs.clone() }
    }
}

/// Real paths of what depends on the layers below.
#[derive(Debug)]
pub(crate) struct Loose {
    /// Directories that take their attributes from there.
    pub(super) implicit: Vec<Vec<u8>>,
    /// Whiteouts, some of which may hide nothing.
    pub(super) whiteouts: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// The last parent that was asked for, its real path, and the directory.
    last: Option<(Vec<u8>, Vec<u8>, OwnedFd)>,
    /// Directories of this layer, by real path.
    directories: BTreeMap<Vec<u8>, Attributes>,
    /// Directories that had to be made without an entry of their own, by real path.
    implicit: BTreeSet<Vec<u8>>,
    /// Whiteouts made, by real path; some may have been replaced since.
    whiteouts: Vec<Vec<u8>>,
}

/// An entry's place: its parent's real path, the parent, and its name there.
pub(super) struct Place<'a> {
    pub(super) parent: &'a OwnedFd,
    pub(super) name: &'a [u8],
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Tree {
        Tree {
            root,
            last: None,
            directories: BTreeMap::new(),
            implicit: BTreeSet::from([Vec::new()]),
            whiteouts: Vec::new(),
        }
    }

    /// Opens the parent directory of `path` (clean, not the root), made if it is missing and `make` is set, and makes
    /// it the one that [`Tree::place`] speaks of.
    pub(super) fn enter(&mut self, path: &[u8], make: bool, entry: &Entry) -> Result<(), UnpackError> {
        let parent = parent(path);
        if self.last.as_ref().is_some_and(|(asked, _, _)| asked == parent) {
            return Ok(());
        }
        let (real, directory) = match self.open(parent, OFlags::DIRECTORY) {
            Ok(directory) => (parent.to_vec(), directory),
            Err(_) => {
                let real = self.resolve(parent, make, entry)?;
                let directory = self.open(&real, OFlags::DIRECTORY).map_err(|e| entry.failed("open", e))?;
                (real, directory)
            }
        };
        self.last = Some((parent.to_vec(), real, directory));
        Ok(())
    }

    /// The directory that [`Tree::enter`] opened, and the last component of `path`.
    pub(super) fn place<'a>(&'a self, path: &'a [u8]) -> Place<'a> {
        let parent = self.last.as_ref().map_or(&self.root, |(_, _, directory)| directory);
        Place { parent, name: name(path) }
    }

    /// Where `path` really is, links in its parent resolved.
    pub(super) fn real(&self, path: &[u8]) -> Vec<u8> {
        join(self.last.as_ref().map_or(&[], |(_, real, _)| real), name(path))
    }

    /// Does `create` for an entry at `path`; what is there already makes room.
    pub(super) fn create<T>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        mut create: impl FnMut(&Place<'_>) -> rustix::io::Result<T>,
    ) -> Result<T, UnpackError> {
        match create(&self.place(path)) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| entry.failed("create", e)),
        }
        self.clear(path, entry)?;
        // Clearing may have dropped the open parent.
        self.enter(path, true, entry)?;
        create(&self.place(path)).map_err(|e| entry.failed("create", e))
    }

    /// Makes a directory, or takes the one that is there. Its attributes are set by [`Tree::finish`].
    pub(super) fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<bool, UnpackError> {
        let real = if path.is_empty() { Vec::new() } else { self.real(path) };
        let new = !path.is_empty() && self.make_directory(path, entry)?;
        self.implicit.remove(&real);
        self.directories.insert(real, Attributes::of(entry));
        Ok(new)
    }

    fn make_directory(&mut self, path: &[u8], entry: &Entry) -> Result<bool, UnpackError> {
        let make = |place: &Place<'_>| rustix::fs::mkdirat(place.parent, place.name, Mode::RWXU);
        let status = match make(&self.place(path)) {
            Err(Errno::EXIST) => self.status(path).map_err(|e| entry.failed("look at", e))?,
            other => return other.map(|()| true).map_err(|e| entry.failed("create", e)),
        };
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            return Ok(false);
        }
        self.create(path, entry, make)?;
        // Whiteout or file: it hid what is below, and a directory that takes its place begins empty.
        self.make_opaque(path, entry)?;
        Ok(true)
    }

    /// Hides what lower layers have at `path`.
    pub(super) fn whiteout(&mut self, path: &[u8], entry: &Entry) -> Result<bool, UnpackError> {
        let place = self.place(path);
        match rustix::fs::mknodat(place.parent, place.name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.whiteouts.push(self.real(path));
                Ok(true)
            }
            // What this layer has there itself hides it; but a directory would be merged.
            Err(Errno::EXIST) => {
                let status = self.status(path).map_err(|e| entry.failed("look at", e))?;
                if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                    self.make_opaque(path, entry)?;
                }
                Ok(false)
            }
            Err(e) => Err(entry.failed("create", e)),
        }
    }

    /// Hides what lower layers have in the directory `path`.
    pub(super) fn make_opaque(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let failed = |e| entry.failed("make opaque", e);
        let directory = self.open_place(path).map_err(failed)?;
        rustix::fs::fsetxattr(&directory, OPAQUE, b"y", XattrFlags::empty()).map_err(failed)
    }

    /// As [`Tree::make_opaque`], of the directory that was entered.
    pub(super) fn make_parent_opaque(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let directory = self.last.as_ref().map_or(&self.root, |(_, _, directory)| directory);
        rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
            .map_err(|e| entry.failed("make opaque", e))
    }

    fn open_place(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let place = self.place(path);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(place.parent, place.name, flags, Mode::empty())
    }

    fn status(&self, path: &[u8]) -> rustix::io::Result<rustix::fs::Stat> {
        let place = self.place(path);
        rustix::fs::statat(place.parent, place.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Removes what is at `path`, a whole tree if need be.
    fn clear(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let failed = |e| entry.failed("replace", e);
        let status = self.status(path).map_err(failed)?;
        let place = self.place(path);
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            rustix::fs::unlinkat(place.parent, place.name, AtFlags::empty()).map_err(failed)?;
            return Ok(());
        }
        let removed = fs::remove_dir_all(proc_path(place.parent, place.name));
        removed.map_err(|e| failed(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        let gone = self.real(path);
        let within = |other: &[u8]| other == gone || other.starts_with(&gone) && other[gone.len()] == b'/';
        self.directories.retain(|other, _| !within(other));
        self.implicit.retain(|other| !within(other));
        self.whiteouts.retain(|other| !within(other));
        self.last = None;
        Ok(())
    }

    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// The real path of a directory. What is missing is made, if `make` is set.
    fn resolve(&mut self, path: &[u8], make: bool, entry: &Entry) -> Result<Vec<u8>, UnpackError> {
        let components =
            |path: &[u8]| path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut todo = VecDeque::from(components(path));
        let (mut real, mut links) = (Vec::new(), 0);
        while let Some(component) = todo.pop_front() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." if real.is_empty() => return Err(UnpackError::Climbs { entry: entry.name() }),
                b".." => {
                    real = parent(&real).to_vec();
                    continue;
                }
                _ => {}
            }
            let next = join(&real, &component);
            let kind = match self.open(&next, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(object) => {
                    let status = rustix::fs::fstat(&object).map_err(|e| entry.failed("look at", e))?;
                    match FileType::from_raw_mode(status.st_mode) {
                        FileType::Symlink => {
                            links += 1;
                            let target = rustix::fs::readlinkat(&object, c"", Vec::new());
                            let target =
                                target.map_err(|e| entry.failed("read the link on the way to", e))?;
                            if links > LINKS_MAX {
                                return Err(UnpackError::Loop { entry: entry.name() });
                            }
                            if target.as_bytes().starts_with(b"/") {
                                real.clear();
                            }
                            components(target.as_bytes()).into_iter().rev().for_each(|c| todo.push_front(c));
                            continue;
                        }
                        _ if is_whiteout(&status) => None,
                        other => Some(other),
                    }
                }
                Err(Errno::NOENT) => None,
                Err(e) => return Err(entry.failed("find the directory of", e)),
            };
            match kind {
                Some(FileType::Directory) => {}
                None if make => self.make_missing(&next, entry)?,
                _ => {
                    let at = String::from_utf8_lossy(&next).into_owned();
                    return Err(UnpackError::Blocked { entry: entry.name(), at });
                }
            }
            real = next;
        }
        Ok(real)
    }

    /// Makes a directory that has no entry (yet). In the place of a whiteout it shows nothing of the lower layers.
    fn make_missing(&mut self, real: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let failed = |e| entry.failed("make the directory of", e);
        let parent = self.open(parent(real), OFlags::DIRECTORY).map_err(failed)?;
        let name = name(real);
        let hidden = rustix::fs::unlinkat(&parent, name, AtFlags::empty()).is_ok();
        rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(failed)?;
        if hidden {
            let directory = self.open(real, OFlags::DIRECTORY).map_err(failed)?;
            rustix::fs::fsetxattr(&directory, OPAQUE, b"y", XattrFlags::empty()).map_err(failed)?;
        }
        self.implicit.insert(real.to_vec());
        Ok(())
    }

    /// Sets the directories' attributes, now that nothing is written into them any more. Returns what depends on
    /// the layers below.
    pub(super) fn finish(self) -> Result<Loose, UnpackError> {
        let plain = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() };
        let implicit = self.implicit.iter().map(|path| (path, &plain));
        for (path, attributes) in self.directories.iter().chain(implicit) {
            let set = self
                .open(path, OFlags::DIRECTORY)
                .and_then(|directory| set_attributes(&directory, attributes));
            set.map_err(|e| {
                UnpackError::write("set the attributes of", String::from_utf8_lossy(path).into_owned(), e)
            })?;
        }
        Ok(Loose { implicit: self.implicit.into_iter().collect(), whiteouts: self.whiteouts })
    }
}

/// Owner first, since changing it clears set-id bits and capabilities; the time last.
pub(super) fn set_attributes(object: impl AsFd, attributes: &Attributes) -> rustix::io::Result<()> {
    let Attributes { mode, uid, gid, mtime, xattrs } = attributes;
    rustix::fs::fchown(
        &object,
        Some(rustix::fs::Uid::from_raw(*uid)),
        Some(rustix::fs::Gid::from_raw(*gid)),
    )?;
    for (name, value) in xattrs.iter().filter(|(name, _)| is_portable(name)) {
        rustix::fs::fsetxattr(&object, name.as_slice(), value, XattrFlags::empty())?;
    }
    rustix::fs::fchmod(&object, Mode::from_raw_mode(*mode))?;
    rustix::fs::futimens(&object, &times(*mtime))
}

pub(super) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Whether an attribute of an archive is to be set. `trusted.` ones steer overlayfs itself: a forged
/// `trusted.overlay.redirect` would show other files. Labels of security modules belong to the machine.
pub(super) fn is_portable(name: &[u8]) -> bool {
    let known = [b"user.".as_slice(), b"system.posix_acl_"].iter().any(|prefix| name.starts_with(prefix));
    name == b"security.capability" || known && !name.starts_with(b"user.overlay.")
}

pub(super) fn is_opaque(directory: impl AsFd) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(directory, OPAQUE, &mut value[..]) == Ok(1) && value == *b"y"
}

pub(super) fn is_whiteout(status: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
}

/// A path to an object of an open directory, for calls that take no directory.
pub(super) fn proc_path(directory: &OwnedFd, name: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let directory = std::path::PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    directory.join(std::ffi::OsStr::from_bytes(name))
}

pub(super) fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)]
}

/// The last component of a path.
pub(super) fn name(path: &[u8]) -> &[u8] {
    &path[path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)..]
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
