//! Which of the things that are said become events, as upstream's correlator decides it: what is said again counts up,
//! what is said in ever new words is put together, and who says too much is not heard.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::object;
use serde_json::{Value, json};

/// So many objects are remembered of each sort.
const REMEMBERED_MAX: usize = 4096;
/// So many different messages of one reason become one.
const MESSAGES_MAX: usize = 10;
/// After so long without one, messages of a reason are told apart again.
const SIMILAR: SignedDuration = SignedDuration::from_mins(10);
/// So many events of an object are heard at once,
const BURST: f64 = 25.0;
/// and one more after so many seconds.
const REFILL_SECONDS: f64 = 300.0;
/// An event of the newer form that nobody repeated for so long begins a new series.
const SERIES: SignedDuration = SignedDuration::from_mins(6);

/// Something to be told about an object.
#[derive(Debug, Clone)]
pub struct Said {
    /// About what; with its `kind` and `apiVersion`.
    pub regarding: Arc<Value>,
    /// `Normal` or `Warning`.
    pub kind: &'static str,
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
    /// Who says it, as `replicaset-controller`.
    pub source: String,
    /// What was tried, as `Binding`, by which instance: makes it an event of the newer form.
    pub action: Option<(&'static str, String)>,
}

/// What to do with an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Make it: in this namespace.
    Create(String, Value),
    /// Merge this into the event of the namespace and name. When it is gone, make the last.
    Merge(String, String, Value, Value),
}

/// Values by key; of too many the longest unused are forgotten.
struct Recent<V> {
    values: HashMap<String, (u64, V)>,
    tick: u64,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { values: HashMap::new(), tick: 0 }
    }
}

impl<V> Recent<V> {
    fn entry(&mut self, key: String, new: impl FnOnce() -> V) -> &mut V {
        self.tick += 1;
        if self.values.len() >= REMEMBERED_MAX && !self.values.contains_key(&key) {
            let mut ticks: Vec<u64> = self.values.values().map(|(tick, _)| *tick).collect();
            ticks.sort_unstable();
            let oldest = ticks[ticks.len() / 4];
            self.values.retain(|_, (tick, _)| *tick > oldest);
        }
        let tick = self.tick;
        let entry = self.values.entry(key).or_insert_with(|| (tick, new()));
        entry.0 = tick;
        &mut entry.1
    }
}

/// How much an object may still be told about.
struct Allowance {
    left: f64,
    since: Timestamp,
}

/// The messages of a reason.
#[derive(Default)]
struct Similar {
    messages: BTreeSet<String>,
    last: Timestamp,
}

/// An event that was made.
struct Known {
    name: String,
    first: Timestamp,
    last: Timestamp,
    count: u64,
}

/// What has been said so far.
#[derive(Default)]
pub struct Correlator {
    allowances: Recent<Allowance>,
    similar: Recent<Similar>,
    known: Recent<Option<Known>>,
}

impl Correlator {
    /// What to write of something that is said at `now`; `None` for nothing.
    pub fn take(&mut self, said: &Said, now: Timestamp) -> Option<Write> {
        let object = identity(said);
        if !self.is_allowed(key(&[&object, said.kind]), now) {
            return None;
        }
        let (mut message, mut same) = (said.message.clone(), key(&[&object, said.kind, said.reason]));
        if said.action.is_none() && self.is_one_of_many(same.clone(), &message, now) {
            message = format!("(combined from similar events): {message}");
        } else {
            same = key(&[&same, &message]);
        }
        let name = format!("{}.{:x}", object::name(&said.regarding), now.as_nanosecond());
        let known = self.known.entry(same, || None);
        let fresh = said.action.is_some()
            && known.as_ref().is_some_and(|known| now.duration_since(known.last) > SERIES);
        let known = match known {
            Some(known) if !fresh => known,
            none => none.insert(Known { name, first: now, last: now, count: 0 }),
        };
        known.count += 1;
        known.last = now;
        let event = event(said, known, &message);
        let namespace = object::namespace(&event).to_owned();
        if known.count == 1 {
            return Some(Write::Create(namespace, event));
        }
        let patch = match &said.action {
            Some(_) => json!({"series": event["series"]}),
            None => json!({"count": known.count, "lastTimestamp": seconds(now), "message": message}),
        };
        Some(Write::Merge(namespace, known.name.clone(), patch, event))
    }

    fn is_allowed(&mut self, of: String, now: Timestamp) -> bool {
        let allowance = self.allowances.entry(of, || Allowance { left: BURST, since: now });
        let passed = now.duration_since(allowance.since).as_secs_f64().max(0.0);
        allowance.left = (allowance.left + passed / REFILL_SECONDS).min(BURST);
        allowance.since = now;
        let is_allowed = allowance.left >= 1.0;
        if is_allowed {
            allowance.left -= 1.0;
        }
        is_allowed
    }

    fn is_one_of_many(&mut self, of: String, message: &str, now: Timestamp) -> bool {
        let similar = self.similar.entry(of, Similar::default);
        if now.duration_since(similar.last) > SIMILAR {
            similar.messages.clear();
        }
        similar.last = now;
        similar.messages.insert(message.to_owned());
        if similar.messages.len() < MESSAGES_MAX {
            return false;
        }
        similar.messages.pop_first();
        true
    }
}

/// Who says it about which object.
fn identity(said: &Said) -> String {
    let of = |path: &[&str]| object::text(&said.regarding, path);
    let (namespace, name) = (object::namespace(&said.regarding), object::name(&said.regarding));
    key(&[&said.source, of(&["apiVersion"]), of(&["kind"]), namespace, name, object::uid(&said.regarding)])
}

fn key(parts: &[&str]) -> String {
    parts.join("\n")
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn event(said: &Said, known: &Known, message: &str) -> Value {
    let of = &said.regarding;
    // Of what is in no namespace is told in the one that every cluster has.
    let namespace = match object::namespace(of) {
        "" => "default",
        namespace => namespace,
    };
    let mut reference = json!({
        "apiVersion": of["apiVersion"], "kind": of["kind"], "name": object::name(of), "uid": object::uid(of),
        "resourceVersion": of["metadata"]["resourceVersion"],
    });
    if !object::namespace(of).is_empty() {
        reference["namespace"] = object::namespace(of).into();
    }
    let metadata = json!({"namespace": namespace, "name": known.name});
    let Some((action, instance)) = &said.action else {
        return json!({
            "apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": reference,
            "type": said.kind, "reason": said.reason, "message": message, "count": known.count,
            "firstTimestamp": seconds(known.first), "lastTimestamp": seconds(known.last),
            "source": {"component": said.source}, "reportingComponent": said.source, "reportingInstance": "",
        });
    };
    let mut event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata, "regarding": reference,
        "type": said.kind, "reason": said.reason, "note": message, "eventTime": micros(known.first),
        "action": action, "reportingController": said.source, "reportingInstance": instance,
    });
    if known.count > 1 {
        event["series"] = json!({"count": known.count, "lastObservedTime": micros(known.last)});
    }
    event
}

#[cfg(test)]
mod tests;
