//! What of a layer depends on those below it: directories without an entry, and whiteouts that hide nothing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::tree::{Attributes, is_opaque, is_portable, is_whiteout, name, parent, set_attributes};
use super::{UnpackError, Verified};

/// Fits a layer to those below (the topmost first), all of them visible.
///
/// A directory that it has without an entry gets the attributes it has below, since the mount shows the uppermost
/// directory's: without this `/tmp` would lose its sticky bit to a layer that has only `tmp/x`. A whiteout in a
/// directory that has nothing below is removed: overlayfs would list it there as a file that cannot be looked up.
pub(crate) fn inherit(layer: &Path, below: &[PathBuf], unpacked: &Verified) -> Result<(), UnpackError> {
    let named = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let opened = |e: io::Error| UnpackError::write("open the layers of", String::new(), errno(&e));
    let own = File::open(layer).map_err(opened)?;
    let below = below.iter().map(File::open).collect::<Result<Vec<_>, _>>().map_err(opened)?;
    for path in &unpacked.loose.implicit {
        let Some(lower) = directory_below(&own, &below, path) else { continue };
        let inherited = attributes(&lower)
            .and_then(|attributes| set_attributes(&open(&own, path, OFlags::DIRECTORY)?, &attributes));
        inherited.map_err(|e| UnpackError::write("inherit the attributes of", named(path), e))?;
    }
    for path in &unpacked.loose.whiteouts {
        let parent = parent(path);
        if directory_below(&own, &below, parent).is_none() {
            let removed =
                open(&own, parent, OFlags::DIRECTORY).and_then(|parent| remove_whiteout(&parent, name(path)));
            removed.map_err(|e| UnpackError::write("remove the whiteout of", named(path), e))?;
        }
    }
    Ok(())
}

/// The directory that the mount merges with this layer's at `path`, of the topmost layer that has one.
fn directory_below(own: &File, below: &[File], path: &[u8]) -> Option<File> {
    let ends =
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
    let ends: Vec<usize> = ends.collect();
    let is_hidden =
        |root: &File, end: &usize| open(root, &path[..*end], OFlags::DIRECTORY).is_ok_and(|d| is_opaque(&d));
    if ends.iter().any(|end| is_hidden(own, end)) {
        return None;
    }
    'layers: for root in below {
        for end in &ends {
            match open(root, &path[..*end], OFlags::DIRECTORY) {
                Ok(directory) if *end == path.len() => return Some(directory),
                Ok(_) => {}
                // It says nothing about the path, unless it hides what is below.
                Err(Errno::NOENT) if ends.iter().take_while(|e| *e < end).any(|e| is_hidden(root, e)) => {
                    return None;
                }
                Err(Errno::NOENT) => continue 'layers,
                // Something else is there: a whiteout, or what is no directory.
                Err(_) => return None,
            }
        }
    }
    None
}

fn open(root: &File, path: &[u8], flags: OFlags) -> rustix::io::Result<File> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).map(File::from)
}

/// The name may be another object's by now.
fn remove_whiteout(parent: &File, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) if is_whiteout(&status) => rustix::fs::unlinkat(parent, name, AtFlags::empty()),
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(e) => Err(e),
    }
}

fn attributes(directory: &File) -> rustix::io::Result<Attributes> {
    let metadata: fs::Metadata = directory.metadata().map_err(|e| errno(&e))?;
    let mtime = (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0));
    let mode = metadata.mode() & 0o7777;
    Ok(Attributes { mode, uid: metadata.uid(), gid: metadata.gid(), mtime, xattrs: xattrs(directory)? })
}

fn xattrs(directory: &File) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(directory, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(e) => return Err(e),
    };
    let names = names[..length].split(|&byte| byte == 0).filter(|name| is_portable(name));
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::fgetxattr(directory, name, &mut value[..])?;
            value.truncate(length);
            Ok((name.to_vec(), value))
        })
        .collect()
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
