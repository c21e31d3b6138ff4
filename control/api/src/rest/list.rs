//! Lists: which objects, as of which revision, in which pages.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use proto_kube::status::{Result, Status};
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::options::{List, Match};
use super::render::{Page, Renderer};
use super::{Entry, state};
use crate::reply::{self, Body, Response};
use crate::server::Store;

/// How long a read waits for a revision that has not arrived yet.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// A list is sent in pieces of about this many bytes.
const CHUNK: usize = 64 << 10;

/// Which keys a list or watch is about.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// What all keys begin with.
    pub prefix: String,
    /// The only key, when the selector names one object.
    pub key: Option<String>,
}

impl Scope {
    /// Of a request and its selectors.
    ///
    /// # Errors
    /// 400 when the path names another object than the field selector, 405 for what is not kept.
    pub(crate) fn of(call: &Call<'_>, options: &List) -> Result<Self> {
        let resource = call.stored;
        let refusal = || Status::method_not_allowed(resource.group_resource(), "list");
        let prefix = resource.prefix().ok_or_else(refusal)?;
        let selected = options.fields.exactly("metadata.name");
        let name = match (call.path_name(), selected) {
            ("", selected) => selected.unwrap_or_default(),
            (name, Some(selected)) if name != selected => {
                let why = "fieldSelector metadata.name doesn't match requested name";
                return Err(Status::bad_request(why));
            }
            (name, _) => name,
        };
        let fitting = |text: &str| !text.is_empty() && proto_kube::name::path_segment(text).is_empty();
        let namespace = match (resource.namespaced, call.namespace) {
            (false, _) => "",
            (true, "") => options.fields.exactly("metadata.namespace").filter(|n| fitting(n)).unwrap_or(""),
            (true, namespace) => namespace,
        };
        let prefix = if namespace.is_empty() { prefix } else { format!("{prefix}{namespace}/") };
        let known = fitting(name) && resource.namespaced != namespace.is_empty();
        let key = known.then(|| format!("{prefix}{name}"));
        Ok(Self { prefix, key })
    }
}

