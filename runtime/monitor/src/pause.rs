//! The pause process: number 1 of the PID namespace that a pod's containers share. It is a copy of the monitor that
//! runs no program, may do nothing, sees no file, and ends with the monitor.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::{fork, signalfd};
use rustix::event;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{Gid, Pid, Signal, Uid, chdir, getppid, pivot_root, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags, move_into_link_name_space,
    set_capabilities, set_name, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// The user and group it runs as: no file belongs to it.
const NOBODY: u32 = 65_535;

/// Makes the PID namespace and its first process. `dir` is where that process mounts its empty root, which nobody
/// else sees.
pub(crate) fn start(dir: &Path) -> io::Result<Pid> {
    let own = std::fs::File::open("/proc/self/ns/pid")?;
    fork::unshare(UnshareFlags::NEWPID)?;
    let (ready, told) = linux::packet::pair()?;
    let child = fork::spawn(vec![told], |mut keep| {
        let Err(error) = pause(dir, &mut keep);
        let told = keep.pop();
        let text = error.to_string();
        told.map_or(1, |told| u8::from(linux::packet::send(&told, text.as_bytes(), &[]).is_err()))
    });
    // Only the pause process goes into the new namespace; later children are born in ours.
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    let child = child?;
    let (error, _) = linux::packet::receive(&ready, 4096)?;
    if error.is_empty() {
        Ok(child)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&error).into_owned()))
    }
}

fn pause(dir: &Path, keep: &mut Vec<OwnedFd>) -> io::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // In its PID namespace a living parent outside has the number 0. One that ended before the line above has none
    // either, but then the socket is closed.
    debug_assert!(getppid().is_none(), "the parent is in another PID namespace");
    set_name(c"pause")?;
    // A container that may trace others could otherwise reach the host's files by /proc/1/root.
    empty_root(dir)?;
    set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    // The change of user forgot it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // An ignored SIGCHLD makes the kernel reap the orphans that come to us.
    signalfd::ignore(&[Signal::CHILD.as_raw()]);
    keep.clear();
    fork::close_from(0);
    loop {
        event::pause();
    }
}

fn empty_root(dir: &Path) -> io::Result<()> {
    fork::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let filesystem = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&filesystem, "size", "4k")?;
    fsconfig_create(&filesystem)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(&root, "", CWD, dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    chdir(dir)?;
    // pivot_root(2): with both "." the old root lies on top of the new one until it is unmounted.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(())
}
