//! The questions that are answered and not kept: who am I, may I, is this token good; and tokens for service accounts.

use proto_kube::{Resource, Status};
use serde_json::Value;

use crate::server::{Context, Server};

/// Answers a review (`TokenReview`, `SubjectAccessReview` and their relatives): the object with its status filled in.
///
/// # Errors
/// What is wrong with the question.
pub async fn answer(
    _server: &Server,
    _ctx: &Context,
    resource: &Resource,
    _object: Value,
) -> Result<Value, Status> {
    Err(Status::method_not_allowed(resource.group_resource(), "create"))
}

/// Answers `serviceaccounts/token`: the `TokenRequest` with a token in its status.
///
/// # Errors
/// 404 when there is no such service account, 422 when the request breaks a rule.
pub async fn token(_server: &Server, _ctx: &Context, _request: Value) -> Result<Value, Status> {
    Err(Status::unavailable("tokens are not issued yet"))
}
