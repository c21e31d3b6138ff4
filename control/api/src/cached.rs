//! Documents that change only with the program: made once, told apart by their digest, sent small.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::HeaderMap;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, VARY,
};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use sha2::{Digest, Sha512};

use crate::authn::hex;
use crate::reply::{self, BoxError, Response};

/// From this size on a body is compressed for who accepts that, as upstream does it.
pub const WORTHWHILE: usize = 128 << 10;

/// A document.
#[derive(Debug)]
pub struct Document {
    media: &'static str,
    body: Bytes,
    digest: String,
    small: OnceLock<Bytes>,
}

impl Document {
    /// A document of a media type.
    #[must_use]
    pub fn new(media: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let digest = digest(&body);
        Self { media, body, digest, small: OnceLock::new() }
    }

    /// What tells this document from every other.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The answer to one who asks with these headers: nothing when he has the document already, small when he accepts
    /// that. Caches may keep it as `caching` says, and must tell apart requests by the headers `vary`.
    #[must_use]
    pub fn answer(&self, headers: &HeaderMap, caching: &'static str, vary: &'static str) -> Response {
        let tag = format!("\"{}\"", self.digest);
        let mut response = if knows(headers, &tag) {
            let mut response = Response::new(reply::full(Bytes::new()));
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
            response
        } else if self.body.len() >= WORTHWHILE && accepts_gzip(headers) {
            let body = self.small.get_or_init(|| compress(&self.body)).clone();
            let mut response = reply::bytes(200, self.media, body);
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        } else {
            reply::bytes(200, self.media, self.body.clone())
        };
        let mut set = |name: HeaderName, value: Option<HeaderValue>| {
            if let Some(value) = value {
                response.headers_mut().insert(name, value);
            }
        };
        set(ETAG, HeaderValue::from_str(&tag).ok());
        set(CACHE_CONTROL, Some(HeaderValue::from_static(caching)));
        set(VARY, Some(HeaderValue::from_static(vary)));
        response
    }
}

/// What tells a body from every other.
#[must_use]
pub fn digest(body: &[u8]) -> String {
    hex(&Sha512::digest(body)).to_uppercase()
}

/// Whether a client has what this tag stands for.
#[must_use]
pub fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).any(|v| v == tag || v == "*")
}

/// Whether a client takes gzip.
#[must_use]
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts
            .any(|p| p.replace(' ', "").strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0_f32));
        named && !refused
    })
}

/// Makes a large body small on its way out, piece by piece; a small one goes as it is.
pub async fn shrink(response: Response) -> Response {
    let plain =
        response.status() == http::StatusCode::OK && !response.headers().contains_key(CONTENT_ENCODING);
    if !plain {
        return response;
    }
    let (mut parts, mut body) = response.into_parts();
    let (mut head, mut size) = (VecDeque::new(), 0);
    while size < WORTHWHILE {
        match body.frame().await {
            None => {
                let pieces: Vec<Bytes> = head.into_iter().collect();
                let whole = if pieces.len() == 1 { pieces[0].clone() } else { pieces.concat().into() };
                return Response::from_parts(parts, reply::full(whole));
            }
            // The connection breaks where the body does.
            Some(Err(error)) => {
                let broken = stream::iter([Err::<Frame<Bytes>, _>(error)]);
                return Response::from_parts(parts, StreamBody::new(broken).boxed_unsync());
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    size += data.len();
                    head.push_back(data);
                }
            }
        }
    }
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let pieces = stream::try_unfold((body, head, encoder), |(mut body, mut head, encoder)| async move {
        let Some(mut encoder) = encoder else { return Ok::<_, BoxError>(None) };
        let next = match head.pop_front() {
            Some(data) => Some(data),
            None => body.frame().await.transpose()?.map(|frame| frame.into_data().unwrap_or_default()),
        };
        let (piece, encoder) = match next {
            Some(data) => {
                encoder.write_all(&data)?;
                (std::mem::take(encoder.get_mut()), Some(encoder))
            }
            None => (encoder.finish()?, None),
        };
        Ok(Some((Frame::data(Bytes::from(piece)), (body, head, encoder))))
    });
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(http::header::CONTENT_LENGTH);
    Response::from_parts(parts, StreamBody::new(pieces).boxed_unsync())
}

/// Quick rather than smallest, as upstream's.
#[must_use]
pub fn compress(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory cannot fail").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_known_document_is_not_sent_again() {
        let document = Document::new("application/json", r#"{"a":1}"#);
        let tag = format!("\"{}\"", document.digest());
        let ask = |value: &str| document.answer(&headers(&[(IF_NONE_MATCH, value)]), "public", "Accept");
        assert_eq!(ask(&tag).status(), 304);
        assert_eq!(ask(&format!("\"x\", {tag}")).status(), 304);
        let new = ask("\"x\"");
        assert_eq!(
            (new.status().as_u16(), &new.headers()[ETAG], &new.headers()[VARY]),
            (200, &HeaderValue::from_str(&tag).unwrap(), &HeaderValue::from_static("Accept"))
        );
    }

    #[tokio::test]
    async fn bodies_are_made_small_piece_by_piece() {
        use std::io::Read as _;
        let pieces = |count: usize| {
            let pieces = (0..count).map(|i| {
                Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'a' + u8::try_from(i % 26).unwrap(); 1000])))
            });
            Response::new(StreamBody::new(stream::iter(pieces.collect::<Vec<_>>())).boxed_unsync())
        };
        let plain = pieces(300).into_body().collect().await.unwrap().to_bytes();
        let small = shrink(pieces(300)).await;
        assert_eq!(small.headers()[CONTENT_ENCODING], "gzip");
        let small = small.into_body().collect().await.unwrap().to_bytes();
        let mut found = Vec::new();
        flate2::read::GzDecoder::new(&small[..]).read_to_end(&mut found).unwrap();
        assert!(small.len() < 10_000 && found == plain);
        let short = shrink(pieces(3)).await;
        assert!(!short.headers().contains_key(CONTENT_ENCODING));
        assert_eq!(short.into_body().collect().await.unwrap().to_bytes(), plain[..3000]);
    }

    #[test]
    fn large_bodies_are_compressed_for_who_takes_that() {
        let large = Document::new("text/plain", vec![b'a'; WORTHWHILE]);
        let coding = |document: &Document, accept: &str| {
            let response = document.answer(&headers(&[(ACCEPT_ENCODING, accept)]), "public", "");
            response.headers().contains_key(CONTENT_ENCODING)
        };
        assert!(coding(&large, "gzip") && coding(&large, "deflate, GZIP;q=0.5"));
        assert!(!coding(&large, "gzip;q=0") && !coding(&large, "deflate"));
        assert!(!coding(&Document::new("text/plain", "a"), "gzip"));
    }
}
