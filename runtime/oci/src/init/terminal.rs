//! A process's terminal: a new pair of the container's own devpts, reached without trusting any path of the image.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::Init;
use crate::dialogue::Report;
use crate::error::{During, RuntimeError};

/// Magic number of devpts (linux/magic.h).
const DEVPTS: u32 = 0x1cd1;

impl Init<'_> {
    /// Opens the pair and gives the master to the caller.
    pub(super) fn open_terminal(&mut self, size: Option<(u16, u16)>, owner: u32) -> Result<(), RuntimeError> {
        let ptmx = Path::new("/dev/pts/ptmx");
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let master = self.root()?.find(ptmx, flags).during(|| "open /dev/pts/ptmx of the container")?;
        let kind = rustix::fs::fstatfs(&master).during(|| "file system of /dev/pts/ptmx")?;
        let device = rustix::fs::fstat(&master).during(|| "device of /dev/pts/ptmx")?.st_rdev;
        if u32::try_from(kind.f_type) != Ok(DEVPTS) || device != rustix::fs::makedev(5, 2) {
            return Err(RuntimeError::spec(
                "process.terminal",
                "/dev/pts/ptmx is not a devpts terminal; mount devpts",
            ));
        }
        rustix::pty::unlockpt(&master).during(|| "unlock the terminal")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).during(|| "open the terminal")?;
        if let Some((columns, rows)) = size.filter(|size| *size != (0, 0)) {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(&master, size).during(|| "size of the terminal")?;
        }
        let owner = rustix::process::Uid::from_raw(owner);
        rustix::fs::fchown(&slave, Some(owner), None).during(|| "owner of the terminal")?;
        self.caller.report(&Report::Terminal, &[master.as_fd()]).during(|| "hand the terminal over")?;
        self.terminal = Some(slave);
        Ok(())
    }

    /// Mounts the terminal on `/dev/console`, by its descriptor.
    pub(super) fn bind_console(&self) -> Result<(), RuntimeError> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let tree = super::mounts::clone_of(terminal, false).during(|| "clone the terminal")?;
        let target = self.root()?.file(Path::new("/dev/console")).during(|| "make /dev/console")?;
        super::mounts::attach(&tree, &target).during(|| "mount the terminal on /dev/console")
    }

    /// Makes the standard descriptors those asked for, and the terminal the controlling one.
    pub(super) fn standard(&mut self, owner: u32) -> Result<(), RuntimeError> {
        let during = || "standard input, output and error";
        if let Some(terminal) = self.terminal.take() {
            rustix::process::ioctl_tiocsctty(&terminal).during(|| "controlling terminal")?;
            rustix::stdio::dup2_stdin(&terminal).during(during)?;
            rustix::stdio::dup2_stdout(&terminal).during(during)?;
            rustix::stdio::dup2_stderr(&terminal).during(during)?;
            return Ok(());
        }
        if let Some([stdin, stdout, stderr]) = self.stdio.take() {
            rustix::stdio::dup2_stdin(&stdin).during(during)?;
            rustix::stdio::dup2_stdout(&stdout).during(during)?;
            rustix::stdio::dup2_stderr(&stderr).during(during)?;
        }
        // So that a user other than root can open /dev/stdout again.
        if owner != 0 {
            for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
                give(fd, owner);
            }
        }
        Ok(())
    }
}

/// Gives a pipe, socket or terminal to the user. Devices and files of the host stay who they belong to; what cannot
/// be given away (a read-only file system, a user that is not mapped) stays too, as with every other runtime.
fn give(fd: impl AsFd, owner: u32) {
    use rustix::fs::FileType;
    let Ok(stat) = rustix::fs::fstat(&fd) else { return };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let terminal = kind == FileType::CharacterDevice && rustix::termios::isatty(&fd);
    if stat.st_uid != owner && (terminal || matches!(kind, FileType::Fifo | FileType::Socket)) {
        let _ = rustix::fs::fchown(&fd, Some(rustix::process::Uid::from_raw(owner)), None);
    }
}

/// The container's `/dev/null`, certainly the device and not something the image calls so.
pub(super) fn verified_null(root: &super::Root) -> Result<OwnedFd, RuntimeError> {
    let null =
        root.find(Path::new("/dev/null"), OFlags::PATH).during(|| "open /dev/null of the container")?;
    let stat = rustix::fs::fstat(&null).during(|| "look at /dev/null of the container")?;
    let device = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if !device || stat.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(RuntimeError::spec(
            "linux.maskedPaths",
            "/dev/null of the container is not the device 1:3",
        ));
    }
    Ok(null)
}
