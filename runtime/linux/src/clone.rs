//! `clone3(2)` as a fork with namespaces, a cgroup and a parent of choice.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

use crate::{fork, signalfd};

/// Namespaces of [`Clone::namespaces`], and the parent.
pub mod flag {
    /// The new process is a child of the caller's parent.
    pub const PARENT: u64 = libc::CLONE_PARENT as u64;
    /// Mount namespace.
    pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
    /// UTS namespace.
    pub const NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
    /// IPC namespace.
    pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
    /// User namespace.
    pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
    /// PID namespace.
    pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
    /// Network namespace.
    pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;
    /// Cgroup namespace; not for a clone into a cgroup, since its root would be the cgroup of the caller.
    pub const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Time namespace; for unshare only.
    pub const NEWTIME: u64 = 0x80;
    pub(super) const ALLOWED: u64 = PARENT | NEWNS | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET | NEWCGROUP;
    pub(super) const PIDFD: u64 = libc::CLONE_PIDFD as u64;
    pub(super) const INTO_CGROUP: u64 = 0x2_0000_0000;
}

#[repr(C)]
#[derive(Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Runs `child` in a copy of this process, which ends with the code that `child` returns. Signals have their
/// default effect there. `flags` are of [`flag`]; `cgroup` is a directory of cgroup v2 that the copy starts in.
///
/// Of this process's descriptors the copy holds standard input, output and error and those in `keep`; `child` must use
/// no other. It may allocate, open files and start programs.
///
/// # Errors
/// `EBUSY` when this process has several threads (a lock held by another thread would stay locked in the child
/// for ever), `EINVAL` for flags not of [`flag`]; else what `clone3(2)` says.
pub fn spawn(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    keep: Vec<RawFd>,
    child: impl FnOnce() -> u8,
) -> io::Result<(Pid, OwnedFd)> {
    if flags & !flag::ALLOWED != 0 {
        return Err(rustix::io::Errno::INVAL.into());
    }
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(rustix::io::Errno::BUSY.into());
    }
    let mut pidfd: libc::c_int = -1;
    let mut arguments = Arguments {
        flags: flags | flag::PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        // A sibling inherits it from the caller.
        exit_signal: if flags & flag::PARENT == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..Arguments::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= flag::INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: without CLONE_VM this is fork(2): the child has its own copy of the memory and goes on with this
    // stack. This process has one thread (checked above), so no lock can be held by a thread that the child lacks.
    // `arguments` and `pidfd` outlive the call.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<Arguments>()) } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let abort = AbortOnUnwind;
            signalfd::reset();
            fork::close_others(keep);
            let code = child();
            std::mem::forget(abort);
            // SAFETY: `_exit` has no preconditions; the parent's exit handlers and buffers are not ours to run.
            unsafe { libc::_exit(i32::from(code)) }
        }
        pid => {
            // SAFETY: CLONE_PIDFD made the kernel store a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
            Ok((pid, pidfd))
        }
    }
}

/// A panic in the child must not unwind into the parent's copy of the stack.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Leaves namespaces (flags of [`flag`], without `PARENT`) for new ones.
///
/// # Errors
/// `EINVAL` for other flags; else what `unshare(2)` says.
pub fn unshare(flags: u64) -> io::Result<()> {
    if flags & !(flag::ALLOWED & !flag::PARENT | flag::NEWTIME) != 0 {
        return Err(rustix::io::Errno::INVAL.into());
    }
    let flags = libc::c_int::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: namespaces only; neither memory nor descriptors are unshared, so no Rust object changes under a reader.
    if unsafe { libc::unshare(flags) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
