//! Watches: what there is, then each change, until time is up, the client leaves or the server ends. A watch is driven by
//! its reader: a client that does not read costs its place in the store's history and nothing else, and a watch that
//! falls behind that history ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use proto_kube::object;
use proto_kube::status::{Result, Status};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::call::Call;
use super::list::{self, Found, Scope};
use super::negotiate::Form;
use super::options::{Include, List};
use super::render::Renderer;
use super::{Entry, Index};
use crate::reply::{self, Body, Response};
use crate::server::Server;

/// How often a watch tells how far it is.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// What is there already is sent in pieces of about this many bytes.
const CHUNK: usize = 64 << 10;
/// How long a watch lasts at least when the client does not say; at most twice as long.
const LEAST: u64 = 1_800;

/// A watch on its way to a client.
struct Watch {
    server: Arc<Server>,
    renderer: Renderer,
    options: List,
    key: Option<String>,
    source: Source,
    /// When the watch ends.
    deadline: Instant,
    /// When the next bookmark is due.
    bookmark: Instant,
    /// The revision that the client knows to have been reached.
    told: i64,
    /// Whether nothing has been sent yet.
    first: bool,
}

/// Where the next events come from.
enum Source {
    /// What there is at the beginning, then the changes.
    Initial(std::vec::IntoIter<Arc<Entry>>, Changes),
    /// The changes.
    Changes(Changes),
    /// A refusal, then nothing.
    Refusal(Status),
    /// Nothing.
    Ended,
}

type Changes = store::Watch<Index>;
type Batch = store::Batch<Index>;

fn too_old(gone: store::Compacted) -> Status {
    Status::expired(format!("too old resource version: {} ({})", gone.asked, gone.oldest))
}

/// Answers a watch.
///
/// # Errors
/// What is wrong with the request. What goes wrong later is an event.
pub(crate) async fn watch(call: &Call<'_>) -> Result<Response> {
    let form = Form::accepted_stream(call.header("accept"))?;
    let include = Include::parse(&call.ctx.query)?;
    let options = call.selection(true)?;
    let scope = Scope::of(call, &options)?;
    let seconds = options.seconds.filter(|s| *s > 0).unwrap_or_else(|| fastrand::u64(LEAST..2 * LEAST));
    let source = begin(call.server, &scope, &options).await.unwrap_or_else(Source::Refusal);
    let begun = Instant::now();
    let watch = Watch {
        server: call.server.clone(),
        renderer: Renderer { resource: call.resource, form, include, now: call.ctx.now },
        key: scope.key,
        source,
        deadline: begun + Duration::from_secs(seconds),
        bookmark: begun + BOOKMARKS,
        told: 0,
        first: true,
        options,
    };
    let pieces = stream::unfold(watch, |mut watch| async move {
        let piece = watch.next().await?;
        Some((Ok(Frame::data(piece)), watch))
    });
    let mut response = reply::bytes(200, form.stream_type(), Bytes::new());
    *response.body_mut() = Body::new(StreamBody::new(pieces).boxed_unsync());
    Ok(response)
}

/// Finds where the events come from.
async fn begin(server: &Server, scope: &Scope, options: &List) -> Result<Source> {
    let store = &server.store;
    let prefix = scope.key.as_deref().unwrap_or(&scope.prefix);
    let initial = options.initial.unwrap_or(matches!(options.revision, None | Some(0)));
    match options.revision {
        None => list::refresh(store).await?,
        Some(revision) if initial => list::reach(store, revision).await?,
        Some(_) => {}
    }
    if initial {
        let all = List { revision: Some(0), token: String::new(), ..options.clone() };
        let Found { page, entries } = list::select(store, scope, &all).await?;
        let watch = store.watch(prefix, page.revision).map_err(too_old)?;
        return Ok(Source::Initial(entries.into_iter(), watch));
    }
    let after = match options.revision {
        None | Some(0) => store.revision(),
        Some(revision) => i64::try_from(revision).unwrap_or(i64::MAX),
    };
    Ok(Source::Changes(store.watch(prefix, after).map_err(too_old)?))
}

