//! Runs this program from a read-only mount of its own file. A process that enters a container could otherwise be used
//! to open `/proc/<pid>/exe` for writing and replace the runtime on the host (CVE-2019-5736).

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{SealFlags, StatVfsMountFlags};
use rustix::mount::MountAttrFlags;

use crate::error::{During, RuntimeError};

const EXE: &str = "/proc/self/exe";

/// Returns when this program cannot be written through its own process; executes it again from such a place before.
pub(super) fn ensure() -> Result<(), RuntimeError> {
    let mut own = File::open(EXE).during(|| EXE)?;
    let readonly = rustix::fs::fstatvfs(&own).during(|| EXE)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    let sealed = rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    if readonly || sealed {
        let _ = rustix::thread::set_name(c"cleat-oci");
        return Ok(());
    }
    let program = match readonly_mount(&own) {
        Ok(program) => program,
        Err(_) => linux::sealed::copy("cleat-oci", &mut own).during(|| "copy of the own program")?,
    };
    let strings = |all: Vec<std::ffi::OsString>| -> Result<Vec<CString>, RuntimeError> {
        all.into_iter().map(|one| CString::new(one.into_vec()).during(|| "own arguments")).collect()
    };
    let arguments = strings(std::env::args_os().collect())?;
    let environment = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let environment = strings(environment.collect())?;
    match linux::process::execute_fd(program.as_fd(), &arguments, &environment) {
        Err(error) => Err(error).during(|| "execute the own program again"),
    }
}

fn readonly_mount(own: &File) -> Result<OwnedFd, rustix::io::Errno> {
    let flags =
        rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, EXE, flags)?;
    let none = MountAttrFlags::empty();
    linux::mount::set_attributes(tree.as_fd(), false, MountAttrFlags::MOUNT_ATTR_RDONLY, none)?;
    // A path leads to the program of today; it must be the one that runs.
    let (ours, theirs) = (rustix::fs::fstat(own)?, rustix::fs::fstat(&tree)?);
    let same = (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino);
    if same { Ok(tree) } else { Err(rustix::io::Errno::STALE) }
}
