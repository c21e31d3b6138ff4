//! Unix sockets at paths of any length: the kernel's address holds 108 bytes, directories may be deeper than that.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A path to a socket that fits into an address, by way of `/proc` and its open directory. It leads there as long as
/// this lives.
pub struct Short {
    directory: OwnedFd,
    path: PathBuf,
}

impl Short {
    /// Opens the socket's directory; the socket itself need not be there yet.
    ///
    /// # Errors
    /// When the path has no file name or its directory cannot be opened.
    pub fn of(socket: &Path) -> io::Result<Self> {
        let Some(name) = socket.file_name() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = match socket.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Self { directory, path })
    }

    /// The short path, for this process.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The short path, for other processes: children and peers.
    #[must_use]
    pub fn path_for_others(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default();
        Path::new("/proc")
            .join(std::process::id().to_string())
            .join("fd")
            .join(self.directory.as_raw_fd().to_string())
            .join(name)
    }
}

/// Listens for root and its group, taking over a socket that a process before us left. The directories of the path are
/// made. The listener does not block.
///
/// # Errors
/// When a directory, the old socket or the new one makes trouble.
pub fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = socket.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(Short::of(socket)?.path())?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_deep_socket_is_reached_and_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120)).join("s");
        drop(listen(&deep).unwrap());
        let _listener = listen(&deep).unwrap();
        UnixStream::connect(Short::of(&deep).unwrap().path()).unwrap();
        assert!(Short::of(Path::new("/")).is_err());
        assert!(Short::of(&root.path().join("none/s")).is_err());
    }
}
