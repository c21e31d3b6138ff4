//! What the verbs keep between requests: the newest events as they were written down, so that each is written once for
//! all watchers that ask for the same form.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use proto_kube::Status;

use super::Entry;
use super::negotiate::Form;
use super::options::Include;
use super::render::Renderer;

/// How many events are kept, and how many bytes of them.
const EVENTS: usize = 512;
const BYTES: usize = 4 << 20;

/// What the verbs keep between requests.
#[derive(Default)]
pub struct State {
    events: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    known: HashMap<Event, Bytes>,
    order: VecDeque<Event>,
    bytes: usize,
}

/// An event in a form.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Event {
    revision: i64,
    key: Box<str>,
    kind: &'static str,
    resource: (&'static str, &'static str),
    form: Form,
    include: Include,
    first: bool,
}

impl State {
    /// An event as bytes that all watchers share.
    pub(crate) fn event(
        &self,
        renderer: &Renderer,
        kind: &'static str,
        entry: &Entry,
        revision: i64,
        first: bool,
    ) -> Bytes {
        let event = Event {
            revision,
            key: entry.key.clone(),
            kind,
            resource: (renderer.resource.group, renderer.resource.version),
            form: renderer.form,
            include: renderer.include,
            first,
        };
        let mut written = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = written.known.get(&event) {
            return bytes.clone();
        }
        // Writing a large object takes longer than others should wait; two that write the same one do no harm.
        drop(written);
        let bytes = renderer.event(kind, entry, revision, first);
        written = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        written.keep(event, bytes.clone());
        bytes
    }
}

impl Written {
    fn keep(&mut self, event: Event, bytes: Bytes) {
        if self.known.insert(event.clone(), bytes.clone()).is_some() {
            return;
        }
        self.order.push_back(event);
        self.bytes += bytes.len();
        while self.order.len() > EVENTS || self.bytes > BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            self.bytes -= self.known.remove(&oldest).map_or(0, |bytes| bytes.len());
        }
    }
}

/// What a client is told when the store does not answer.
pub(crate) fn unreachable(error: store::Error) -> Status {
    tracing::error!(error = &error as &dyn std::error::Error, "reading the store");
    Status::internal(error)
}
