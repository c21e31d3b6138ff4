//! Why the runtime did not do what it was asked for.

use std::fmt::Display;

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
/// It crosses from the container's first process to the caller's, and therefore is text instead of a chain of sources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct RuntimeError {
    kind: ErrorKind,
    message: String,
}

impl RuntimeError {
    /// What the caller can make of it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A field of the configuration, what is wrong with it, and what to do.
    pub(crate) fn spec(field: impl Display, problem: impl Display) -> Self {
        Self::new(ErrorKind::InvalidSpec, format!("config: {field}: {problem}"))
    }

    pub(crate) fn kernel(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Kernel, message)
    }

    /// The same, with the object it happened to in front.
    pub(crate) fn of(self, object: impl Display) -> Self {
        Self { kind: self.kind, message: format!("{object}: {}", self.message) }
    }
}

/// Says what was tried when the kernel refused.
pub(crate) trait During<T> {
    /// `<what>: <error and its sources>`
    fn during<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, RuntimeError>;
}

impl<T, E: std::error::Error> During<T> for Result<T, E> {
    fn during<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, RuntimeError> {
        self.map_err(|error| {
            let mut message = format!("{}: {error}", what());
            let mut source = error.source();
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            RuntimeError::kernel(message)
        })
    }
}
