//! Seccomp profiles: OCI `linux.seccomp` (runtime-spec: config-linux.md#seccomp) compiled to classic BPF.
//!
//! # What a profile means
//! Profiles are written against runc over libseccomp, so its reading of them is kept:
//! - A rule without arguments decides alone: the first of them wins over all other rules of that system call. Rules
//!   with arguments are tried in order. When none matches, the default action holds.
//! - The conditions of a rule must hold together; but when two of them look at the same argument, each is
//!   a rule of its own.
//! - A rule whose action is the default one says nothing and is skipped.
//! - Names unknown to us, or to an architecture, are skipped: profiles name the calls of all kernels and machines.
//! - Unless the default action lets the call happen, numbers above the highest one the profile names give `ENOSYS`,
//!   so that the C library falls back rather than believing in a denied permission.
//! - The native architecture is always included. A call by an architecture that is not included kills the process.
//!
//! Two things are stricter than libseccomp. 32-bit x86 reaches sockets and System V IPC through `socketcall` and
//! `ipc`, whose arguments a filter cannot see: a rule with arguments reaches these only when it restricts (then
//! without its arguments). And what cannot be compiled is an error that names the rule, never a weaker filter.
//!
//! # Shape of a program
//! ```text
//! architecture? ──> (x32 bit?) ──> balanced search over ranges of call numbers ──> return, or comparisons ──> return
//!        └── none of ours: kill
//! ```
//! Numbers and architecture are looked at with nothing but constant comparisons, so the kernel recognises the calls
//! that are always allowed when it loads the filter and does not run it for them.

mod emit;
mod profile;
mod syscalls;
#[cfg(test)]
mod tests;

use linux::seccomp::{Instruction, LOG, NEW_LISTENER, SPEC_ALLOW, TSYNC, TSYNC_ESRCH, WAIT_KILLABLE_RECV};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

/// The longest program the kernel takes (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 4096;

/// A filter for [`linux::seccomp::load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The filter.
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`. With [`NEW_LISTENER`] the profile has "notify" rules and loading gives a descriptor for
    /// its `listenerPath`.
    pub flags: u32,
}

/// Why a profile cannot be applied. The container must not run without it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SeccompError {
    /// A rule without a system call.
    #[error("seccomp: syscalls[{rule}] names no system call")]
    NoNames {
        /// Index of the rule.
        rule: usize,
    },
    /// A system call has six arguments.
    #[error(
        "seccomp: syscalls[{rule}].args: there is no argument {index}, a system call has arguments 0 to 5"
    )]
    ArgumentIndex {
        /// Index of the rule.
        rule: usize,
        /// What it asks for.
        index: usize,
    },
    /// The kernel's errno field is limited.
    #[error("seccomp: {place}: errnoRet {value} is not in 0..=4095")]
    Errno {
        /// `defaultErrnoRet` or the rule.
        place: String,
        /// What it asks for.
        value: u32,
    },
    /// A notification has nowhere to go or would stop the runtime itself.
    #[error("seccomp: {place}: SCMP_ACT_NOTIFY {reason}")]
    Notify {
        /// The default action or the rule.
        place: String,
        /// What is in the way.
        reason: &'static str,
    },
    /// The machine is of a kind whose system calls we have no table for.
    #[error("seccomp: no table of system calls for this machine's architecture")]
    Architecture,
    /// The kernel takes 4096 instructions.
    #[error(
        "seccomp: the profile compiles to {0} instructions, the kernel takes 4096: merge its argument rules"
    )]
    TooLong(usize),
}

/// Compiles a profile.
///
/// # Errors
/// [`SeccompError`]: the container must then be refused.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, SeccompError> {
    let policies = profile::resolve(profile)?;
    let instructions = emit::program(&policies);
    if instructions.len() > INSTRUCTIONS_MAX {
        return Err(SeccompError::TooLong(instructions.len()));
    }
    Ok(Program { instructions, flags: flags(profile, profile::notifies(profile)) })
}

fn flags(profile: &LinuxSeccomp, notifies: bool) -> u32 {
    let mut flags = 0;
    for flag in profile.flags().iter().flatten() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => WAIT_KILLABLE_RECV,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    if notifies {
        flags |= NEW_LISTENER;
        if flags & TSYNC != 0 {
            flags |= TSYNC_ESRCH;
        }
    }
    flags
}
