//! Removal of directory trees, however deep. `std::fs::remove_dir_all` takes a piece of the stack and a descriptor for
//! each level, and a container makes as many levels as it likes.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// How many directories are open at a time. What is deeper is moved up, and removed there.
const OPEN_MAX: usize = 32;

/// A directory that is being emptied.
struct Level {
    dir: Dir,
    /// Its name in the directory above.
    name: CString,
    /// Something was moved here that the listing may have passed by.
    again: bool,
}

/// Removes a directory and all there is in it. Symbolic links are removed and never followed, one at `path` neither.
/// What is mounted in the tree is not entered.
///
/// # Errors
/// `EBUSY` at a mount point, `NotFound` and `NotADirectory` for what is at `path`; else what the kernel says. What is gone
/// by then stays so, deep directories may lie elsewhere in the tree, and a new attempt goes on from there.
pub fn tree(path: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(path)?.is_symlink() {
        return std::fs::remove_file(path);
    }
    match rustix::fs::rmdir(path) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        done => return Ok(done?),
    }
    let mut open = vec![Level::open(CWD, path, CString::default())?];
    let mut names = 0;
    while let Some(level) = open.last_mut() {
        match level.dir.read().transpose()? {
            Some(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Some(entry) => {
                if !removed(level.dir.fd()?, entry.file_name(), entry.file_type())? {
                    enter(&mut open, entry.file_name(), &mut names)?;
                }
            }
            None if level.again => {
                level.again = false;
                level.dir.rewind();
            }
            None => {
                let emptied = open.pop().map(|level| level.name).unwrap_or_default();
                if let Some(above) = open.last() {
                    absent(rustix::fs::unlinkat(above.dir.fd()?, &emptied, AtFlags::REMOVEDIR))?;
                }
            }
        }
    }
    Ok(rustix::fs::rmdir(path)?)
}

impl Level {
    fn open(above: impl AsFd, path: impl rustix::path::Arg, name: CString) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = Dir::new(rustix::fs::openat(above, path, flags, Mode::empty())?)?;
        Ok(Self { dir, name, again: false })
    }
}

/// Removes an entry; false for a directory that is not empty. A mount point is busy before it is not empty.
fn removed(dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<bool> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            // Not all file systems tell the kinds in their listings.
            Err(Errno::ISDIR) => {}
            done => return absent(done).map(|()| true),
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        done => absent(done).map(|()| true),
    }
}

/// What somebody else has removed is gone as well.
fn absent(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Has a directory of the innermost level emptied next, or later if it is too deep.
fn enter(open: &mut Vec<Level>, name: &CStr, names: &mut u64) -> rustix::io::Result<()> {
    if open.len() >= OPEN_MAX && moved_up(open, name, names)? {
        return Ok(());
    }
    let Some(level) = open.last() else { return Ok(()) };
    match Level::open(level.dir.fd()?, name, name.to_owned()) {
        Err(Errno::NOENT) => {}
        below => open.push(below?),
    }
    Ok(())
}

/// Moves a directory of the innermost level as far up as it can be moved; false when it can nowhere.
fn moved_up(open: &mut [Level], name: &CStr, names: &mut u64) -> rustix::io::Result<bool> {
    let Some((innermost, above)) = open.split_last_mut() else { return Ok(false) };
    for level in above {
        loop {
            let new = names.to_string();
            *names += 1;
            match rustix::fs::renameat(innermost.dir.fd()?, name, level.dir.fd()?, new) {
                Ok(()) => {
                    level.again = true;
                    return Ok(true);
                }
                // Something has this name. An empty directory would have given way.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                // A subvolume or a quota begins below this level, or there is no room.
                Err(_) => break,
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// Directories one in the other, the path of the last.
    fn chain(top: &Path, levels: usize) -> PathBuf {
        let last = (0..levels).fold(top.to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(&last).unwrap();
        last
    }

    #[test]
    fn what_is_wide_and_deep_goes_whatever_it_is_called() {
        let lab = tempfile::tempdir().unwrap();
        let top = lab.path().join("top");
        for branch in ["0", "a", "b"] {
            let last = chain(&top.join(branch), 3 * OPEN_MAX);
            for below in last.ancestors().take(3 * OPEN_MAX) {
                fs::write(below.join("file"), "").unwrap();
                fs::create_dir_all(below.join("1/full")).unwrap();
            }
        }
        fs::write(top.join("2"), "").unwrap();
        symlink("a", top.join("3")).unwrap();
        fs::create_dir(top.join("4")).unwrap();
        tree(&top).unwrap();
        assert_eq!(fs::read_dir(lab.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_go_and_what_they_lead_to_stays() {
        let lab = tempfile::tempdir().unwrap();
        let (top, kept) = (lab.path().join("top"), lab.path().join("kept"));
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        let last = chain(&top, 2 * OPEN_MAX);
        for at in [&top, &last] {
            symlink(&kept, at.join("directory")).unwrap();
            symlink(kept.join("file"), at.join("file")).unwrap();
            symlink("nowhere", at.join("nothing")).unwrap();
        }
        tree(&top).unwrap();
        symlink(&kept, &top).unwrap();
        tree(&top).unwrap();
        assert!(top.symlink_metadata().is_err() && kept.join("file").exists());
    }

    #[test]
    fn what_is_no_directory_is_left() {
        let lab = tempfile::tempdir().unwrap();
        let file = lab.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(tree(&file).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(tree(&lab.path().join("nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(file.exists());
    }

    #[test]
    fn what_is_mounted_is_busy_and_keeps_what_is_in_it() {
        use rustix::mount::{MountFlags, MountPropagationFlags};
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let lab = tempfile::tempdir().unwrap();
        let points = [lab.path().join("a/point"), chain(&lab.path().join("b"), OPEN_MAX).join("point")];
        let tops = [lab.path().join("a"), lab.path().join("b")];
        let trees = tops.clone();
        // The mounts end with the thread's namespace.
        let mounted = std::thread::spawn(move || {
            crate::fork::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            for (point, top) in points.iter().zip(trees) {
                fs::create_dir_all(point).unwrap();
                rustix::mount::mount(c"tmpfs", point, c"tmpfs", MountFlags::empty(), None).unwrap();
                fs::write(point.join("file"), "").unwrap();
                let inside = fs::File::open(point).unwrap();
                for path in [point, &top] {
                    let error = tree(path).unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
                }
                assert!(rustix::fs::statat(inside, "file", AtFlags::empty()).is_ok());
            }
        });
        mounted.join().unwrap();
        tops.iter().for_each(|top| tree(top).unwrap());
    }
}
