//! The bodies of requests and answers, and the answers that every part of the server gives.

mod budget;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use proto_kube::Status;
use serde_json::Value;

pub use budget::{Budget, Share};

/// Why a body broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body on its way in or out.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// A request as the handlers get it.
pub type Request = http::Request<Body>;
/// What a handler answers.
pub type Response = http::Response<Body>;

/// A body that is all there.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer with a body of a media type.
#[must_use]
pub fn bytes(code: u16, media: &str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(full(body));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(media) = HeaderValue::from_str(media) {
        response.headers_mut().insert(CONTENT_TYPE, media);
    }
    response
}

/// An answer in JSON.
#[must_use]
pub fn json(code: u16, value: &Value) -> Response {
    bytes(code, "application/json", value.to_string())
}

/// An answer in plain text.
#[must_use]
pub fn text(code: u16, text: impl Into<Bytes>) -> Response {
    bytes(code, "text/plain; charset=utf-8", text)
}

/// What a path answers that leads nowhere.
#[must_use]
pub fn no_such_page() -> Response {
    text(404, "404 page not found\n")
}

/// A refusal; with `Retry-After` when its details say when to come back.
#[must_use]
pub fn status(status: &Status) -> Response {
    let mut response = json(status.code, &status.to_json());
    if let Some(seconds) = status.details["retryAfterSeconds"].as_u64() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// So much of a body that is too large is still taken in, and forgotten: a client that is cut off while it sends does
/// not get to read why.
const FORGOTTEN: usize = 64 << 20;

/// Reads a whole body of at most `most` bytes.
///
/// # Errors
/// 413 when it is larger, 400 when it breaks off.
pub async fn read(body: Body, most: usize) -> Result<Bytes, Status> {
    take(body, most, None).await
}

/// The same, of which no more is held than the share allows.
///
/// # Errors
/// 429 besides, when that is not enough.
pub async fn read_within(body: Body, most: usize, share: &mut Share) -> Result<Bytes, Status> {
    take(body, most, Some(share)).await
}

async fn take(mut body: Body, most: usize, mut share: Option<&mut Share>) -> Result<Bytes, Status> {
    let (mut bytes, mut size, mut room) = (BytesMut::new(), 0, true);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("reading the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        room = room && size <= most && share.as_mut().is_none_or(|share| share.grow(data.len()));
        if room {
            bytes.extend_from_slice(&data);
            continue;
        }
        bytes = BytesMut::new();
        if let Some(share) = &mut share {
            share.clear();
        }
        if size > most + FORGOTTEN {
            break;
        }
    }
    match room {
        true => Ok(bytes.freeze()),
        false if size > most => Err(Status::too_large(most)),
        false => Err(Status::too_many_requests("Too many large requests, please try again later.", 1)),
    }
}
