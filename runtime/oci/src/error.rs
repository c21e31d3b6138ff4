//! Why the runtime did not do what it was asked for.

use serde::{Deserialize, Serialize};

/// What a caller can make of a [`RuntimeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The configuration cannot work, or asks for what this runtime does not do. Trying again will not help.
    InvalidSpec,
    /// There is no such container.
    NotFound,
    /// The container is in another state than the call needs, or its id is taken.
    WrongState,
    /// The kernel refused, or a hook failed.
    Kernel,
}

/// Why the runtime did not do what it was asked for: one sentence that names the object, and the class of failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct RuntimeError {
    kind: ErrorKind,
    message: String,
}

impl RuntimeError {
    /// An error of a class, with its text.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What the caller can make of it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}
