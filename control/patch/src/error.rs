//! Why a patch cannot be applied, and the `Status` that says so.

use proto_kube::Status;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The patch itself is malformed.
    #[error("{0}")]
    Malformed(String),
    /// The patch is well formed and does not fit the object.
    #[error("{0}")]
    Rejected(String),
    /// The JSON patch has too many operations.
    #[error("The allowed maximum operations in a JSON patch is {most}, got {found}")]
    TooLong {
        /// How many it has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// The merge failed; upstream answers these with code 500 and no reason.
    #[error("{0}")]
    Failed(String),
    /// Other managers own what the applied object sets: messages and fields.
    #[error("Apply failed with {} conflicts", .0.len())]
    Conflicts(Vec<(String, String)>),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed(why) => Self::bad_request(why),
            Error::Rejected(_) => Self::rejected(),
            Error::TooLong { .. } => Self::entity_too_large(error),
            Error::Failed(why) => Self::unknown(why),
            Error::Conflicts(conflicts) => Self::apply_conflict(&conflicts),
        }
    }
}
