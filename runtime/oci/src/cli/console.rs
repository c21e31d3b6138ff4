//! The terminal of a container towards the caller: handed over a socket, or joined to the caller's own terminal.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::termios::{OptionalActions, Termios};

use crate::error::{During, RuntimeError};

/// Sends a terminal's master to whoever listens at `path` (runc's `--console-socket`).
pub(super) fn send(path: &str, master: &OwnedFd) -> Result<(), RuntimeError> {
    let during = || format!("console socket {path}");
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.during(during)?;
    let address = SocketAddrUnix::new(Path::new(path)).during(during)?;
    rustix::net::connect(&socket, &address).during(during)?;
    linux::packet::send(&socket, b"/dev/ptmx", &[master.as_fd()]).during(during)
}

/// The caller's terminal in raw mode; restored when this goes.
struct Raw(Option<Termios>);

impl Raw {
    fn set() -> Self {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok();
        if let Some(mut raw) = before.clone() {
            raw.make_raw();
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw);
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Copies between standard input and output and a terminal until its last user is gone.
pub(super) fn join(master: &OwnedFd) -> Result<(), RuntimeError> {
    if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        let _ = rustix::termios::tcsetwinsize(master, size);
    }
    let _raw = Raw::set();
    let mut buffer = [0; 4096];
    let mut input = true;
    loop {
        let stdin = rustix::stdio::stdin();
        let mut watched = vec![PollFd::new(master, PollFlags::IN)];
        if input {
            watched.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match rustix::event::poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.during(|| "wait for the terminal")?,
        };
        let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
        if ready[0] {
            match rustix::io::read(master, &mut buffer) {
                // EIO: nobody has the other end open any more.
                Ok(0) | Err(_) => return Ok(()),
                Ok(length) => write_all(rustix::stdio::stdout(), &buffer[..length])?,
            }
        }
        if ready.get(1) == Some(&true) {
            match rustix::io::read(stdin, &mut buffer) {
                Ok(0) | Err(_) => input = false,
                Ok(length) => write_all(master, &buffer[..length])?,
            }
        }
    }
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<(), RuntimeError> {
    while !bytes.is_empty() {
        let written = rustix::io::write(&to, bytes).during(|| "copy terminal data")?;
        bytes = &bytes[written..];
    }
    Ok(())
}
