//! The copy of etcd's keys that is read and watched here.
//!
//! It is filled by a reading of the prefix at one revision and kept by a watch on all of etcd's keys: those of others
//! are dropped at once, but each change that is made anywhere moves the mirror's revision, and so a revision that
//! etcd tells is always one that the mirror reaches. (Progress notifications would spare that traffic, but etcd
//! before 3.4.25 and 3.5.8 may send them ahead of the events that they cover.)

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proto_etcd::{
    Event as Change, KeyValue, RangeRequest, ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
    event::EventType, watch_request::RequestUnion,
};
use tonic::{Request, Status, Streaming};

use super::client::{Client, words};
use crate::{
    Entry, History, State,
    engine::Clock,
    entry::NEVER,
    state::{Pending, exact},
    watch::Shared,
};

/// Where all keys of the API server are.
pub(super) const PREFIX: &str = "/registry/";
/// The first key behind the prefix.
const BEHIND: &str = "/registry0";
/// How many keys are read at once.
const PAGE: i64 = 1000;
/// How long the first and the longest wait before the next attempt are.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What a mirror was filled with.
pub(super) struct Filled<I> {
    pub(super) state: State<I>,
    pub(super) cluster: u64,
}

/// Reads everything under the prefix at one revision.
pub(super) async fn fill<I>(client: &Client) -> Result<Filled<I>, Status> {
    let (mut entries, mut from, mut revision) = (Vec::new(), Bytes::from(PREFIX), 0);
    loop {
        let page = RangeRequest {
            key: from.clone(),
            range_end: BEHIND.into(),
            limit: PAGE,
            revision,
            ..RangeRequest::default()
        };
        let page = client.range(page).await?;
        let header = page.header.unwrap_or_default();
        // Only the first page tells it: those behind it are asked for at this revision.
        if revision == 0 {
            revision = header.revision;
        }
        if let Some(last) = page.kvs.last() {
            from = Bytes::from([&last.key[..], &[0]].concat());
        }
        entries.extend(page.kvs.iter().filter_map(entry));
        if !page.more {
            return Ok(Filled { state: State::new(revision, entries), cluster: header.cluster_id });
        }
    }
}

/// What etcd holds, as an entry; `None` for a key that no API server has written.
pub(super) fn entry<I>(kv: &KeyValue) -> Option<Arc<Entry<I>>> {
    let key = std::str::from_utf8(&kv.key).ok()?;
    let (created, modified) = (kv.create_revision, kv.mod_revision);
    Some(Entry::new(key.into(), exact(&kv.value), created, modified, NEVER))
}

/// Keeps the mirror for as long as it is not aborted.
pub(super) struct Mirror<I> {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared<I>>,
    pub(super) history: History,
    pub(super) clock: Clock,
    pub(super) cluster: u64,
}

/// Why a watch has ended.
enum End {
    /// The next attempt may do better.
    Lost(String),
    /// What lies between the mirror and etcd cannot be watched any more.
    Stale(String),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        End::Lost(words(&status))
    }
}

impl<I: Send + Sync + 'static> Mirror<I> {
    /// Watches, again and again.
    pub(super) async fn run(mut self) {
        let mut wait = WAIT.0;
        loop {
            let before = self.shared.read().state.revision();
            let reason = match self.follow().await {
                End::Lost(reason) => reason,
                End::Stale(reason) => match self.refill(&reason).await {
                    Ok(()) => continue,
                    Err(status) => words(&status),
                },
            };
            tracing::warn!(reason, "the watch of etcd has ended");
            self.shared.trouble(Some(format!("etcd does not answer: {reason}")));
            if self.shared.read().state.revision() > before {
                wait = WAIT.0;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT.1);
        }
    }

    /// Reads everything anew. What happened in between is not known, so every watch here is told to do the same.
    async fn refill(&mut self, reason: &str) -> Result<(), Status> {
        let filled = fill(&self.client).await?;
        tracing::warn!(reason, revision = filled.state.revision(), "the mirror of etcd was filled anew");
        self.cluster = filled.cluster;
        self.shared.replace(filled.state);
        Ok(())
    }

    async fn follow(&mut self) -> End {
        let (at, mut watch) = self.client.watch();
        let after = self.shared.read().state.revision();
        let create = WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: after + 1,
            ..WatchCreateRequest::default()
        };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The stream of requests stays open: etcd ends the watch with it.
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        if requests.send(create).await.is_err() {
            return End::Lost("the request was not taken".to_owned());
        }
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
        // A member that has lost its leader ends the watch instead of going silent.
        request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
        let end = match watch.watch(request).await {
            Ok(stream) => self.listen(stream.into_inner()).await,
            Err(status) => Err(status.into()),
        };
        let end = end.err().unwrap_or_else(|| End::Lost("etcd has closed the watch".to_owned()));
        if let End::Lost(_) = end {
            self.client.leave(at);
        }
        end
    }

    async fn listen(&mut self, mut stream: Streaming<WatchResponse>) -> Result<(), End> {
        while let Some(response) = stream.message().await? {
            let header = response.header.unwrap_or_default();
            if response.canceled && response.compact_revision > 0 {
                return Err(End::Stale(format!("etcd is compacted up to {}", response.compact_revision)));
            }
            if response.canceled {
                return Err(End::Lost(format!("etcd has ended the watch: {}", response.cancel_reason)));
            }
            if response.created {
                self.verify(header).await?;
                self.shared.trouble(None);
            }
            self.publish(&response.events);
        }
        Ok(())
    }

    /// Whether this is still the etcd that the mirror was filled from, and not an older copy of it. A member that
    /// only lags is no reason to begin anew: a quorum is asked.
    async fn verify(&self, header: ResponseHeader) -> Result<(), End> {
        if header.cluster_id != self.cluster {
            return Err(End::Stale(format!("this is another cluster, {:x}", header.cluster_id)));
        }
        let here = self.shared.read().state.revision();
        if header.revision < here {
            let there = revision(&self.client).await?;
            if there < here {
                return Err(End::Stale(format!("etcd was set back from revision {here} to {there}")));
            }
        }
        Ok(())
    }

    fn publish(&self, changes: &[Change]) {
        let revision = |change: &Change| change.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let Some(last) = changes.last().map(revision) else { return };
        let events = {
            let inner = self.shared.read();
            let mut pending = Pending::new(&inner.state);
            let known = inner.state.revision();
            for change in changes.iter().filter(|change| revision(change) > known) {
                let kv = change.kv.clone().unwrap_or_default();
                match std::str::from_utf8(&kv.key) {
                    Ok(key) if key.starts_with(PREFIX) => {
                        let put = (change.r#type() == EventType::Put).then_some((
                            &kv.value[..],
                            kv.create_revision,
                            NEVER,
                        ));
                        pending.replay(key, put, kv.mod_revision);
                    }
                    _ => {}
                }
            }
            pending.events
        };
        self.shared.publish(&events, last, &self.history, self.clock.now());
    }
}

/// The revision that a quorum of the members agrees on.
pub(super) async fn revision(client: &Client) -> Result<i64, Status> {
    let request = RangeRequest { key: PREFIX.into(), count_only: true, ..RangeRequest::default() };
    let answer = client.range(request).await?;
    Ok(answer.header.unwrap_or_default().revision)
}
