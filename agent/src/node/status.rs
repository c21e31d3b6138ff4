//! Tells the API server how the node is: when that changes, and every few minutes.

use std::sync::Arc;
use std::time::Duration;

use agent_core::event::Event;
use client::{Cache, Patch, Query};
use proto_cri as cri;
use proto_kube::object;
use proto_kube::view::View;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::object as node_object;
use super::object::{Facts, Image, State};
use super::pressure::{Pressure, Thresholds};
use crate::clock::Clock;
use crate::config::nodes;
use crate::cri::{CALL, Cri, within};
use crate::events::{Events, Subject};
use crate::runtime::Runtime;

/// How often the status is told although nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// How often the machine is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How often the images are listed.
const IMAGES: Duration = Duration::from_secs(60);
/// How long the API is not told that a node is not ready which it knows to be: when its process has begun anew, the runtime
/// and its network come up in a moment, and every pod of a node that is not ready counts as not ready.
const STARTING: Duration = Duration::from_secs(10);
/// The longest pause after a request that failed.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Keeps the status of the Node.
pub(crate) struct Status {
    pub(crate) cache: Cache,
    pub(crate) cri: Cri,
    pub(crate) clock: Clock,
    pub(crate) facts: Facts,
    pub(crate) thresholds: Thresholds,
    /// What the node was short of when it was last looked at.
    pub(crate) pressure: Pressure,
    pub(crate) runtime: watch::Receiver<Option<Runtime>>,
    pub(crate) port: watch::Receiver<u16>,
    pub(crate) events: Events,
}

impl Status {
    /// How the node is now, without its images.
    pub(crate) fn now(&mut self) -> State {
        self.look();
        State {
            runtime: self.runtime.borrow_and_update().clone(),
            port: *self.port.borrow_and_update(),
            images: Vec::new(),
            pressure: self.pressure.clone(),
        }
    }

    /// Sees what the node is short of; what it was not short of before is logged.
    fn look(&mut self) {
        let before = std::mem::replace(&mut self.pressure, self.thresholds.pressure());
        for short in self.pressure.shortages() {
            if before.shortages().all(|other| other.signal != short.signal) {
                let (left, of) = (short.left, short.of);
                tracing::warn!(left, of, "{short} (evictionHard): new pods stay away until there is more");
            }
        }
    }

    /// Tells it for ever. `answer` is the Node as the API answered last.
    pub(crate) async fn keep(mut self, mut answer: Value) {
        let mut events = self.cache.subscribe(nodes());
        let began = Instant::now();
        let (mut told, mut failures) = (began, 0);
        let (mut listed, mut images): (Option<Instant>, Vec<Image>) = (None, Vec::new());
        loop {
            if listed.is_none_or(|at| at.elapsed() >= IMAGES) {
                (listed, images) = (Some(Instant::now()), self.images().await.unwrap_or(images));
            }
            let state = State { images: images.clone(), ..self.now() };
            let node = self.newest(&answer);
            let starting = STARTING.saturating_sub(began.elapsed());
            if !starting.is_zero() && node_object::falls(&state, &node["status"]) {
                self.change(&mut events, starting).await;
                continue;
            }
            let now = self.clock.now();
            let mut status = node_object::status(&self.facts, &state, &node["status"], now);
            if told.elapsed() < HEARTBEAT {
                node_object::keep_heartbeats(&mut status, &node["status"]);
            }
            let mut pause = LOOK;
            if let Some(patch) = crate::report::between(&node["status"], &status, &[]) {
                let body = json!({"status": patch});
                let what = (nodes(), "", self.facts.name.as_str());
                let change = (Patch::Strategic, &body);
                match self.cache.client().patch(what, Some("status"), change, Query::default()).await {
                    Ok(new) => {
                        self.tell(node_object::changes(&self.facts.name, &node["status"], &new["status"]));
                        (answer, told, failures) = (new, Instant::now(), 0);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the node's status could not be told; trying again");
                        failures += 1;
                        pause = Duration::from_millis(100 << failures.min(6)).min(AGAIN_MAX);
                    }
                }
            }
            self.change(&mut events, pause).await;
        }
    }

    /// Records events of the node.
    pub(crate) fn tell(&self, events: Vec<Event>) {
        let subject = Subject::node(&self.facts.name);
        events.into_iter().for_each(|event| self.events.record(&subject, event));
    }

    /// The Node in its newest known state.
    fn newest(&self, answer: &Value) -> Arc<Value> {
        let version = |node: &Value| {
            object::text(node, &["metadata", "resourceVersion"]).parse::<u64>().unwrap_or_default()
        };
        let cached = self.cache.get(nodes().group_resource(), "", &self.facts.name);
        cached.filter(|node| version(node) >= version(answer)).unwrap_or_else(|| Arc::new(answer.clone()))
    }

    /// Waits until something changes that the status tells.
    async fn change(&mut self, events: &mut mpsc::UnboundedReceiver<client::Event>, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                Ok(()) = self.runtime.changed() => return,
                Ok(()) = self.port.changed() => return,
                Some(event) = events.recv() => {
                    let ours = event.object().is_some_and(|node| object::name(node) == self.facts.name);
                    if ours {
                        return;
                    }
                }
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// The images of the node; `None` when the runtime does not tell.
    async fn images(&self) -> Option<Vec<Image>> {
        let mut images = self.cri.images.clone();
        let list = within(CALL, images.list_images(cri::ListImagesRequest::default())).await.ok()?;
        let image = |image: cri::Image| Image {
            names: image.repo_digests.into_iter().chain(image.repo_tags).collect(),
            bytes: i64::try_from(image.size).unwrap_or(i64::MAX),
        };
        Some(list.images.into_iter().map(image).collect())
    }
}
