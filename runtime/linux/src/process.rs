//! What a process is, beyond what rustix offers: signals by number, program execution, personality, priorities,
//! the session keyring.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;

/// Sends any signal by number; 0 only asks whether the process is there.
///
/// # Errors
/// What `kill(2)` says.
pub fn send_signal(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill has no memory preconditions.
    if unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) } == -1 { Err(last()) } else { Ok(()) }
}

/// Sends any signal by number to the process that a pidfd stands for.
///
/// # Errors
/// What `pidfd_send_signal(2)` says.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: without siginfo there is no memory to read; the descriptor is borrowed for the call.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if result == -1 { Err(last()) } else { Ok(()) }
}

/// Replaces this process's program.
///
/// # Errors
/// What `execve(2)` says; returns only then.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> Result<Infallible, Errno> {
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: both lists end with a null pointer, and their strings are borrowed from the caller for the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Err(last())
}

/// Replaces this process's program by the file behind a descriptor.
///
/// # Errors
/// What `execveat(2)` says; returns only then.
pub fn execute_fd(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> Result<Infallible, Errno> {
    use std::os::fd::AsRawFd;
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: as in `execute`; the descriptor is borrowed for the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(last())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// What `close_range(2)` says.
pub fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: nothing is closed, only a flag is set.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
    if result == -1 { Err(last()) } else { Ok(()) }
}

/// Takes over a descriptor that this process was started with, such as one of systemd's or of a preserved range.
///
/// # Errors
/// `EBADF` when it is not open.
pub fn inherited(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor, which nobody else owns; the old one is left alone.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => Err(last()),
        // SAFETY: see above.
        new => Ok(unsafe { OwnedFd::from_raw_fd(new) }),
    }
}

/// Joins a new session keyring of this name, so that keys of the caller's session are not visible any more.
///
/// # Errors
/// What `keyctl(2)` says: `ENOSYS` on a kernel without keys.
pub fn join_session_keyring(name: &CStr) -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the name is a null-terminated string borrowed for the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    if result == -1 { Err(last()) } else { Ok(()) }
}

/// Sets the execution domain (`personality(2)`).
///
/// # Errors
/// What `personality(2)` says.
pub fn set_personality(domain: u64) -> Result<(), Errno> {
    // SAFETY: personality has no memory preconditions.
    if unsafe { libc::personality(domain) } == -1 { Err(last()) } else { Ok(()) }
}

/// Sets the I/O priority of this process: class 1 real time, 2 best effort, 3 idle; level 0 to 7.
///
/// # Errors
/// What `ioprio_set(2)` says.
pub fn set_io_priority(class: u16, level: u16) -> Result<(), Errno> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(level);
    // SAFETY: ioprio_set has no memory preconditions.
    if unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) } == -1 {
        Err(last())
    } else {
        Ok(())
    }
}

/// A scheduling policy and its parameters (`struct sched_attr`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedulerAttributes {
    /// Size of this structure; filled in by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
}

/// Sets the scheduling policy of this process.
///
/// # Errors
/// What `sched_setattr(2)` says.
pub fn set_scheduler(mut attributes: SchedulerAttributes) -> Result<(), Errno> {
    attributes.size = 48;
    // SAFETY: the structure is `struct sched_attr` of the size it states, and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attributes, 0) };
    if result == -1 { Err(last()) } else { Ok(()) }
}

/// Sets one resource limit by its number, soft and hard.
///
/// # Errors
/// What `setrlimit(2)` says: `EPERM` when the hard limit is raised without `CAP_SYS_RESOURCE`.
pub fn set_resource_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the structure is initialised and outlives the call.
    if unsafe { libc::setrlimit(resource as _, &raw const limit) } == -1 { Err(last()) } else { Ok(()) }
}

/// The soft and hard value of a resource limit.
///
/// # Errors
/// What `getrlimit(2)` says.
pub fn resource_limit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call, which fills it.
    if unsafe { libc::getrlimit(resource as _, &raw mut limit) } == -1 {
        Err(last())
    } else {
        Ok((limit.rlim_cur, limit.rlim_max))
    }
}

/// The highest capability number that the kernel knows.
pub fn last_capability() -> u32 {
    std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(40)
}

/// Takes one capability out of the bounding set.
///
/// # Errors
/// What `prctl(2)` says.
pub fn drop_bounding(capability: u32) -> Result<(), Errno> {
    // SAFETY: this prctl takes a number.
    if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) } == -1 {
        Err(last())
    } else {
        Ok(())
    }
}

/// Raises one capability in the ambient set.
///
/// # Errors
/// What `prctl(2)` says: `EPERM` unless it is permitted and inheritable.
pub fn raise_ambient(capability: u32) -> Result<(), Errno> {
    let capability = libc::c_ulong::from(capability);
    // SAFETY: this prctl takes numbers.
    if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) } == -1 {
        Err(last())
    } else {
        Ok(())
    }
}

fn last() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
