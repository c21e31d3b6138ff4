//! Device nodes and symbolic links in the container's `/dev`.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::{Init, mounts};
use crate::error::{During, RuntimeError};
use crate::plan::{Node, NodeKind};

impl Init<'_> {
    /// Makes a node. One of the same kind and number that is there already is used; anything else is refused, not
    /// replaced: it is the image's, or a volume's.
    pub(super) fn make_node(&self, node: &Node) -> Result<(), RuntimeError> {
        let made = || {
            let (parent, name) = self.root()?.parent(&node.path).during(|| "make its directory")?;
            let device = rustix::fs::makedev(node.major, node.minor);
            // The umask is 0 here, so the mode is what it says from the beginning.
            match rustix::fs::mknodat(&parent, &name, kind(node), Mode::from_raw_mode(node.mode), device) {
                Err(Errno::EXIST) => {}
                other => other.during(|| "make")?,
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&parent, &name, flags, Mode::empty()).during(|| "open")?;
            check(&made, node)?;
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            rustix::fs::chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .during(|| "change its owner")
        };
        made().map_err(|error: RuntimeError| error.of(format!("device {}", node.path.display())))
    }

    /// Mounts the host's node of the same path on a file.
    pub(super) fn bind_node(&self, node: &Node) -> Result<(), RuntimeError> {
        let bound = || {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let host = rustix::fs::open(&node.path, flags, Mode::empty()).during(|| "open the host's")?;
            check(&host, node)?;
            let tree = mounts::clone_of(&host, false).during(|| "clone the host's")?;
            let (parent, name) = self.root()?.parent(&node.path).during(|| "make its directory")?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(error) => Err(error).during(|| "make a file to mount on")?,
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = rustix::fs::openat(&parent, &name, flags, Mode::empty()).during(|| "open")?;
            // Never a link of the image, which could lead into procfs.
            let found = rustix::fs::fstat(&target).during(|| "look at it")?.st_mode;
            if FileType::from_raw_mode(found) != FileType::RegularFile {
                check(&target, node)?;
            }
            mounts::attach(&tree, &target).during(|| "mount the host's")
        };
        bound().map_err(|error: RuntimeError| error.of(format!("device {}", node.path.display())))
    }

    /// Makes a symbolic link in place of what the image has there.
    pub(super) fn link(&self, target: &str, path: &str) -> Result<(), RuntimeError> {
        let (parent, name) =
            self.root()?.parent(Path::new(path)).during(|| format!("directory of {path}"))?;
        match rustix::fs::symlinkat(target, &parent, &name) {
            Err(Errno::EXIST) => {
                let old = rustix::fs::readlinkat(&parent, &name, Vec::new());
                if old.is_ok_and(|old| old.as_bytes() == target.as_bytes()) {
                    return Ok(());
                }
                // In a read-only or shared /dev it may stay.
                match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
                    Ok(()) => rustix::fs::symlinkat(target, &parent, &name).during(|| format!("link {path}")),
                    Err(_) => Ok(()),
                }
            }
            other => other.during(|| format!("link {path}")),
        }
    }
}

fn kind(node: &Node) -> FileType {
    match node.kind {
        NodeKind::Char => FileType::CharacterDevice,
        NodeKind::Block => FileType::BlockDevice,
        NodeKind::Fifo => FileType::Fifo,
    }
}

fn check(made: &OwnedFd, node: &Node) -> Result<(), RuntimeError> {
    let stat = rustix::fs::fstat(made).during(|| "look at it")?;
    let number = node.kind == NodeKind::Fifo || stat.st_rdev == rustix::fs::makedev(node.major, node.minor);
    if FileType::from_raw_mode(stat.st_mode) != kind(node) || !number {
        let text = "the image has something else there; remove it from the image, or mount a tmpfs on /dev";
        return Err(RuntimeError::spec("linux.devices", text));
    }
    Ok(())
}
