//! Mounts: everything is built detached, by descriptor, with its restrictions, and only then put in place.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::cgroup::Hierarchies;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::{Init, Root, copy, terminal};
use crate::error::{During, RuntimeError};
use crate::options::Rootfs;
use crate::spec::{self, Mount, Propagation, Source};

/// Magic number of procfs (linux/magic.h).
const PROC: i64 = 0x9fa0;

/// A detached copy of the mount behind a descriptor.
pub(super) fn clone_of(fd: &impl AsFd, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(fd, "", flags)
}

/// Puts a detached mount on what another descriptor stands for.
pub(super) fn attach(tree: &impl AsFd, target: &impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags)
}

fn propagate(mount: BorrowedFd<'_>, propagation: Propagation, recursive: bool) -> Result<(), Errno> {
    let flag = match propagation {
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    linux::mount::set_propagation(mount, recursive, u64::from(flag.bits()))
}

/// A new instance of a file system, detached. The kernel's own words about a bad option are in the error.
fn file_system(
    kind: &str,
    source: Option<&str>,
    data: &[(String, Option<String>)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, RuntimeError> {
    let context =
        rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during(|| format!("file system {kind}"))?;
    let made = || -> Result<OwnedFd, Errno> {
        if let Some(source) = source.filter(|source| !source.is_empty()) {
            rustix::mount::fsconfig_set_string(&context, "source", source)?;
        }
        for (key, value) in data {
            match value {
                Some(value) => rustix::mount::fsconfig_set_string(&context, key.as_str(), value.as_str())?,
                None => rustix::mount::fsconfig_set_flag(&context, key.as_str())?,
            }
        }
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    made().map_err(|error| {
        let mut said = vec![0; 512];
        let length = rustix::io::read(&context, &mut said).unwrap_or(0);
        let said = String::from_utf8_lossy(&said[..length]).into_owned();
        RuntimeError::kernel(format!("file system {kind}: {error} {}", said.trim().trim_start_matches("e ")))
    })
}

impl Init<'_> {
    /// Takes hold of what bind mounts show, while it still is in its host peer group (so that shared and slave mean
    /// towards the host).
    pub(super) fn clone_sources(&mut self) -> Result<(), RuntimeError> {
        for mount in &self.config()?.mounts {
            let tree = match &mount.source {
                Source::Bind { path, recursive } => {
                    let flags = OFlags::PATH | OFlags::CLOEXEC;
                    let field =
                        || format!("mounts ({}): source {}", mount.destination.display(), path.display());
                    let source = rustix::fs::open(path, flags, Mode::empty())
                        .map_err(|error| RuntimeError::spec(field(), error))?;
                    Some(clone_of(&source, *recursive).during(field)?)
                }
                Source::Cgroup | Source::FileSystem { .. } => None,
            };
            self.sources.push_back(tree);
        }
        if self.config()?.mounts.iter().any(|mount| mount.source == Source::Cgroup) {
            for directory in self.cgroup.directories() {
                let source = rustix::fs::open(&directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
                let tree = source.and_then(|source| clone_of(&source, false));
                self.cgroup_sources.push(tree.during(|| format!("cgroup {}", directory.display()))?);
            }
        }
        Ok(())
    }

    /// From here on no mount reaches the host; what the host mounts still arrives in slaves of it.
    pub(super) fn cut_propagation(&self) -> Result<(), RuntimeError> {
        rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .during(|| "cut the propagation of mounts")
    }

    pub(super) fn mount_root(&mut self) -> Result<(), RuntimeError> {
        let path = self.config()?.root.clone();
        let during = || format!("root file system {}", path.display());
        let open =
            || rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let target = open()
            .map_err(|error| RuntimeError::spec("root.path", format!("{}: {error}", path.display())))?;
        match self.rootfs {
            Rootfs::Spec => {
                let tree = clone_of(&target, true).during(during)?;
                propagate(tree.as_fd(), Propagation::Private, true).during(during)?;
                attach(&tree, &target).during(during)?;
            }
            Rootfs::Overlay { lower, upper, work } => overlay(&target, lower, upper, work)?,
        }
        // Opened again: the descriptor from before stands for what is below the mount.
        self.root = Some(Root::open(&path).during(during)?);
        Ok(())
    }

    pub(super) fn mount(&mut self, mount: &Mount) -> Result<(), RuntimeError> {
        let source = self.sources.pop_front().flatten();
        let mounted = match (&mount.source, source) {
            (Source::Bind { .. }, Some(tree)) => self.mount_tree(mount, &tree),
            (Source::Bind { .. }, None) => Err(RuntimeError::kernel("its source was not opened")),
            (Source::FileSystem { kind, source, data }, _) => {
                file_system(kind, source.as_deref(), data, mount.set)
                    .and_then(|tree| self.mount_tree(mount, &tree))
            }
            (Source::Cgroup, _) => self.mount_cgroup(mount),
        };
        mounted.map_err(|error| error.of(format!("mount {}", mount.destination.display())))
    }

    fn mount_tree(&self, mount: &Mount, tree: &OwnedFd) -> Result<(), RuntimeError> {
        let target = self.mountpoint(mount, tree)?;
        if mount.copy_up {
            copy::contents(&target, tree)?;
        }
        restrict(tree.as_fd(), mount)?;
        attach(tree, &target).during(|| "attach")?;
        // Not before: a private tree would take the peers from the mounts of a shared one.
        let default = (Propagation::Private, true);
        let (propagation, recursive) = mount.propagation.unwrap_or(default);
        propagate(tree.as_fd(), propagation, recursive).during(|| "set its propagation")
    }

    /// Opens the place to mount on, made if missing, and refuses one inside procfs: it could hide what the kernel says
    /// about security from us or from the process.
    fn mountpoint(&self, mount: &Mount, tree: &OwnedFd) -> Result<OwnedFd, RuntimeError> {
        const HARMLESS: [&str; 9] = [
            "/proc/cpuinfo",
            "/proc/diskstats",
            "/proc/loadavg",
            "/proc/meminfo",
            "/proc/slabinfo",
            "/proc/stat",
            "/proc/swaps",
            "/proc/uptime",
            "/proc/sys/kernel/ns_last_pid",
        ];
        let root = self.root()?;
        let path = mount.destination.as_path();
        let directory = rustix::fs::fstat(tree).during(|| "look at its source")?.st_mode;
        let directory = FileType::from_raw_mode(directory) == FileType::Directory;
        let kernel =
            matches!(&mount.source, Source::FileSystem { kind, .. } if kind == "proc" || kind == "sysfs");
        let target = if kernel {
            match root.find_without_links(path, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    root.directory(path).during(|| "make the directory")?;
                    root.find_without_links(path, OFlags::PATH | OFlags::DIRECTORY)
                }
                other => other,
            }
        } else if directory {
            root.directory(path)
        } else {
            root.file(path)
        };
        let target = match target {
            Err(Errno::LOOP) if kernel => {
                return Err(RuntimeError::spec("image", "the path is a symbolic link; make it a directory"));
            }
            other => other.during(|| "make the place to mount on")?,
        };
        let magic = rustix::fs::fstatfs(&target).during(|| "look at the place to mount on")?.f_type;
        let whole = path == Path::new("/proc");
        if magic == PROC && !whole && !HARMLESS.iter().any(|harmless| path == Path::new(harmless)) {
            return Err(RuntimeError::spec("mounts", "it lies inside a proc file system; mount elsewhere"));
        }
        Ok(target)
    }

    /// v2: the container's own cgroup. v1: a directory with one for each hierarchy, as on the host.
    fn mount_cgroup(&mut self, mount: &Mount) -> Result<(), RuntimeError> {
        let trees = std::mem::take(&mut self.cgroup_sources);
        let hierarchies = match Hierarchies::read().during(|| "cgroups")? {
            Hierarchies::V2(_) => {
                let Some(tree) = trees.first() else { return Err(RuntimeError::kernel("no cgroup")) };
                return self.mount_tree(mount, tree);
            }
            Hierarchies::V1(all) => all,
        };
        let mode = [("mode".to_owned(), Some("755".to_owned()))];
        let writable = mount.set.difference(MountAttrFlags::MOUNT_ATTR_RDONLY);
        let directory = file_system("tmpfs", Some("cgroup"), &mode, writable)?;
        let target = self.mountpoint(mount, &directory)?;
        attach(&directory, &target).during(|| "attach")?;
        for (hierarchy, tree) in hierarchies.iter().zip(&trees) {
            let name = hierarchy.mount.file_name().unwrap_or_default();
            let path = mount.destination.join(name);
            let place = self.root()?.directory(&path).during(|| format!("make {}", path.display()))?;
            restrict(tree.as_fd(), mount)?;
            attach(tree, &place).during(|| format!("attach {}", path.display()))?;
            for controller in
                hierarchy.controllers.iter().filter(|controller| Path::new(controller) != Path::new(name))
            {
                if !controller.starts_with("name=") {
                    rustix::fs::symlinkat(name, &directory, controller)
                        .during(|| format!("link {controller}"))?;
                }
            }
        }
        restrict(directory.as_fd(), mount)
    }

    /// Makes the container's root the only one.
    pub(super) fn pivot_root(&mut self) -> Result<(), RuntimeError> {
        let old = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let old = old.during(|| "open the host's root")?;
        rustix::process::fchdir(self.root()?).during(|| "enter the root file system")?;
        // On itself: the old root is then mounted over the new one, and goes with the unmount.
        rustix::process::pivot_root(".", ".").during(|| "pivot_root")?;
        rustix::process::fchdir(&old).during(|| "enter the old root")?;
        rustix::mount::mount_change(".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .during(|| "cut the propagation of the old root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).during(|| "unmount the old root")?;
        rustix::process::chdir("/").during(|| "enter the new root")?;
        self.root = Some(Root::open("/").during(|| "open the new root")?);
        Ok(())
    }

    pub(super) fn root_propagation(&self, propagation: Propagation) -> Result<(), RuntimeError> {
        propagate(self.root()?.as_fd(), propagation, false).during(|| "propagation of the root file system")
    }

    /// Makes the mount at a path read-only.
    pub(super) fn readonly_mount(&self, path: &Path) -> Result<(), RuntimeError> {
        let mount = self.root()?.find(path, OFlags::PATH).during(|| format!("open {}", path.display()))?;
        let readonly = MountAttrFlags::MOUNT_ATTR_RDONLY;
        linux::mount::set_attributes(mount.as_fd(), false, readonly, MountAttrFlags::empty())
            .during(|| format!("make {} read-only", path.display()))
    }

    /// Makes what is at a path, and below it, read-only. Nothing there is nothing to do.
    pub(super) fn readonly_path(&self, path: &Path) -> Result<(), RuntimeError> {
        let during = || format!("make {} read-only", path.display());
        let Some(target) = self.present(path).during(during)? else { return Ok(()) };
        let tree = clone_of(&target, true).during(during)?;
        let readonly = MountAttrFlags::MOUNT_ATTR_RDONLY;
        linux::mount::set_attributes(tree.as_fd(), true, readonly, MountAttrFlags::empty()).during(during)?;
        attach(&tree, &target).during(during)
    }

    /// Hides what is at a path: a directory behind an empty one, anything else behind `/dev/null`.
    pub(super) fn mask_path(&mut self, path: &Path) -> Result<(), RuntimeError> {
        let during = || format!("mask {}", path.display());
        let Some(target) = self.present(path).during(during)? else { return Ok(()) };
        let kind = rustix::fs::fstat(&target).during(during)?.st_mode;
        if FileType::from_raw_mode(kind) != FileType::Directory {
            let null = clone_of(&terminal::verified_null(self.root()?)?, false).during(during)?;
            return attach(&null, &target).during(during);
        }
        // Only what is attached can be cloned on kernels before 6.15: the first one is put in place itself.
        if let Some(empty) = &self.empty {
            return attach(&clone_of(empty, false).during(during)?, &target).during(during);
        }
        let data = [("nr_inodes", "1"), ("size", "4096"), ("mode", "555")];
        let data = data.map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
        let empty = file_system("tmpfs", None, &data, spec::masked_options())?;
        attach(&empty, &target).during(during)?;
        self.empty = Some(empty);
        Ok(())
    }

    /// What is at a path; `None` when nothing is, or a part of the path is no directory.
    fn present(&self, path: &Path) -> Result<Option<OwnedFd>, Errno> {
        let Some(root) = &self.root else { return Ok(None) };
        match root.find(path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            other => other.map(Some),
        }
    }
}

/// Sets a mount's attributes. What its source is denied (read-only, nosuid …) it stays denied, unless the recursive
/// form of an option says otherwise.
fn restrict(tree: BorrowedFd<'_>, mount: &Mount) -> Result<(), RuntimeError> {
    let atime = MountAttrFlags::MOUNT_ATTR__ATIME;
    let clear_for = |set: MountAttrFlags| if set.intersects(atime) { atime } else { MountAttrFlags::empty() };
    if !mount.set.is_empty() {
        linux::mount::set_attributes(tree, false, mount.set, clear_for(mount.set))
            .during(|| "set its options")?;
    }
    let (set, clear) = (mount.set_recursive, mount.clear_recursive);
    if !(set.is_empty() && clear.is_empty()) {
        linux::mount::set_attributes(tree, true, set, clear | clear_for(set))
            .during(|| "set its recursive options")?;
    }
    Ok(())
}

/// Mounts an overlay. The layers are named by descriptor: any number of characters in their paths fits into the page
/// that mount(2) takes, and the container's mount table tells nothing about the host.
fn overlay(target: &OwnedFd, lower: &[PathBuf], upper: &Path, work: &Path) -> Result<(), RuntimeError> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .during(|| format!("overlay layer {}", path.display()))
    };
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let layers: Vec<OwnedFd> = lower.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
    let (upper, work) = (open(upper)?, open(work)?);
    let lower = layers.iter().map(name).collect::<Vec<_>>().join(":");
    let data = format!("lowerdir={lower},upperdir={},workdir={}", name(&upper), name(&work));
    let data = CString::new(data).during(|| "overlay options")?;
    rustix::mount::mount("overlay", name(target), "overlay", MountFlags::empty(), Some(data.as_c_str()))
        .during(|| format!("mount the overlay of {} layers", layers.len()))
}

/// The first kilobytes of a regular file in the container; nothing if it is anything else.
pub(super) fn read_regular(path: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(1 << 20).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
