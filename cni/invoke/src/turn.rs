//! One at a time: what is done to an attachment waits for what is still being done to it. [`Turn`]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::chain::Attachment;

const PAUSE: Duration = Duration::from_millis(5);

/// The right to run plugins for an attachment: a locked file. Plugins get it as their standard input, and so hold
/// the lock too. A runtime that was killed while a plugin runs finds on its next start that it has to wait for it.
pub(crate) struct Turn {
    /// What the plugins are told.
    pub(crate) attachment: Attachment,
    file: File,
    path: PathBuf,
}

impl Turn {
    /// Waits for the attachment's turn, but no longer than `limit`.
    pub(crate) fn take(dir: &Path, attachment: Attachment, limit: Duration) -> io::Result<Turn> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{}-{}", attachment.container_id, attachment.ifname));
        let end = Instant::now() + limit;
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            while let Err(busy) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
                if busy != rustix::io::Errno::WOULDBLOCK && busy != rustix::io::Errno::INTR {
                    return Err(busy.into());
                }
                if Instant::now() > end {
                    let text = format!("{}: a plugin of an earlier call is still running", path.display());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                std::thread::sleep(PAUSE);
            }
            // who had it may have removed it
            let there = fs::metadata(&path).is_ok_and(|m| file.metadata().is_ok_and(|f| f.ino() == m.ino()));
            if there {
                return Ok(Turn { attachment, file, path });
            }
        }
    }

    /// For a plugin's standard input.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Nothing is left of the attachment: nor of this.
    pub(crate) fn end(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}
