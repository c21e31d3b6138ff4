//! Writes to procfs through an instance of our own: whatever the image or another container's volume has put at `/proc`,
//! security settings reach the kernel.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// A detached procfs of the PID namespace we are in.
#[derive(Debug)]
pub(super) struct Procfs(OwnedFd);

impl Procfs {
    pub(super) fn open() -> Result<Self, Errno> {
        let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(Self(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }

    /// Writes a file, e.g. `sys/net/ipv4/ip_forward`.
    pub(super) fn write(&self, path: &str, value: &str) -> Result<(), Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        rustix::io::write(&file, value.as_bytes()).map(drop)
    }
}
