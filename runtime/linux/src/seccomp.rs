//! seccomp(2): classic BPF filters over system calls.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// One classic BPF instruction (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions a condition that holds skips.
    pub jt: u8,
    /// How many instructions a condition that does not hold skips.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `SECCOMP_FILTER_FLAG_TSYNC`: the filter is for all threads of the process.
pub const TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`: log every action but "allow".
pub const LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: keep speculative store bypass.
pub const SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: give a descriptor on which a supervisor answers "notify" actions.
pub const NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`: what makes [`TSYNC`] and [`NEW_LISTENER`] go together.
pub const TSYNC_ESRCH: u32 = 1 << 4;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: a process that waits for its supervisor can be killed.
pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Puts this thread (with [`TSYNC`]: this process) under `filter`, for ever. With [`NEW_LISTENER`] the answer holds the
/// listener. [`LOG`] and [`SPEC_ALLOW`] restrict nothing: a kernel that does not know them loads the filter without.
///
/// # Errors
/// `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`; `EINVAL` for a program that the kernel's checker refuses
/// (empty, longer than 4096 instructions, a jump out of it); `ESRCH` when a thread cannot follow.
pub fn load(filter: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    match set_mode_filter(filter, flags) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && flags & (LOG | SPEC_ALLOW) != 0 => {
            set_mode_filter(filter, flags & !(LOG | SPEC_ALLOW))
        }
        result => result,
    }
}

fn set_mode_filter(filter: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `program` describes `filter`, whose elements have the layout of `struct sock_filter`; the kernel only
    // reads it, and only during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if result > 0 && flags & NEW_LISTENER == 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: with NEW_LISTENER the answer is a descriptor that the kernel has just made for us.
    let listener = (flags & NEW_LISTENER != 0)
        .then(|| unsafe { OwnedFd::from_raw_fd(RawFd::try_from(result).expect("a descriptor is an int")) });
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: Instruction = Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };

    /// A thread of its own takes the filter with it when it ends.
    fn in_thread(filter: Vec<Instruction>, flags: u32) -> io::Result<Option<OwnedFd>> {
        std::thread::spawn(move || load(&filter, flags)).join().unwrap()
    }

    #[test]
    fn loads_with_hints_and_gives_a_listener_only_when_asked() {
        assert!(in_thread(vec![ALLOW], LOG | SPEC_ALLOW).unwrap().is_none());
        assert!(in_thread(vec![ALLOW], NEW_LISTENER | WAIT_KILLABLE_RECV).unwrap().is_some());
    }

    #[test]
    fn refuses_what_the_kernel_refuses() {
        for filter in [vec![], vec![ALLOW; 4097], vec![ALLOW; 70_000]] {
            assert_eq!(in_thread(filter, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }
}
