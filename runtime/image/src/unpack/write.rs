//! Writing one entry into the tree.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::UnpackError;
use super::entry::{Entries, Entry};
use super::tree::{Attributes, Place, Tree, is_portable, name, proc_path, set_attributes, times};
use crate::store::Usage;

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// Data is copied in pieces of this size; pieces of zeros become holes.
const COPY_BYTES: usize = 128 << 10;
const PAGE: usize = 4096;

/// Writes entries of a stream into a tree.
pub(super) struct Writer {
    pub(super) tree: Tree,
    pub(super) usage: Usage,
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn new(root: OwnedFd) -> Writer {
        Writer { tree: Tree::new(root), usage: Usage { bytes: 0, inodes: 1 }, buffer: vec![0; COPY_BYTES] }
    }

    /// Writes the entry that `entries` stands at (image-spec: layer.md#applying-changesets).
    pub(super) fn write<R: std::io::Read>(
        &mut self,
        entry: &Entry,
        entries: &mut Entries<R>,
    ) -> Result<(), UnpackError> {
        let path = clean(&entry.path).ok_or_else(|| UnpackError::Climbs { entry: entry.name() })?;
        if path.is_empty() {
            return match entry.kind {
                EntryType::Directory => self.tree.directory(&path, entry).map(|_| ()),
                _ => Err(malformed(entry, "the root of a layer is a directory".to_owned())),
            };
        }
        self.tree.enter(&path, true, entry)?;
        let name = name(&path);
        if name == WHITEOUT_OPAQUE {
            return self.tree.make_parent_opaque(entry);
        }
        if name.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(UnpackError::Climbs { entry: entry.name() });
            }
            let hidden = [&path[..path.len() - name.len()], hidden].concat();
            let new = self.tree.whiteout(&hidden, entry)?;
            self.usage.inodes += u64::from(new);
            return Ok(());
        }
        self.object(&path, entry, entries)
    }

    fn object<R: std::io::Read>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        entries: &mut Entries<R>,
    ) -> Result<(), UnpackError> {
        let node = |kind: FileType| move |place: &Place<'_>| make_node(place, kind, entry);
        match entry.kind {
            EntryType::Regular => self.file(path, entry, entries)?,
            EntryType::Directory => {
                self.usage.inodes += u64::from(self.tree.directory(path, entry)?);
                return Ok(());
            }
            EntryType::Link => return self.hard_link(path, entry),
            EntryType::Symlink => {
                self.tree.create(path, entry, |place| {
                    rustix::fs::symlinkat(entry.link.as_slice(), place.parent, place.name)?;
                    set_by_name(place, entry)
                })?;
            }
            EntryType::Fifo => self.tree.create(path, entry, node(FileType::Fifo))?,
            EntryType::Char => self.tree.create(path, entry, node(FileType::CharacterDevice))?,
            EntryType::Block => self.tree.create(path, entry, node(FileType::BlockDevice))?,
            other => {
                let kind = char::from(other.as_byte());
                return Err(malformed(entry, format!("type {kind:?} is none that a layer may have")));
            }
        }
        self.usage.inodes += 1;
        Ok(())
    }

    fn file<R: std::io::Read>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        entries: &mut Entries<R>,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let open = |place: &Place<'_>| rustix::fs::openat(place.parent, place.name, flags, mode);
        let file = self.tree.create(path, entry, open)?;
        let whole = [(0, entry.size)];
        let mut written = 0;
        for &(offset, length) in entry.data.as_deref().unwrap_or(&whole) {
            let (mut at, mut left) = (offset, length);
            while left > 0 {
                let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let filled = fill(entries, &mut self.buffer[..wanted])?;
                let piece = &self.buffer[..filled];
                if !is_hole(piece) {
                    write_all(&file, piece, at).map_err(|e| entry.failed("write", e))?;
                    written = at + filled as u64;
                    self.usage.bytes += piece.len().next_multiple_of(PAGE) as u64;
                }
                at += filled as u64;
                left -= filled as u64;
            }
        }
        if written < entry.size {
            rustix::fs::ftruncate(&file, entry.size).map_err(|e| entry.failed("write", e))?;
        }
        set_attributes(&file, &Attributes::of(entry)).map_err(|e| entry.failed("set the attributes of", e))
    }

    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let target = clean(&entry.link).ok_or_else(|| UnpackError::Climbs { entry: entry.name() })?;
        let missing = || {
            malformed(entry, format!("hard link to {:?}: no such file", String::from_utf8_lossy(&entry.link)))
        };
        if target == path {
            return Ok(());
        }
        if target.is_empty() {
            return Err(missing());
        }
        self.tree.enter(&target, false, entry).map_err(|e| match e {
            UnpackError::Blocked { .. } => missing(),
            other => other,
        })?;
        let (parent, target_name) = (self.tree.place(&target).parent, name(&target));
        let parent = rustix::io::fcntl_dupfd_cloexec(parent, 0).map_err(|e| entry.failed("link", e))?;
        let real = self.tree.real(&target);
        self.tree.enter(path, true, entry)?;
        if self.tree.real(path) == real {
            return Ok(());
        }
        let link = |to: &Place<'_>| match rustix::fs::linkat(
            &parent,
            target_name,
            to.parent,
            to.name,
            AtFlags::empty(),
        ) {
            Err(Errno::NOENT) => Ok(false),
            other => other.map(|()| true),
        };
        if self.tree.create(path, entry, link)? { Ok(()) } else { Err(missing()) }
    }
}

fn make_node(place: &Place<'_>, kind: FileType, entry: &Entry) -> rustix::io::Result<()> {
    let device = match kind {
        FileType::Fifo => 0,
        _ => rustix::fs::makedev(entry.device.0, entry.device.1),
    };
    rustix::fs::mknodat(place.parent, place.name, kind, Mode::RUSR | Mode::WUSR, device)?;
    set_by_name(place, entry)
}

/// Sets the attributes of what cannot be opened: links and devices. It was made a moment ago in a directory that
/// nobody else writes to, so the name is it.
fn set_by_name(place: &Place<'_>, entry: &Entry) -> rustix::io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(entry.uid), rustix::fs::Gid::from_raw(entry.gid));
    rustix::fs::chownat(place.parent, place.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_portable(name)) {
        rustix::fs::lsetxattr(
            proc_path(place.parent, place.name),
            name.as_slice(),
            value,
            XattrFlags::empty(),
        )?;
    }
    if entry.kind != EntryType::Symlink {
        rustix::fs::chmodat(place.parent, place.name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(place.parent, place.name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// Fills the buffer from the entry's data.
fn fill<R: std::io::Read>(entries: &mut Entries<R>, buffer: &mut [u8]) -> Result<usize, UnpackError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match entries.read_data(&mut buffer[filled..])? {
            0 => return Err(UnpackError::Read(std::io::ErrorKind::UnexpectedEof.into())),
            n => filled += n,
        }
    }
    Ok(filled)
}

fn write_all(file: &OwnedFd, mut piece: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !piece.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, piece, offset))?;
        piece = &piece[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Whether a piece is worth a hole: at least a page, and all zeros.
fn is_hole(piece: &[u8]) -> bool {
    piece.len() >= PAGE && piece.iter().all(|&byte| byte == 0)
}

/// The path without `.`, `..` and doubled slashes, relative to the root; `None` if it climbs above it.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()?),
            name => components.push(name),
        }
    }
    Some(components.join(&b'/'))
}

fn malformed(entry: &Entry, reason: String) -> UnpackError {
    UnpackError::Malformed { entry: entry.name(), reason }
}