impl Watch {
    /// The next events as bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let due = if self.options.bookmarks { self.deadline.min(self.bookmark) } else { self.deadline };
            let piece = match std::mem::replace(&mut self.source, Source::Ended) {
                Source::Initial(entries, changes) => self.initial(entries, changes),
                Source::Refusal(status) => self.renderer.frame("ERROR", &status.to_json(), false),
                Source::Ended => return None,
                Source::Changes(mut changes) => {
                    let turn = tokio::select! {
                        batch = changes.next() => Some(batch?),
                        () = tokio::time::sleep_until(due) => None,
                        () = self.server.ends.cancelled() => return None,
                    };
                    self.turn(changes, turn)
                }
            };
            if !piece.is_empty() {
                return Some(piece);
            }
        }
    }

    /// Events have come, or a bookmark or the end is due.
    fn turn(
        &mut self,
        mut changes: Changes,
        batch: Option<std::result::Result<Batch, store::Compacted>>,
    ) -> Bytes {
        let now = Instant::now();
        let due = batch.is_none();
        match batch.unwrap_or_else(|| changes.try_next()) {
            Err(gone) => self.source = Source::Refusal(too_old(gone)),
            Ok(batch) => {
                if now < self.deadline {
                    self.source = Source::Changes(changes);
                }
                if !batch.events.is_empty() {
                    return self.changes(&batch);
                }
                self.bookmark = now + BOOKMARKS;
                if due && self.options.bookmarks && batch.revision > self.told {
                    return self.mark(batch.revision, false);
                }
            }
        }
        Bytes::new()
    }

    /// What is there at the beginning, a piece at a time; behind it the bookmark that says so.
    fn initial(&mut self, mut entries: std::vec::IntoIter<Arc<Entry>>, changes: Changes) -> Bytes {
        let mut piece = BytesMut::new();
        self.renderer.now = self.server.now();
        for entry in entries.by_ref() {
            let first = std::mem::take(&mut self.first);
            piece.extend_from_slice(&self.renderer.event("ADDED", &entry, entry.mod_revision, first));
            if piece.len() >= CHUNK {
                self.source = Source::Initial(entries, changes);
                return piece.freeze();
            }
        }
        if self.options.initial == Some(true) && self.options.bookmarks {
            piece.extend_from_slice(&self.mark(changes.revision(), true));
        }
        self.source = Source::Changes(changes);
        piece.freeze()
    }

    /// The events of a batch that the selectors admit.
    fn changes(&mut self, batch: &Batch) -> Bytes {
        let mut pieces = Vec::new();
        for event in &batch.events {
            if self.key.as_deref().is_some_and(|key| key != event.key()) {
                continue;
            }
            let admitted =
                |entry: &&Arc<Entry>| entry.index().selected(&self.options.labels, &self.options.fields);
            let (kind, entry) =
                match (event.entry.as_ref().filter(admitted), event.previous.as_ref().filter(admitted)) {
                    (Some(now), None) => ("ADDED", now),
                    (Some(now), Some(_)) => ("MODIFIED", now),
                    (None, Some(before)) => ("DELETED", before),
                    (None, None) => continue,
                };
            self.renderer.now = self.server.now();
            let first = std::mem::take(&mut self.first);
            pieces.push(self.server.rest.event(&self.renderer, kind, entry, event.revision, first));
            self.told = event.revision;
        }
        match pieces.as_slice() {
            [piece] => piece.clone(),
            pieces => pieces.concat().into(),
        }
    }

    /// An event that tells how far the watch is; `initial` says that what was there has been sent.
    fn mark(&mut self, revision: i64, initial: bool) -> Bytes {
        self.told = revision;
        let mut object: Value = json!({
            "kind": self.renderer.resource.kind,
            "apiVersion": self.renderer.resource.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial {
            object::metadata(&mut object)
                .insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let first = std::mem::take(&mut self.first);
        self.renderer.frame("BOOKMARK", &object, first)
    }
}
