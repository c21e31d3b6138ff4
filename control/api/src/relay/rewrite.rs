//! Links of a page behind the proxy: what leads to the page's own host leads back through the proxy.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::HeaderMap;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::Frame;

use crate::reply::{Body, BoxError};

/// A tag is taken for text when it is longer, in bytes.
const TAG_MAX: usize = 64 << 10;
/// Elements and their attributes that are links (HTML 5, attributes that are URLs).
const ATTRIBUTES: [(&str, &[&str]); 20] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("link", &["href"]),
    ("script", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is no markup.
const RAW: [&str; 4] = ["script", "style", "textarea", "title"];

/// How links are rewritten.
#[derive(Debug, Clone)]
pub(super) struct Links {
    /// The path that leads to the backend's `/`.
    prefix: String,
    /// The hosts by which the page may name itself.
    own: Vec<String>,
}

impl Links {
    /// Of a page of `backend` that was asked for below `prefix`.
    pub(super) fn new(prefix: &str, backend: &str, authority: Option<&str>, headers: &HeaderMap) -> Self {
        let host = headers.get(http::header::HOST).and_then(|v| v.to_str().ok());
        let own = [Some(backend), authority, host].into_iter().flatten().map(str::to_owned).collect();
        Self { prefix: prefix.to_owned(), own }
    }

    /// A link as the client must see it. What is relative, and what leads elsewhere, stays.
    pub(super) fn rewrite(&self, link: &str) -> String {
        let (scheme, rest) = match link.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || scheme == "http:" || scheme == "https:" => {
                (Some(scheme), rest)
            }
            _ => (None, link),
        };
        let (host, path) = match scheme {
            Some(_) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        let is_other = !host.is_empty() && !self.own.iter().any(|own| own == host);
        if is_other || !path.starts_with('/') {
            return link.to_owned();
        }
        let known =
            path.strip_prefix(&self.prefix).is_some_and(|p| p.is_empty() || p.starts_with(['/', '?', '#']));
        if known { path.to_owned() } else { format!("{}{path}", self.prefix) }
    }
}

/// Rewrites the links of a page as it comes.
pub(super) struct Rewriter {
    links: Links,
    /// What has come of a tag, or of what may become the end of a raw element.
    pending: Vec<u8>,
    /// The raw element that is open.
    raw: Option<&'static str>,
}

impl Rewriter {
    pub(super) fn new(links: Links) -> Self {
        Self { links, pending: Vec::new(), raw: None }
    }

    /// A body that is rewritten as it is read.
    pub(super) fn over(self, body: Body) -> Body {
        let frames = BodyStream::new(body).map(Some).chain(futures_util::stream::once(async { None }));
        let rewritten = frames.scan(self, |rewriter, frame| {
            let out: Option<Result<Frame<Bytes>, BoxError>> = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(Frame::data(rewriter.feed(&data)))),
                    Err(other) => Some(Ok(other)),
                },
                Some(Err(error)) => Some(Err(error)),
                None => Some(Ok(Frame::data(Bytes::from(std::mem::take(&mut rewriter.pending))))),
            };
            std::future::ready(out)
        });
        StreamBody::new(rewritten).boxed_unsync()
    }

    /// Takes a piece and gives what is certain by now.
    fn feed(&mut self, data: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(data.len() + 256);
        let mut input = std::mem::take(&mut self.pending);
        input.extend_from_slice(data);
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let Some(at) = rest.iter().position(|byte| *byte == b'<') else {
                out.extend_from_slice(rest);
                break;
            };
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            let Some(length) = self.markup(rest) else {
                if rest.len() > TAG_MAX {
                    out.extend_from_slice(&rest[..1]);
                    rest = &rest[1..];
                    continue;
                }
                self.pending = rest.to_vec();
                break;
            };
            let (markup, after) = rest.split_at(length);
            out.extend_from_slice(&self.written(markup));
            rest = after;
        }
        out.freeze()
    }

    /// The length of what begins with `<`: a tag, a comment, or the sign alone. `None` until more has come.
    fn markup(&self, text: &[u8]) -> Option<usize> {
        if let Some(raw) = self.raw {
            let end = format!("</{raw}");
            if text.len() < end.len() {
                return (!end.as_bytes()[..text.len()].eq_ignore_ascii_case(text)).then_some(1);
            }
            return if text[..end.len()].eq_ignore_ascii_case(end.as_bytes()) {
                close(text)
            } else {
                Some(1)
            };
        }
        match text.get(1)? {
            b'!' if text.len() < 4 => None,
            b'!' if text.starts_with(b"<!--") => text.windows(3).position(|w| w == b"-->").map(|at| at + 3),
            b'!' | b'?' | b'/' => close(text),
            byte if byte.is_ascii_alphabetic() => close(text),
            _ => Some(1),
        }
    }

    fn written(&mut self, markup: &[u8]) -> Vec<u8> {
        if self.raw.is_some() {
            if markup.len() > 1 {
                self.raw = None;
            }
            return markup.to_vec();
        }
        let Ok(text) = std::str::from_utf8(markup) else { return markup.to_vec() };
        let Some(tag) = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')) else {
            return markup.to_vec();
        };
        let end = tag.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(tag.len());
        let name = tag[..end].to_ascii_lowercase();
        if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return markup.to_vec();
        }
        self.raw = RAW.into_iter().find(|raw| *raw == name);
        match ATTRIBUTES.iter().find(|(element, _)| *element == name) {
            Some((_, links)) => self.attributes(&text[..=end], &tag[end..], links).into_bytes(),
            None => markup.to_vec(),
        }
    }

    /// A start tag with its links rewritten, all else as it was.
    fn attributes(&self, head: &str, attributes: &str, links: &[&str]) -> String {
        let mut out = head.to_owned();
        let mut at = 0;
        for (name, (start, end)) in values(attributes) {
            if links.iter().any(|link| name.eq_ignore_ascii_case(link)) {
                out += &attributes[at..start];
                out += &self.links.rewrite(&attributes[start..end]);
                at = end;
            }
        }
        out + &attributes[at..] + ">"
    }
}

/// Where a tag ends: at the first `>` outside of quotes.
fn close(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') if text[..at].ends_with(b"=") => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// Names of attributes, and where their values stand.
fn values(text: &str) -> Vec<(&str, (usize, usize))> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    let skip = |mut at: usize| {
        while at < bytes.len() && (bytes[at].is_ascii_whitespace() || bytes[at] == b'/') {
            at += 1;
        }
        at
    };
    loop {
        at = skip(at);
        let start = at;
        while at < bytes.len() && !bytes[at].is_ascii_whitespace() && bytes[at] != b'=' {
            at += 1;
        }
        let name = &text[start..at];
        let after = skip(at);
        if after >= bytes.len() || (name.is_empty() && bytes[after] != b'=') {
            return found;
        }
        if bytes[after] != b'=' {
            at = after;
            continue;
        }
        at = after + 1;
        while at < bytes.len() && bytes[at].is_ascii_whitespace() {
            at += 1;
        }
        let quote = bytes.get(at).copied().filter(|b| matches!(b, b'"' | b'\''));
        let start = at + usize::from(quote.is_some());
        let ends = |byte: u8| quote.map_or(byte.is_ascii_whitespace(), |quote| byte == quote);
        let end =
            bytes[start.min(bytes.len())..].iter().position(|b| ends(*b)).map_or(bytes.len(), |n| start + n);
        found.push((name, (start, end)));
        at = end + usize::from(quote.is_some());
        if at >= bytes.len() {
            return found;
        }
    }
}

#[cfg(test)]
mod tests;
