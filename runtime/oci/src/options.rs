//! What a caller says when it creates a container or runs a process in one.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A container to create.
#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// Its id: letters, digits and `_+-.`.
    pub id: &'a str,
    /// The runtime's state directory, e.g. `/run/cleat/oci`.
    pub root: &'a Path,
    /// The directory that holds `config.json`.
    pub bundle: &'a Path,
    /// Where its root file system comes from.
    pub rootfs: Rootfs<'a>,
    /// Its standard input, output and error.
    pub stdio: Stdio,
    /// Whose child its first process is.
    pub parent: Parent,
    /// How many descriptors from number 3 on are handed to its first process.
    pub preserve_fds: u32,
}

/// Where a container's root file system comes from.
#[derive(Debug, Clone, Copy)]
pub enum Rootfs<'a> {
    /// The spec's `root.path`, as it is.
    Spec,
    /// An overlay, mounted on the spec's `root.path` inside the container's mount namespace only.
    Overlay {
        /// Read-only layers, the topmost first.
        lower: &'a [PathBuf],
        /// The writable layer.
        upper: &'a Path,
        /// overlayfs' work directory, on the file system of `upper`.
        work: &'a Path,
    },
}

/// Standard input, output and error of a process.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal of the container's devpts; its master comes back in [`Process::terminal`].
    Terminal,
}

/// Whose child a container's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The caller's.
    Caller,
    /// The caller's parent's (`CLONE_PARENT`): the caller may end at once. A creation that fails leaves that parent an
    /// ended child to reap, which it was never told about.
    Sibling,
}

/// A process in a running container.
#[derive(Debug)]
pub struct ExecOptions<'a> {
    /// The container.
    pub id: &'a str,
    /// The runtime's state directory.
    pub root: &'a Path,
    /// The process; what it leaves out (capabilities, for one) it does not get.
    pub process: &'a oci_spec::runtime::Process,
    /// Its standard input, output and error.
    pub stdio: Stdio,
    /// Whose child it is.
    pub parent: Parent,
    /// How many descriptors from number 3 on are handed to it.
    pub preserve_fds: u32,
}

/// A process that was made.
#[derive(Debug)]
pub struct Process {
    /// Its process id as the caller sees it.
    pub pid: u32,
    /// The master of its terminal, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
}
