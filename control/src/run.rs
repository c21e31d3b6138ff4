//! Runs one controller: events become keys, keys become decisions, decisions become requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use client::{Cache, Event};
use controllers::{Controller, Facts, Key, Mutation, Outcome, Refused, World};
use jiff::Timestamp;
use proto_kube::{GroupResource, Resource, resource};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::End;
use crate::apply::Hand;
use crate::metrics::{self, Metrics};
use crate::pending::{Expected, Id};
use crate::work::{self, Round, SLEEP_MAX, Work};

/// So many keys are worked on at once.
const ROUNDS_MAX: usize = 16;
/// So many events are taken before the next key.
const EVENTS_MAX: usize = 256;
/// What has come back from the server.
enum Back {
    /// A round is over; when to look again.
    Round(Key, Vec<Expected>, End, Option<Timestamp>),
    /// An object was asked for; no answer where the server is in trouble.
    Answer(Id, Option<Option<Value>>),
}

/// A running controller.
pub(crate) struct Runner {
    pub(crate) controller: Arc<dyn Controller>,
    pub(crate) cache: Cache,
    pub(crate) facts: Facts,
    pub(crate) hand: Arc<Hand>,
    pub(crate) metrics: Metrics,
}

/// What a running controller knows.
struct State {
    started: Instant,
    work: Work,
    rounds: usize,
}

impl State {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Runner {
    /// Works until it is told to stop; then finishes what is under way.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let reads: Vec<&'static Resource> =
            self.hand.reads.iter().filter_map(|r| resource::preferred(*r)).collect();
        let mut events: Vec<_> = reads.iter().map(|resource| self.subscribe(resource)).collect();
        tokio::select! {
            () = self.cache.settled(&reads) => {}
            () = stop.cancelled() => return,
        }
        let mut state = State { started: Instant::now(), work: Work::default(), rounds: 0 };
        let mut under_way = JoinSet::new();
        loop {
            self.begin(&mut state, &mut under_way);
            self.metrics.set(metrics::DEPTH, ("name", self.controller.name()), state.work.depth());
            let wake = [state.work.wake_at(), state.work.ask_at()].into_iter().flatten().min();
            let wake = state.started + wake.unwrap_or(state.now() + SLEEP_MAX);
            tokio::select! {
                event = next(&mut events) => match event {
                    Some(event) => self.take(&mut state, event, &mut events),
                    None => return,
                },
                Some(back) = under_way.join_next() => {
                    if let Ok(back) = back {
                        self.back(&mut state, back);
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
                () = stop.cancelled() => break,
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    fn subscribe(&self, resource: &'static Resource) -> UnboundedReceiver<Event> {
        let (controller, of) = (self.controller.clone(), resource.group_resource());
        let need = move |object: &Value| controller.needs(of, object);
        self.cache.subscribe_some(resource, self.controller.name(), Arc::new(need))
    }

    /// Begins what can be begun.
    fn begin(&self, state: &mut State, under_way: &mut JoinSet<Back>) {
        let now = state.now();
        for id in state.work.overdue(now) {
            let client = self.cache.client().clone();
            under_way.spawn(async move {
                let answer = match client.get(id.0, &id.1, &id.2).await {
                    Ok(object) => Some(Some(object)),
                    Err(error) if error.code() == Some(404) => Some(None),
                    Err(_) => None,
                };
                Back::Answer(id, answer)
            });
        }
        while state.rounds < ROUNDS_MAX {
            let Some((key, refused)) = state.work.take(now) else { break };
            self.metrics.count(metrics::RECONCILES, ("name", self.controller.name()));
            let Some(Outcome { mutations, again }) = self.decide(refused.as_ref(), &key) else {
                self.finish(state, key, Vec::new(), End::Again(Duration::ZERO), None);
                continue;
            };
            if mutations.is_empty() {
                self.finish(state, key, Vec::new(), End::Done, again);
                continue;
            }
            state.rounds += 1;
            let hand = self.hand.clone();
            under_way.spawn(async move {
                let (expected, end) = hand.apply(mutations).await;
                Back::Round(key, expected, end, again)
            });
        }
    }

    /// The controller's decision; none where it fails, which is a defect of ours and must not end the others.
    fn decide(&self, refused: Option<&Refused>, key: &Key) -> Option<Outcome> {
        let world = World { view: &self.cache, facts: &self.facts, now: Timestamp::now(), refused };
        let outcome = catch_unwind(AssertUnwindSafe(|| self.controller.reconcile(&world, key)));
        if outcome.is_err() {
            tracing::error!(
                controller = self.controller.name(),
                namespace = key.0,
                name = key.1,
                "a decision panicked"
            );
        }
        outcome.ok()
    }

    fn back(&self, state: &mut State, back: Back) {
        match back {
            Back::Round(key, expected, end, again) => {
                state.rounds -= 1;
                self.finish(state, key, expected, end, again);
            }
            Back::Answer(id, Some(object)) => state.work.answered(&id, object.as_ref(), &self.cache),
            Back::Answer(_, None) => {}
        }
    }

    fn finish(
        &self,
        state: &mut State,
        key: Key,
        expected: Vec<Expected>,
        end: End,
        again: Option<Timestamp>,
    ) {
        let again = again.map(|again| work::wait(again, Timestamp::now()));
        let (round, now) = (Round { key: key.clone(), expected, end, again }, state.now());
        if state.work.finish(round, &self.cache, now) {
            self.metrics.count(metrics::RETRIES, ("name", self.controller.name()));
        } else if let Some(refused) = state.work.refused(&key) {
            self.log(refused);
        }
    }

    fn log(&self, refused: &Refused) {
        let what = match &refused.mutation {
            Mutation::Create(resource, _) => format!("create {}", resource.singular),
            Mutation::Update(resource, ..) | Mutation::Merge(resource, ..) => {
                format!("change {}", resource.singular)
            }
            Mutation::Delete(resource, ..) => format!("delete {}", resource.singular),
            _ => "act".to_owned(),
        };
        let controller = self.controller.name();
        match refused.ends_with_namespace() {
            true => tracing::debug!(controller, "may not {what}: {}", refused.status),
            false => tracing::warn!(controller, "may not {what}: {}", refused.status),
        }
    }

    /// Takes an event, and those that wait behind it.
    fn take(&self, state: &mut State, first: Event, events: &mut [UnboundedReceiver<Event>]) {
        self.heed(state, &first);
        for receiver in events {
            for _ in 0..EVENTS_MAX {
                let Ok(event) = receiver.try_recv() else { break };
                self.heed(state, &event);
            }
        }
    }

    fn heed(&self, state: &mut State, event: &Event) {
        let (old, new) = (event.old.as_deref(), event.new.as_deref());
        if old.is_none() && new.is_none() {
            return;
        }
        let of: GroupResource<'_> = event.resource.group_resource();
        let keys = catch_unwind(AssertUnwindSafe(|| self.controller.keys(&self.cache, of, old, new)));
        state.work.heed(keys.unwrap_or_default(), event.resource, old, new);
    }
}

/// The next event of any resource; `None` when the cache has ended.
pub(crate) async fn next(events: &mut [UnboundedReceiver<Event>]) -> Option<Event> {
    std::future::poll_fn(|context| {
        let mut open = false;
        for receiver in events.iter_mut() {
            match receiver.poll_recv(context) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some(event)),
                Poll::Ready(None) => {}
                Poll::Pending => open = true,
            }
        }
        if open { Poll::Pending } else { Poll::Ready(None) }
    })
    .await
}
