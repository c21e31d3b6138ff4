//! The OpenAPI documents: version 3 group by group, version 2 whole. They are large and seldom asked for, since clients
//! keep them by their hash: each is made for the one who asks, away from the threads that answer others.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, ETAG, EXPIRES, HeaderValue, LOCATION, VARY};
use http::{HeaderMap, StatusCode};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proto_kube::openapi;

use crate::cached::{accepts_gzip, compress, knows};
use crate::query::Query;
use crate::reply::{self, Response};

const VARIES: HeaderValue = HeaderValue::from_static("Accept-Encoding, Accept");

/// A document and how it is told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Document {
    /// Where the documents of version 3 are.
    Index,
    /// That of a group version, by its path.
    V3(String),
    V2,
    V2Protobuf,
}

impl Document {
    fn at(path: &[&str], headers: &HeaderMap) -> Option<Self> {
        let accept =
            headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
        match path {
            ["v3"] => Some(Self::Index),
            ["v3", rest @ ..] => Some(Self::V3(rest.join("/"))),
            ["v2"] => {
                let first =
                    accept.split(',').next().unwrap_or_default().split(';').next().unwrap_or_default().trim();
                let protobuf = openapi::V2_MEDIA_TYPES.contains(&first);
                Some(if protobuf { Self::V2Protobuf } else { Self::V2 })
            }
            _ => None,
        }
    }

    fn hash(&self) -> Option<String> {
        match self {
            Self::Index => Some(crate::cached::digest(&openapi::index())),
            Self::V3(path) => openapi::v3_hash(path).map(str::to_owned),
            Self::V2 => Some(openapi::v2_hash().to_owned()),
            Self::V2Protobuf => Some(format!("{}-protobuf", openapi::v2_hash())),
        }
    }

    fn body(&self) -> Option<Vec<u8>> {
        match self {
            Self::Index => Some(openapi::index()),
            Self::V3(path) => openapi::v3(path),
            Self::V2 => Some(openapi::v2()),
            Self::V2Protobuf => Some(openapi::v2_protobuf()),
        }
    }

    fn media(&self) -> &'static str {
        match self {
            Self::V2Protobuf => openapi::V2_MEDIA_TYPES[0],
            _ => "application/json",
        }
    }
}

/// Answers what stands below `/openapi`.
pub async fn answer(path: &[&str], query: &Query, headers: &HeaderMap, now: Timestamp) -> Response {
    let Some(document) = Document::at(path, headers) else { return reply::no_such_page() };
    let (asked, headers) = (query.text("hash").to_owned(), headers.clone());
    let made = tokio::task::spawn_blocking(move || make(&document, &asked, &headers, now)).await;
    made.unwrap_or_else(|_| reply::status(&proto_kube::Status::internal("making the document has panicked")))
}

fn make(document: &Document, asked: &str, headers: &HeaderMap, now: Timestamp) -> Response {
    let Some(hash) = document.hash() else { return reply::no_such_page() };
    if let (Document::V3(path), true) = (document, !asked.is_empty() && asked != hash) {
        return moved(&format!("/openapi/v3/{path}?hash={hash}"));
    }
    let tag = format!("\"{hash}\"");
    let mut response = if knows(headers, &tag) {
        let mut response = Response::new(reply::full(Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let Some(body) = document.body() else { return reply::no_such_page() };
        if accepts_gzip(headers) {
            let mut response = reply::bytes(200, document.media(), compress(&body));
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        } else {
            reply::bytes(200, document.media(), body)
        }
    };
    let found = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        found.insert(ETAG, tag);
    }
    found.insert(VARY, VARIES);
    if asked.is_empty() {
        found.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    } else {
        // What is asked for by its hash never changes.
        found.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let year =
            now.checked_add(SignedDuration::from_hours(365 * 24)).unwrap_or(now).to_zoned(TimeZone::UTC);
        if let Ok(expires) = HeaderValue::from_str(&year.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()) {
            found.insert(EXPIRES, expires);
        }
    }
    response
}

/// To the document of now, for one who asks for an older one.
fn moved(to: &str) -> Response {
    let mut response = Response::new(reply::full(Bytes::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(path: &str, query: &str, headers: &[(http::HeaderName, &str)]) -> Response {
        let headers = headers.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).unwrap())).collect();
        let parts: Vec<&str> = path.split('/').collect();
        answer(&parts, &Query::parse(query), &headers, Timestamp::UNIX_EPOCH).await
    }

    #[tokio::test]
    async fn documents_are_found_by_their_hash() {
        let hash = openapi::v3_hash("apis/batch/v1").unwrap();
        let found = ask("v3/apis/batch/v1", &format!("hash={hash}"), &[]).await;
        assert_eq!(found.status(), 200);
        assert_eq!(found.headers()[CACHE_CONTROL], "public, immutable");
        assert_eq!(found.headers()[EXPIRES], "Fri, 01 Jan 1971 00:00:00 GMT");
        let older = ask("v3/apis/batch/v1", "hash=old", &[]).await;
        assert_eq!(older.headers()[LOCATION], format!("/openapi/v3/apis/batch/v1?hash={hash}"));
        let tag = format!("\"{hash}\"");
        let known = ask("v3/apis/batch/v1", "", &[(http::header::IF_NONE_MATCH, &tag)]).await;
        assert_eq!(known.status().as_u16(), 304);
        let small = ask("v3/apis/batch/v1", "", &[(http::header::ACCEPT_ENCODING, "gzip")]).await;
        assert_eq!(small.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(ask("v3/apis/nope/v1", "", &[]).await.status().as_u16(), 404);
        assert_eq!(ask("v4", "", &[]).await.status().as_u16(), 404);
    }
}
