//! What a client is told when a call fails: one enum, a gRPC code for each variant.

use std::error::Error;
use std::path::Path;

use proto_node::monitor::ErrorKind;

use crate::monitor::MonitorError;
use crate::plan::PlanError;

/// Why a call failed. Cloned to all who wait for one operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Invalid(String),
    #[error("{kind} {id:?} does not exist")]
    NotFound { kind: &'static str, id: String },
    /// Something outside of this machine does not exist.
    #[error("{0}")]
    Absent(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Exhausted(String),
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    Precondition(String),
    #[error("{0}")]
    Deadline(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0} is not implemented by this runtime")]
    Unimplemented(&'static str),
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    /// An internal failure with all its causes.
    pub(crate) fn internal(what: &str, error: &(dyn Error + 'static)) -> Self {
        Self::Internal(format!("{what}: {}", chain(error)))
    }

    /// A failed file operation.
    pub(crate) fn io<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + use<'a> {
        move |error| Self::Internal(format!("cannot {what} {}: {error}", path.display()))
    }

    /// The same failure, and what could not be undone after it.
    pub(crate) fn and(self, undo: &[String]) -> Self {
        if undo.is_empty() {
            return self;
        }
        Self::Internal(format!("{self}; what was half-made could not be undone: {}", undo.join("; ")))
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<MonitorError> for Failure {
    fn from(error: MonitorError) -> Self {
        let text = chain(&error);
        match error {
            MonitorError::Refused { kind: ErrorKind::InvalidArgument, .. } => Self::Invalid(text),
            MonitorError::Refused { kind: ErrorKind::NotFound, .. } => Self::Absent(text),
            MonitorError::Refused { kind: ErrorKind::FailedPrecondition, .. } => Self::Precondition(text),
            MonitorError::Refused { kind: ErrorKind::DeadlineExceeded, .. } => Self::Deadline(text),
            _ => Self::Internal(text),
        }
    }
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        let code = match &failure {
            Failure::Invalid(_) => tonic::Code::InvalidArgument,
            Failure::NotFound { .. } | Failure::Absent(_) => tonic::Code::NotFound,
            Failure::Denied(_) => tonic::Code::PermissionDenied,
            Failure::Exhausted(_) => tonic::Code::ResourceExhausted,
            Failure::Exists(_) => tonic::Code::AlreadyExists,
            Failure::Precondition(_) => tonic::Code::FailedPrecondition,
            Failure::Deadline(_) => tonic::Code::DeadlineExceeded,
            Failure::Unavailable(_) => tonic::Code::Unavailable,
            Failure::Unimplemented(_) => tonic::Code::Unimplemented,
            Failure::Internal(_) => tonic::Code::Internal,
        };
        Self::new(code, failure.to_string())
    }
}
