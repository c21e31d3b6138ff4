//! `fork(2)` of a single-threaded process, where it is an ordinary function call rather than a trap.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

use crate::signalfd;

/// Runs `child` in a copy of this process and ends the copy with the code it returns. Of this process's descriptors
/// the copy holds standard input, output and error and those in `keep`, which are handed to `child` and closed here.
/// Signals have their default effect there. The caller reaps it.
///
/// `child` may allocate, open files and start programs. It must not use any other descriptor of this process: there
/// they are closed.
///
/// # Errors
/// `EBUSY` when this process has several threads (a lock held by another thread would stay locked in the child
/// for ever); else what `fork(2)` says.
pub fn spawn(keep: Vec<OwnedFd>, child: impl FnOnce(Vec<OwnedFd>) -> u8) -> io::Result<Pid> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(rustix::io::Errno::BUSY.into());
    }
    // SAFETY: this process has one thread (checked above), so no lock can be held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _abort = AbortOnUnwind;
            signalfd::reset();
            close_others(keep.iter().map(AsRawFd::as_raw_fd).collect());
            let code = child(keep);
            // SAFETY: `_exit` has no preconditions; the parent's exit handlers and buffers are not ours to run.
            unsafe { libc::_exit(i32::from(code)) }
        }
        pid => Ok(Pid::from_raw(pid).expect("fork returned neither -1 nor 0")),
    }
}

/// A panic in the child must not unwind into the parent's copy of the stack.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Closes every descriptor above standard error but these.
pub(crate) fn close_others(mut keep: Vec<RawFd>) {
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.into_iter().filter(|fd| *fd >= 3) {
        close_from_to(first, fd - 1);
        first = fd + 1;
    }
    close_from_to(first, RawFd::MAX);
}

fn close_from_to(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    let (first, last) = (first.unsigned_abs(), last.unsigned_abs());
    // SAFETY: the public functions that lead here say that the process uses none of these again.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Closes every descriptor from `first` on: those that a program was started with, or all of a process that will use
/// none any more.
///
/// # Panics
/// When this process has several threads: another may be using a descriptor.
pub fn close_from(first: u16) {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "descriptors are closed while there is one thread");
    close_from_to(RawFd::from(first), RawFd::MAX);
}

/// Leaves the namespaces named by `flags` for new ones.
///
/// # Errors
/// What `unshare(2)` says.
pub fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(rustix::thread::UnshareFlags::FILES), "descriptor tables stay shared");
    // SAFETY: the one flag with a precondition, FILES, is excluded above.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}
