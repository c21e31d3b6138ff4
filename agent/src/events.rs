//! What happens on the node: a ring buffer for whoever asks the agent, repeated events counted; and the API server is
//! told.

mod correlate;
mod publish;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use agent_core::event::Event;
use agent_core::{pod, time};
use client::Client;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock::Clock;

/// How many events are kept.
const EVENTS_MAX: usize = 1000;

/// A pod, or the node, as an event names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Empty for the node.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Subject {
    pub(crate) fn of(pod: &Pod, uid: &str) -> Self {
        Self { namespace: pod::namespace(pod).into(), name: pod::name(pod).into(), uid: uid.into() }
    }

    /// The node; its name is also its uid here.
    pub(crate) fn node(name: &str) -> Self {
        Self { namespace: String::new(), name: name.into(), uid: name.into() }
    }
}

#[derive(Debug)]
struct Entry {
    number: u64,
    subject: Subject,
    event: Event,
    first: jiff::Timestamp,
    last: jiff::Timestamp,
    count: u32,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    number: u64,
}

/// Takes events from anywhere; clones share one buffer.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    clock: Clock,
    node: String,
    ring: Arc<Mutex<Ring>>,
    /// Who tells the API server.
    publisher: Arc<OnceLock<mpsc::UnboundedSender<publish::Record>>>,
}

impl Events {
    pub(crate) fn new(clock: Clock, node: &str) -> Self {
        Self { clock, node: node.to_owned(), ring: Arc::default(), publisher: Arc::default() }
    }

    /// Tells the API server of every event from this call on, for as long as the future is polled.
    pub(crate) fn publish(&self, client: Client) -> impl Future<Output = ()> + use<> {
        let (sender, records) = mpsc::unbounded_channel();
        // Only the first call finds nobody telling; the records of another end at once.
        let _ = self.publisher.set(sender);
        publish::run(client, self.node.clone(), records)
    }

    /// Takes an event. The same event again counts up and moves to the end.
    pub(crate) fn record(&self, subject: &Subject, event: Event) {
        let now = self.clock.now();
        let Subject { namespace, name, .. } = subject;
        match event.warning {
            true => {
                tracing::warn!(pod = %format_args!("{namespace}/{name}"), reason = %event.reason, "{}", event.message)
            }
            false => {
                tracing::info!(pod = %format_args!("{namespace}/{name}"), reason = %event.reason, "{}", event.message)
            }
        }
        if let Some(publisher) = self.publisher.get() {
            // The publisher ends with the agent.
            let _ = publisher.send((subject.clone(), event.clone(), now));
        }
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let same = ring.entries.iter().position(|e| e.subject == *subject && e.event == event);
        let entry = match same.and_then(|at| ring.entries.remove(at)) {
            Some(entry) => Entry { last: now, count: entry.count + 1, ..entry },
            None => {
                ring.number += 1;
                Entry {
                    number: ring.number,
                    subject: subject.clone(),
                    event,
                    first: now,
                    last: now,
                    count: 1,
                }
            }
        };
        ring.entries.push_back(entry);
        if ring.entries.len() > EVENTS_MAX {
            ring.entries.pop_front();
        }
    }

    /// All events as an `EventList`.
    pub(crate) fn list(&self) -> Value {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let items: Vec<Value> = ring.entries.iter().map(|entry| self.value(entry)).collect();
        json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": items})
    }

    fn value(&self, entry: &Entry) -> Value {
        let Entry { subject, event, .. } = entry;
        json!({
            "kind": "Event", "apiVersion": "v1",
            "metadata": {"name": format!("{}.{:016x}", subject.name, entry.number), "namespace": subject.namespace,
                "creationTimestamp": time::k8s(entry.first)},
            "involvedObject": about(subject, event), "reason": event.reason, "message": event.message,
            "type": if event.warning { "Warning" } else { "Normal" },
            "firstTimestamp": time::k8s(entry.first), "lastTimestamp": time::k8s(entry.last), "count": entry.count,
            "source": {"component": "kubelet", "host": self.node},
            "reportingComponent": "kubelet", "reportingInstance": self.node,
        })
    }
}

/// What an event is about.
fn about(subject: &Subject, event: &Event) -> Value {
    let mut about = json!({"apiVersion": "v1", "name": subject.name, "uid": subject.uid});
    match subject.namespace.as_str() {
        "" => about["kind"] = json!("Node"),
        namespace => {
            about["kind"] = json!("Pod");
            about["namespace"] = json!(namespace);
        }
    }
    if let Some(path) = &event.field_path {
        about["fieldPath"] = json!(path);
    }
    about
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_count() {
        let events = Events::new(Clock::System, "n");
        let subject = Subject { namespace: "d".into(), name: "p".into(), uid: "u".into() };
        for reason in ["Pulling", "BackOff", "BackOff", "Started", "BackOff"] {
            events.record(
                &subject,
                Event {
                    field_path: Some("spec.containers{c}".into()),
                    ..Event::new(reason == "BackOff", reason, "m")
                },
            );
        }
        let list = events.list();
        let items = list["items"].as_array().unwrap();
        let seen: Vec<_> =
            items.iter().map(|i| (i["reason"].as_str().unwrap(), i["count"].as_u64().unwrap())).collect();
        assert_eq!(seen, [("Pulling", 1), ("Started", 1), ("BackOff", 3)]);
        assert_eq!(items[2]["type"], "Warning");
        assert_eq!(items[0]["involvedObject"]["fieldPath"], "spec.containers{c}");
        for n in 0..2 * EVENTS_MAX {
            events.record(&subject, Event::new(false, "R", &n.to_string()));
        }
        assert_eq!(events.list()["items"].as_array().unwrap().len(), EVENTS_MAX);
    }
}
