//! A client attached to a container's streams. What it does not read in time is lost to it; nobody waits for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::fcntl_setpipe_size;

use crate::log::Stream;
use crate::pod::Conn;

/// What a client may be behind in reading, in bytes: the most that the kernel gives a pipe by default.
const BEHIND: usize = 1024 * 1024;

/// One attached client.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) conn: Conn,
    /// It can be the one whose leaving ends the container's stdin.
    pub(crate) gave_stdin: bool,
    outputs: [Option<OwnedFd>; 2],
    stdin: Option<OwnedFd>,
}

impl Attached {
    /// Takes stdout, stderr and perhaps stdin, and makes them non-blocking.
    pub(crate) fn new(conn: Conn, descriptors: Vec<OwnedFd>) -> Self {
        let mut descriptors = descriptors.into_iter().filter(|fd| ioctl_fionbio(fd, true).is_ok());
        let outputs = [descriptors.next(), descriptors.next()];
        for output in outputs.iter().flatten() {
            // What is no pipe has a size of its own.
            let _ = fcntl_setpipe_size(output, BEHIND);
        }
        let stdin = descriptors.next();
        Self { conn, gave_stdin: stdin.is_some(), outputs, stdin }
    }

    pub(crate) fn stdin(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn end_stdin(&mut self) {
        self.stdin = None;
    }

    /// Offers it some output.
    pub(crate) fn give(&mut self, stream: Stream, bytes: &[u8]) {
        let output = &mut self.outputs[stream as usize];
        if let Some(fd) = output
            && rustix::io::write(fd, bytes).is_err_and(|error| !matches!(error, Errno::AGAIN | Errno::INTR))
        {
            *output = None;
        }
    }

    /// There will be no more of this.
    pub(crate) fn end(&mut self, stream: Stream) {
        self.outputs[stream as usize] = None;
    }
}