/// The objects of a list.
pub(crate) struct Found {
    /// What stands at its head.
    pub page: Page,
    /// Its items.
    pub entries: Vec<Arc<Entry>>,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

fn encode(start: &str, revision: i64) -> String {
    let token = Token { v: "meta.k8s.io/v1".to_owned(), rv: revision, start: format!("{start}\0") };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// The key behind which a page begins, relative to the prefix, and the revision of the list.
fn decode(token: &str) -> Result<(String, i64)> {
    let wrong = |why: &str| Status::bad_request(format!("invalid continue token: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(token.trim_end_matches('='))
        .map_err(|e| wrong(&format!("continue key is not valid: {e}")))?;
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|e| wrong(&format!("continue key is not valid: {e}")))?;
    if token.v != "meta.k8s.io/v1" {
        let version = token.v;
        let why =
            format!("continue key is not valid: server does not recognize this encoded version {version}");
        return Err(wrong(&why));
    }
    if token.rv == 0 {
        let why =
            "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
        return Err(wrong(why));
    }
    if token.start.is_empty() {
        return Err(wrong("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)"));
    }
    let clean = token.start.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match token.start.strip_suffix('\0') {
        Some(start) if clean => Ok((start.to_owned(), token.rv)),
        _ => Err(wrong(&format!("continue key is not valid: {}", token.start))),
    }
}

/// Waits until a revision is there.
///
/// # Errors
/// 504 when it is not within [`PATIENCE`].
pub(crate) async fn reach(store: &Store, revision: u64) -> Result<()> {
    let wanted = i64::try_from(revision).unwrap_or(i64::MAX);
    if store.revision() >= wanted || store.wait_for(wanted, PATIENCE).await {
        return Ok(());
    }
    Err(Status::too_large_resource_version(wanted, store.revision()))
}

/// Makes sure that what is read next contains everything acknowledged before.
///
/// # Errors
/// 500 when the store does not answer.
pub(crate) async fn refresh(store: &Store) -> Result<()> {
    store.current().await.map(drop).map_err(state::unreachable)
}

/// Where a list begins and as of which revision it is read; `None` for the newest.
async fn start(store: &Store, options: &List) -> Result<(Option<String>, Option<i64>)> {
    if !options.token.is_empty() {
        let (start, revision) = decode(&options.token)?;
        if revision < 0 {
            refresh(store).await?;
        } else {
            reach(store, u64::try_from(revision).unwrap_or(0)).await?;
        }
        return Ok((Some(start), (revision > 0).then_some(revision)));
    }
    match options.revision {
        None => refresh(store).await?,
        Some(0) => {}
        Some(revision) => {
            reach(store, revision).await?;
            let exact = match options.matching {
                Match::Exact => true,
                Match::NotOlderThan => false,
                Match::Unset => options.limit > 0,
            };
            if exact {
                return Ok((None, i64::try_from(revision).ok()));
            }
        }
    }
    Ok((None, None))
}

const EXPIRED: &str = "The resourceVersion for the provided list is too old.";
const EXPIRED_PAGE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Finds the objects of a list.
///
/// # Errors
/// 410 when the revision is compacted, 504 when it has not arrived yet, 400 for a bad token.
pub(crate) async fn select(store: &Store, scope: &Scope, options: &List) -> Result<Found> {
    let (start, at) = start(store, options).await?;
    let expired = |_| match &start {
        Some(start) => Status::expired(EXPIRED_PAGE).with_continue(encode(start, -1)),
        None => Status::expired(EXPIRED),
    };
    if let Some(key) = &scope.key {
        return single(store, key, at, options).map_err(expired);
    }
    let unselected = options.labels.is_empty() && options.fields.is_empty();
    let limit = if options.revision == Some(0) { 0 } else { options.limit };
    let after = start.as_ref().map(|start| format!("{}{start}", scope.prefix));
    let range =
        store::Range { after: after.as_deref(), limit: (unselected && limit > 0).then_some(limit), at };
    let mut found = store.range(&scope.prefix, range).map_err(expired)?;
    let mut remaining = found.remaining;
    if !unselected {
        let admitted = |entry: &Arc<Entry>| entry.index().selected(&options.labels, &options.fields);
        let total = found.entries.len();
        let mut seen = 0;
        let mut entries = Vec::new();
        for entry in found.entries {
            seen += 1;
            if admitted(&entry) {
                entries.push(entry);
            }
            if limit > 0 && entries.len() == limit {
                break;
            }
        }
        remaining = total - seen;
        found.entries = entries;
    }
    let mut page = Page { revision: found.revision, ..Page::default() };
    if let Some(last) = found.entries.last().filter(|_| remaining > 0) {
        page.token = encode(last.key.strip_prefix(&*scope.prefix).unwrap_or(&last.key), found.revision);
        page.remaining = unselected.then_some(remaining);
    }
    Ok(Found { page, entries: found.entries })
}

/// The list of at most one object.
fn single(
    store: &Store,
    key: &str,
    at: Option<i64>,
    options: &List,
) -> std::result::Result<Found, store::Compacted> {
    let revision = at.unwrap_or_else(|| store.revision());
    let entry = store.get_at(key, revision)?;
    let entries =
        entry.into_iter().filter(|e| e.index().selected(&options.labels, &options.fields)).collect();
    Ok(Found { page: Page { revision, ..Page::default() }, entries })
}

/// Answers a list.
///
/// # Errors
/// What is wrong with the request, and what [`select`] answers.
pub(crate) async fn list(call: &Call<'_>) -> Result<Response> {
    let renderer = call.renderer()?;
    let options = call.selection(false)?;
    let scope = Scope::of(call, &options)?;
    let found = select(&call.server.store, &scope, &options).await?;
    Ok(answer(renderer, found))
}

/// A list as an answer.
#[must_use]
pub(crate) fn answer(renderer: Renderer, found: Found) -> Response {
    let Found { page, entries } = found;
    let media = renderer.form.media.name();
    if !renderer.streams() {
        return reply::bytes(200, media, renderer.list(&page, &entries));
    }
    let mut pieces =
        Pieces { renderer, next: Some(renderer.head(&page)), entries: entries.into_iter(), first: true };
    let head = pieces.next().unwrap_or_default();
    if pieces.next.is_none() {
        return reply::bytes(200, media, head);
    }
    let pieces = stream::iter(std::iter::once(head).chain(pieces).map(|piece| Ok(Frame::data(piece))));
    let mut response = reply::bytes(200, media, Bytes::new());
    *response.body_mut() = Body::new(StreamBody::new(pieces).boxed_unsync());
    response
}

/// A list in pieces: each is made when the client has taken the one before.
struct Pieces {
    renderer: Renderer,
    /// What the next piece begins with; `None` behind the last.
    next: Option<Vec<u8>>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    first: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = self.next.take()?;
        while piece.len() < CHUNK {
            let Some(entry) = self.entries.next() else {
                piece.extend_from_slice(b"]}\n");
                return Some(piece.into());
            };
            if !std::mem::take(&mut self.first) {
                piece.push(b',');
            }
            self.renderer.item(&mut piece, &entry);
        }
        self.next = Some(Vec::with_capacity(CHUNK + CHUNK / 4));
        Some(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        assert_eq!(decode(&encode("default/c1", 235)), Ok(("default/c1".to_owned(), 235)));
        let upstream = URL_SAFE_NO_PAD.encode(br#"{"v":"meta.k8s.io/v1","rv":235,"start":"c1\u0000"}"#);
        assert_eq!(decode(&upstream), Ok(("c1".to_owned(), 235)));
        for (token, why) in [
            (r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a\u0000"}"#, "incorrect encoded start resourceVersion"),
            (r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#, "encoded start key empty"),
            (r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../x\u0000"}"#, "continue key is not valid"),
            (r#"{"v":"v9","rv":1,"start":"a\u0000"}"#, "does not recognize this encoded version v9"),
            ("[]", "continue key is not valid"),
        ] {
            let refusal = decode(&URL_SAFE_NO_PAD.encode(token)).unwrap_err();
            assert_eq!(refusal.code, 400);
            assert!(refusal.message.contains(why), "{}", refusal.message);
        }
        assert_eq!(decode("%%").unwrap_err().code, 400);
    }
}
