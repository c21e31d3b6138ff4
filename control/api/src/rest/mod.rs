//! The verbs.

use std::sync::Arc;

use proto_kube::Status;

use crate::reply::{self, Request, Response};
use crate::server::{Context, Server};

/// What the store keeps beside each object.
pub struct Index;

impl store::Index for Index {
    fn of(_key: &str, _value: &[u8]) -> Self {
        Self
    }
}

/// What the verbs keep between requests.
#[derive(Default)]
pub struct State {}

/// Answers a request below a served group and version.
pub async fn handle(_server: &Arc<Server>, _ctx: Context, _request: Request) -> Response {
    reply::status(&Status::unavailable("the verbs are not there yet"))
}
