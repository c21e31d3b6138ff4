//! The overlay for a runtime that mounts none itself: in a mount namespace of its own, so that no other process
//! sees it, and the kernel removes it with the container.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use linux::fork;
use proto_node::monitor::Overlay;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount,
};
use rustix::thread::UnshareFlags;

/// The longest options of `mount(2)`: a page and its terminator.
const OPTIONS_MAX: usize = 4095;

/// Leaves the mount namespace for a copy of it, in which the overlay lies on `target`.
pub(crate) fn mount_alone(overlay: &Overlay, target: &Path) -> io::Result<()> {
    fork::unshare(UnshareFlags::NEWNS)?;
    // Of the mounts only the one under the overlay becomes private, so that it does not spread to the host. The
    // others stay peers of the host's, as volumes with propagation need it.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let target = target.canonicalize()?;
    mount_change(mount_point_of(&mounts, &target), MountPropagationFlags::PRIVATE)?;
    let options = options(overlay);
    if options.len() <= OPTIONS_MAX {
        let options = std::ffi::CString::new(options)?;
        return Ok(mount("overlay", &target, "overlay", MountFlags::empty(), options.as_c_str())?);
    }
    let filesystem = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in &overlay.lower {
        fsconfig_set_string(&filesystem, "lowerdir+", lower)?;
    }
    fsconfig_set_string(&filesystem, "upperdir", &overlay.upper)?;
    fsconfig_set_string(&filesystem, "workdir", &overlay.work)?;
    fsconfig_create(&filesystem)?;
    let mounted = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(move_mount(&mounted, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn options(overlay: &Overlay) -> Vec<u8> {
    let mut options = b"lowerdir=".to_vec();
    for (index, lower) in overlay.lower.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        escape(lower, &mut options);
    }
    for (name, path) in [(",upperdir=", &overlay.upper), (",workdir=", &overlay.work)] {
        options.extend_from_slice(name.as_bytes());
        escape(path, &mut options);
    }
    options
}

fn escape(path: &Path, options: &mut Vec<u8>) {
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(byte);
    }
}

/// The deepest, latest mount that `path` lies on.
fn mount_point_of(mounts: &str, path: &Path) -> PathBuf {
    let points = mounts.lines().filter_map(|line| Some(unescape(line.split(' ').nth(4)?)));
    points
        .filter(|point| path.starts_with(point))
        .max_by_key(|point| point.components().count())
        .unwrap_or("/".into())
}

/// The mount table writes blanks and backslashes as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let octals = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    octals.iter().fold(field.to_owned(), |field, (octal, plain)| field.replace(octal, plain)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_escaped() {
        let overlay =
            Overlay { lower: vec!["/a:b".into(), "/c".into()], upper: "/d,e".into(), work: "/f\\g".into() };
        assert_eq!(options(&overlay), br"lowerdir=/a\:b:/c,upperdir=/d\,e,workdir=/f\\g");
    }

    #[test]
    fn mount_points() {
        let mounts = "1 0 8:1 / / rw - ext4 x rw\n2 1 0:2 / /run rw - tmpfs t rw\n3 2 0:3 / /run/a\\040b rw - tmpfs t rw\n";
        for (path, expected) in [("/run/c/rootfs", "/run"), ("/run/a b/c", "/run/a b"), ("/running", "/")] {
            assert_eq!(mount_point_of(mounts, path.as_ref()), Path::new(expected));
        }
    }
}
