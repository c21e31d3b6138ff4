//! Answers: plain text where something is wrong, as upstream's kubelet answers.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

pub(crate) use stream::relay::{Body, full};

/// Why there is no better answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: StatusCode,
    pub(crate) text: String,
}

impl Refused {
    pub(crate) fn new(code: StatusCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(crate) fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

/// What the CRI server says, as a streaming server upstream passes it on.
impl From<tonic::Status> for Refused {
    fn from(status: tonic::Status) -> Self {
        let code = match status.code() {
            tonic::Code::NotFound => StatusCode::NOT_FOUND,
            tonic::Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, status.message())
    }
}

/// What is read as text.
pub(crate) trait IntoText {
    fn into_body(self) -> Body;
}

impl IntoText for Body {
    fn into_body(self) -> Body {
        self
    }
}

impl IntoText for &'static str {
    fn into_body(self) -> Body {
        full(self)
    }
}

impl IntoText for String {
    fn into_body(self) -> Body {
        full(self)
    }
}

/// 200 with text.
pub(crate) fn text(body: impl IntoText) -> Response<Body> {
    let mut response = Response::new(body.into_body());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// 200 with figures in Prometheus' form.
pub(crate) fn figures(text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

/// 200 with JSON.
pub(crate) fn json_reply(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal.
pub(crate) fn refusal(refused: &Refused) -> Response<Body> {
    let mut response = text(refused.text.clone());
    *response.status_mut() = refused.code;
    response
}
