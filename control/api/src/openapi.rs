//! The OpenAPI documents: version 3 group by group, version 2 whole.

use http::HeaderMap;

use crate::reply::{self, Response};

/// The documents, each made when it is first asked for.
#[derive(Default)]
pub struct Documents {}

impl Documents {
    /// Answers what stands below `/openapi`.
    #[must_use]
    pub fn answer(&self, _path: &[&str], _headers: &HeaderMap) -> Response {
        reply::no_such_page()
    }
}
