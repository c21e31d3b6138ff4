//! What a controller has written and the cache does not show yet. A key whose last decision is among it waits: decided
//! on an older state it would be decided again, and everything made twice.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use proto_kube::view::View;
use proto_kube::{Resource, object};
use serde_json::Value;

/// How long the cache is trusted to show a write by itself. Then the server is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// An object by its resource, namespace and name.
pub type Id = (&'static Resource, String, String);

/// What the cache must show of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// This version, or a later one.
    Version(u128),
    /// That this one is gone, or going.
    Gone(String),
    /// Nobody knows what has become of the write: whatever the server has of the object now.
    Unknown,
}

/// A state of an object that the cache must show before its writer decides again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Of what.
    pub id: Id,
    /// Which.
    pub state: State,
}

impl Expected {
    /// That the cache shows this object, as the server has answered.
    #[must_use]
    pub fn written(resource: &'static Resource, object: &Value) -> Self {
        let id = (resource, object::namespace(object).to_owned(), object::name(object).to_owned());
        Self { id, state: State::Version(version(object)) }
    }

    /// Whether the view shows it.
    #[must_use]
    pub fn is_shown(&self, view: &dyn View) -> bool {
        let (resource, namespace, name) = &self.id;
        let object = view.get(resource.group_resource(), namespace, name);
        self.is_met(object.as_deref())
    }

    fn is_met(&self, object: Option<&Value>) -> bool {
        match (&self.state, object) {
            (State::Version(least), Some(object)) => version(object) >= *least,
            (State::Gone(_), None) => true,
            (State::Gone(uid), Some(object)) => object::uid(object) != uid || object::is_terminating(object),
            (State::Version(_), None) | (State::Unknown, _) => false,
        }
    }
}

fn version(object: &Value) -> u128 {
    object::text(object, &["metadata", "resourceVersion"]).parse().unwrap_or_default()
}

#[derive(Debug)]
struct Waiting<K> {
    key: K,
    expected: Expected,
    /// When the server is asked.
    ask_at: Duration,
}

/// What each key waits for.
#[derive(Debug)]
pub struct Pending<K> {
    by_object: HashMap<(&'static str, &'static str, String, String), Vec<Waiting<K>>>,
    open: HashMap<K, usize>,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Self { by_object: HashMap::new(), open: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Pending<K> {
    /// The key waits for this, unless the view shows it already.
    pub fn expect(&mut self, key: &K, expected: Expected, view: &dyn View, now: Duration) {
        if expected.is_shown(view) {
            return;
        }
        let patience = if expected.state == State::Unknown { Duration::ZERO } else { PATIENCE };
        *self.open.entry(key.clone()).or_default() += 1;
        let waiting = Waiting { key: key.clone(), ask_at: now.saturating_add(patience), expected };
        self.by_object.entry(index(&waiting.expected.id)).or_default().push(waiting);
    }

    /// Whether the key waits for nothing.
    #[must_use]
    pub fn is_clear(&self, key: &K) -> bool {
        !self.open.contains_key(key)
    }

    /// An object has changed, as the cache tells. Gives the keys that wait for nothing more.
    pub fn saw(&mut self, resource: &'static Resource, old: Option<&Value>, new: Option<&Value>) -> Vec<K> {
        let Some(object) = new.or(old) else { return Vec::new() };
        let id = (resource, object::namespace(object).to_owned(), object::name(object).to_owned());
        // Who has been made and is gone again has been seen.
        let was = version(object);
        self.settle(&id, |expected| match expected.state {
            State::Version(least) => was >= least,
            _ => expected.is_met(new),
        })
    }

    /// What the server is to be asked for by now; it is not named again for a while.
    pub fn overdue(&mut self, now: Duration) -> Vec<Id> {
        let mut ids = Vec::new();
        for waiting in self.by_object.values_mut() {
            let mut late = false;
            for one in waiting.iter_mut().filter(|one| one.ask_at <= now) {
                one.ask_at = now.saturating_add(PATIENCE);
                late = true;
            }
            if let (true, Some(one)) = (late, waiting.first()) {
                ids.push(one.expected.id.clone());
            }
        }
        ids
    }

    /// When [`Pending::overdue`] has something next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        self.by_object.values().flatten().map(|one| one.ask_at).min()
    }

    /// The server has answered with the object, or that there is none: who waits now waits for the cache to show just
    /// this. Gives the keys that wait for nothing more.
    pub fn answered(&mut self, id: &Id, object: Option<&Value>, view: &dyn View) -> Vec<K> {
        let shown = view.get(id.0.group_resource(), &id.1, &id.2);
        // After a restore the server's versions begin anew: what it has now is what counts.
        let state = match (object, &shown) {
            (Some(object), _) => State::Version(version(object)),
            (None, Some(shown)) => State::Gone(object::uid(shown).to_owned()),
            (None, None) => State::Unknown,
        };
        for one in self.by_object.get_mut(&index(id)).into_iter().flatten() {
            one.expected.state = state.clone();
        }
        let same = shown.as_deref().map(version) == object.map(version);
        self.settle(id, |expected| same || expected.is_met(shown.as_deref()))
    }

    fn settle(&mut self, id: &Id, met: impl Fn(&Expected) -> bool) -> Vec<K> {
        let Some(waiting) = self.by_object.get_mut(&index(id)) else { return Vec::new() };
        let mut clear = Vec::new();
        waiting.retain(|one| {
            let met = met(&one.expected);
            if met && let Some(open) = self.open.get_mut(&one.key) {
                *open -= 1;
                if *open == 0 {
                    self.open.remove(&one.key);
                    clear.push(one.key.clone());
                }
            }
            !met
        });
        if waiting.is_empty() {
            self.by_object.remove(&index(id));
        }
        clear
    }
}

fn index((resource, namespace, name): &Id) -> (&'static str, &'static str, String, String) {
    (resource.group, resource.plural, namespace.clone(), name.clone())
}

#[cfg(test)]
mod tests;
