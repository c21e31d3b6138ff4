//! Attributes of directories that a layer has only because something lies in them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::tree::{Attributes, is_portable, set_attributes};

/// Gives such directories of `layer` the attributes they have in the layers below (the topmost first), since the mount
/// shows the uppermost directory's: without this `/tmp` would lose its sticky bit to a layer that has only `tmp/x`.
pub(crate) fn inherit(layer: &PathBuf, below: &[PathBuf], implicit: &[Vec<u8>]) -> Result<(), UnpackError> {
    let open_all = |path: &PathBuf| File::open(path);
    let failed = |e: io::Error| UnpackError::write("open the layers of", String::new(), errno(&e));
    let roots = below.iter().map(open_all).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let own = File::open(layer).map_err(failed)?;
    for path in implicit {
        let failed = |e| {
            UnpackError::write("inherit the attributes of", String::from_utf8_lossy(path).into_owned(), e)
        };
        let Some(lower) = roots.iter().find_map(|root| open(root, path).ok()) else { continue };
        let attributes = attributes(&lower).map_err(failed)?;
        open(&own, path).and_then(|directory| set_attributes(&directory, &attributes)).map_err(failed)?;
    }
    Ok(())
}

fn open(root: &File, path: &[u8]) -> rustix::io::Result<File> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve).map(File::from)
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
