//! The events of the node's pods: a ring buffer, repeated ones counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use agent_core::event::Event;
use agent_core::{pod, time};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::clock::Clock;

/// How many events are kept.
const EVENTS_MAX: usize = 1000;

/// A pod as an event names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Subject {
    pub(crate) fn of(pod: &Pod, uid: &str) -> Self {
        Self { namespace: pod::namespace(pod).into(), name: pod::name(pod).into(), uid: uid.into() }
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
}

impl Events {
    pub(crate) fn new(clock: Clock, node: &str) -> Self {
        Self { clock, node: node.to_owned(), ring: Arc::default() }
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
        let mut involved = json!({"kind": "Pod", "apiVersion": "v1", "namespace": subject.namespace,
            "name": subject.name, "uid": subject.uid});
        if let Some(container) = &event.container {
            involved["fieldPath"] = json!(format!("spec.containers{{{container}}}"));
        }
        json!({
            "kind": "Event", "apiVersion": "v1",
            "metadata": {"name": format!("{}.{:016x}", subject.name, entry.number), "namespace": subject.namespace,
                "creationTimestamp": time::k8s(entry.first)},
            "involvedObject": involved, "reason": event.reason, "message": event.message,
            "type": if event.warning { "Warning" } else { "Normal" },
            "firstTimestamp": time::k8s(entry.first), "lastTimestamp": time::k8s(entry.last), "count": entry.count,
            "source": {"component": "cleat", "host": self.node},
            "reportingComponent": "cleat", "reportingInstance": self.node,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_count() {
        let events = Events::new(Clock::System, "n");
        let subject = Subject { namespace: "d".into(), name: "p".into(), uid: "u".into() };
        for reason in ["Pulling", "BackOff", "BackOff", "Started", "BackOff"] {
            events.record(&subject, Event::new(reason == "BackOff", reason, "m", Some("c")));
        }
        let list = events.list();
        let items = list["items"].as_array().unwrap();
        let seen: Vec<_> =
            items.iter().map(|i| (i["reason"].as_str().unwrap(), i["count"].as_u64().unwrap())).collect();
        assert_eq!(seen, [("Pulling", 1), ("Started", 1), ("BackOff", 3)]);
        assert_eq!(items[2]["type"], "Warning");
        assert_eq!(items[0]["involvedObject"]["fieldPath"], "spec.containers{c}");
        for n in 0..2 * EVENTS_MAX {
            events.record(&subject, Event::new(false, "R", &n.to_string(), None));
        }
        assert_eq!(events.list()["items"].as_array().unwrap().len(), EVENTS_MAX);
    }
}
