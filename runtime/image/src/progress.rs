//! Reports of running transfers, for progress bars and logs.

use crate::digest::Digest;

/// How far one layer of one image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The image as it was asked for, in full; for a load the archive's path.
    pub image: String,
    /// The layer: digest of its blob, or its diff id where there is no blob.
    pub layer: Digest,
    /// What is done with it.
    pub phase: Phase,
    /// Bytes transferred.
    pub done: u64,
    /// Bytes in all; 0 if unknown.
    pub total: u64,
}

/// What is done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits for its turn.
    Waiting,
    /// Comes in and is unpacked while it does.
    Downloading,
    /// All of it is here; the rest of the unpacking and the checks.
    Unpacking,
    /// It is in the store.
    Done,
}
