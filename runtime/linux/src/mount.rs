//! `mount_setattr(2)`, which rustix lacks.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets and clears attributes of the mount behind a descriptor, and with `recursive` of all below it.
///
/// # Errors
/// What `mount_setattr(2)` says.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: MountAttrFlags,
    clear: MountAttrFlags,
) -> Result<(), Errno> {
    let attributes = Attributes {
        set: u64::from(set.bits()),
        clear: u64::from(clear.bits()),
        propagation: 0,
        user_namespace: 0,
    };
    call(mount, recursive, &attributes)
}

/// Sets the propagation (`MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`) of the mount behind a descriptor, and
/// with `recursive` of all below it.
///
/// # Errors
/// What `mount_setattr(2)` says.
pub fn set_propagation(mount: BorrowedFd<'_>, recursive: bool, propagation: u64) -> Result<(), Errno> {
    call(mount, recursive, &Attributes { set: 0, clear: 0, propagation, user_namespace: 0 })
}

/// Maps the owners in the mount behind a descriptor (detached, not yet mounted) through a user namespace.
///
/// # Errors
/// What `mount_setattr(2)` says: `EINVAL` when the file system does not allow it.
pub fn map_owners(
    mount: BorrowedFd<'_>,
    recursive: bool,
    user_namespace: BorrowedFd<'_>,
) -> Result<(), Errno> {
    const IDMAP: u64 = 0x0010_0000;
    let user_namespace = u64::from(user_namespace.as_raw_fd().unsigned_abs());
    call(mount, recursive, &Attributes { set: IDMAP, clear: 0, propagation: 0, user_namespace })
}

fn call(mount: BorrowedFd<'_>, recursive: bool, attributes: &Attributes) -> Result<(), Errno> {
    const RECURSIVE: libc::c_int = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { RECURSIVE } else { 0 };
    // SAFETY: the path is a constant string, the structure is `struct mount_attr` of the size given and outlives
    // the call; the descriptors are borrowed for it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if result == -1 {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    } else {
        Ok(())
    }
}
