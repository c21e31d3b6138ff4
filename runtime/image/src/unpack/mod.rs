//! Unpacking a layer: a tar stream, compressed or not, becomes a directory that overlayfs can stack.
//!
//! Each layer becomes a directory of its own and does not look at those below, so that layers unpack side by side.
//! Only directories without an entry of their own, which take their attributes from below, wait for [`inherit`].

mod entry;
mod inherit;
mod pax;
mod stream;
mod tree;
mod write;

use std::io;

pub(crate) use entry::{Entries, Entry};
pub(crate) use inherit::inherit;
use rustix::io::Errno;
pub(crate) use stream::{Verified, decompress, unpack};

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream broke off, or its compression is damaged.
    #[error("the layer cannot be read")]
    Read(#[source] io::Error),
    /// It is no tar that a layer may be.
    #[error("entry {entry:?}: {reason}")]
    Malformed {
        /// The entry's path.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// `..` or a symbolic link leads above the layer's root.
    #[error("entry {entry:?} would be outside of the image")]
    Climbs {
        /// The entry's path.
        entry: String,
    },
    /// Something that is no directory is in the way.
    #[error("entry {entry:?}: {at:?} is no directory")]
    Blocked {
        /// The entry's path.
        entry: String,
        /// What is in the way.
        at: String,
    },
    /// Symbolic links lead to each other.
    #[error("entry {entry:?}: too many symbolic links on the way")]
    Loop {
        /// The entry's path.
        entry: String,
    },
    /// The disk (or the quota) is full.
    #[error("no space left for entry {entry:?}")]
    Full {
        /// The entry's path.
        entry: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {action} entry {entry:?}")]
    Write {
        /// What was tried.
        action: &'static str,
        /// The entry's path.
        entry: String,
        /// Why not.
        source: io::Error,
    },
}

impl UnpackError {
    fn write(action: &'static str, entry: String, error: Errno) -> UnpackError {
        let source = error.into();
        match error {
            Errno::NOSPC | Errno::DQUOT => UnpackError::Full { entry, source },
            _ => UnpackError::Write { action, entry, source },
        }
    }
}

impl Entry {
    fn failed(&self, action: &'static str, error: Errno) -> UnpackError {
        UnpackError::write(action, self.name(), error)
    }
}

#[cfg(test)]
mod tests;
