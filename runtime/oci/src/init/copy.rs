//! Fills a new tmpfs with what the image has at its place (`tmpcopyup`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};

use crate::error::{During, RuntimeError};

/// Copies the files, directories and symbolic links of one directory into another, with modes and owners. Devices,
/// sockets and FIFOs are left out.
pub(super) fn contents(from: &OwnedFd, to: &impl AsFd) -> Result<(), RuntimeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, ".", flags, Mode::empty())
        .during(|| "tmpcopyup: open the image's directory")?;
    let entries = Dir::read_from(&from).during(|| "tmpcopyup: list the image's directory")?;
    for entry in entries {
        let entry = entry.during(|| "tmpcopyup: list the image's directory")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(&from, to, name).during(|| format!("tmpcopyup {}", name.to_string_lossy()))??;
        }
    }
    Ok(())
}

fn one(
    from: &OwnedFd,
    to: &impl AsFd,
    name: &std::ffi::CStr,
) -> Result<Result<(), RuntimeError>, std::io::Error> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let open = |at: BorrowedFd<'_>, flags| rustix::fs::openat(at, name, flags | OFlags::CLOEXEC, mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, mode)?;
            rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let inner = open(from.as_fd(), flags)?;
            let outer = open(to.as_fd(), flags)?;
            return Ok(contents(&inner, &outer));
        }
        FileType::RegularFile => {
            let mut source = std::fs::File::from(open(from.as_fd(), OFlags::RDONLY | OFlags::NOFOLLOW)?);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let mut target = std::fs::File::from(open(to.as_fd(), flags)?);
            std::io::copy(&mut source, &mut target)?;
            rustix::fs::fchown(&target, Some(uid), Some(gid))?;
            rustix::fs::fchmod(&target, mode)?;
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(target, to, name)?;
            rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => {}
    }
    Ok(Ok(()))
}
