//! Signals as a readable descriptor, and their handling put back to the default before another program runs.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Delivers `SIGCHLD` by a descriptor instead of interrupting.
#[derive(Debug)]
pub struct ChildSignal(OwnedFd);

impl ChildSignal {
    /// Blocks `SIGCHLD` in the calling thread and opens the descriptor (non-blocking, close-on-exec).
    ///
    /// # Errors
    /// What `signalfd(2)` says.
    pub fn open() -> io::Result<Self> {
        let set = set_of(&[libc::SIGCHLD]);
        // SAFETY: `set` is initialised and outlives both calls; the returned descriptor is new and ours.
        unsafe {
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            match libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// Forgets the signals that have arrived; the descriptor becomes readable with the next one.
    pub fn clear(&self) {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        while rustix::io::read(&self.0, &mut info).is_ok_and(|read| read > 0) {}
    }
}

impl AsFd for ChildSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal, a real-time one too.
///
/// # Errors
/// `ESRCH` when there is no such process, `EINVAL` when there is no such signal.
pub fn send(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(rustix::io::Errno::SRCH)?;
    // SAFETY: `kill` reads and writes no memory of ours; `pid` names one process, not a group.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets these signals have no effect.
pub fn ignore(signals: &[i32]) {
    for &signal in signals {
        // SAFETY: SIG_IGN installs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Gives every signal its default effect and blocks none, as a program expects to be started. Past the C library, which
/// keeps two numbers to itself and leaves them ignored in what it spawns.
pub fn reset() {
    let default = SigAction::default();
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: SIG_DFL installs no code of ours, `default` is as the kernel reads it and outlives the call; the numbers
        // that cannot be changed are refused harmlessly.
        unsafe {
            let old = std::ptr::null_mut::<SigAction>();
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, old, size_of_val(&default.mask))
        };
    }
    let none = 0_u64;
    // SAFETY: `none` is as the kernel reads it and outlives the call.
    unsafe {
        let old = std::ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, old, size_of_val(&none))
    };
}

/// The last signal there is.
const SIGNAL_MAX: libc::c_int = 64;

/// The kernel's `struct sigaction` on 64-bit machines; all zero is SIG_DFL.
#[repr(C)]
#[derive(Default)]
struct SigAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the whole set before `sigaddset` reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}
