//! When a key may be decided again.

use std::sync::Arc;

use proto_kube::{GroupResource, resource};
use serde_json::json;

use super::*;

/// A cache that holds one object at most.
struct Cache(Option<Value>);

impl View for Cache {
    fn get(&self, _: GroupResource<'_>, _: &str, name: &str) -> Option<Arc<Value>> {
        self.0.clone().filter(|object| object::name(object) == name).map(Arc::new)
    }

    fn list(&self, _: GroupResource<'_>, _: &str) -> Vec<Arc<Value>> {
        Vec::new()
    }
}

fn pods() -> &'static Resource {
    resource::find("", "v1", "pods").unwrap()
}

fn pod(uid: &str, version: u32) -> Value {
    json!({"metadata": {"namespace": "ns", "name": "a", "uid": uid, "resourceVersion": version.to_string()}})
}

fn gone(uid: &str) -> Expected {
    Expected { id: id(), state: State::Gone(uid.to_owned()) }
}

fn id() -> Id {
    (pods(), "ns".to_owned(), "a".to_owned())
}

const NOW: Duration = Duration::from_secs(100);

/// A key that waits for `expected` while the cache shows `shown`.
fn waiting(expected: Expected, shown: Option<Value>) -> Pending<&'static str> {
    let mut pending = Pending::default();
    pending.expect(&"key", expected, &Cache(shown), NOW);
    pending
}

#[test]
fn a_key_waits_until_the_cache_shows_what_it_wrote() {
    let written = Expected::written(pods(), &pod("u", 7));
    let shown = |object: Option<Value>| waiting(written.clone(), object).is_clear(&"key");
    assert!(!shown(None));
    assert!(!shown(Some(pod("u", 6))));
    assert!(shown(Some(pod("u", 7))));
    assert!(shown(Some(pod("v", 8))));

    let mut pending = waiting(written.clone(), None);
    assert!(pending.saw(pods(), None, Some(&pod("u", 6))).is_empty());
    assert_eq!(pending.saw(pods(), None, Some(&pod("u", 7))), ["key"]);
    assert!(pending.is_clear(&"key"));
    // Made and gone at once.
    assert_eq!(waiting(written, None).saw(pods(), Some(&pod("u", 7)), None), ["key"]);
}

#[test]
fn a_key_waits_until_the_cache_shows_what_it_deleted() {
    let mut going = pod("u", 9);
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert!(!waiting(gone("u"), Some(pod("u", 7))).is_clear(&"key"));
    assert!(waiting(gone("u"), Some(going.clone())).is_clear(&"key"));
    assert!(waiting(gone("u"), Some(pod("v", 9))).is_clear(&"key"));
    assert!(waiting(gone("u"), None).is_clear(&"key"));
    let of = || waiting(gone("u"), Some(pod("u", 7)));
    assert_eq!(of().saw(pods(), Some(&pod("u", 7)), None), ["key"]);
    assert_eq!(of().saw(pods(), Some(&pod("u", 7)), Some(&going)), ["key"]);
    assert!(of().saw(pods(), Some(&pod("u", 7)), Some(&pod("u", 8))).is_empty());
}

#[test]
fn a_key_waits_for_all() {
    let mut pending = waiting(Expected::written(pods(), &pod("u", 7)), None);
    pending.expect(&"key", Expected::written(pods(), &pod("u", 9)), &Cache(None), NOW);
    assert!(pending.saw(pods(), None, Some(&pod("u", 7))).is_empty());
    assert_eq!(pending.saw(pods(), None, Some(&pod("u", 9))), ["key"]);
}

#[test]
fn a_lost_event_does_not_block_for_ever() {
    let mut pending = waiting(Expected::written(pods(), &pod("u", 7)), None);
    assert!(pending.overdue(NOW).is_empty());
    let late = pending.wake_at().unwrap();
    assert_eq!(pending.overdue(late), [id()]);
    assert!(pending.overdue(late).is_empty(), "asked already");
    // It is there: the cache is behind.
    assert!(pending.answered(&id(), Some(&pod("u", 8)), &Cache(None)).is_empty());
    assert!(pending.saw(pods(), None, Some(&pod("u", 7))).is_empty());
    assert_eq!(pending.saw(pods(), None, Some(&pod("u", 8))), ["key"]);
    // It is gone, as the cache shows.
    let mut pending = waiting(Expected::written(pods(), &pod("u", 7)), None);
    assert_eq!(pending.answered(&id(), None, &Cache(None)), ["key"]);
    // The server was restored from a backup: its versions began anew.
    let mut pending = waiting(Expected::written(pods(), &pod("u", 7)), None);
    assert_eq!(pending.answered(&id(), Some(&pod("u", 3)), &Cache(Some(pod("u", 3)))), ["key"]);
}

#[test]
fn an_unknown_outcome_is_asked_for_at_once() {
    let unknown = Expected { id: id(), state: State::Unknown };
    let mut pending = waiting(unknown.clone(), None);
    assert_eq!(pending.overdue(NOW), [id()]);
    assert_eq!(pending.answered(&id(), None, &Cache(None)), ["key"], "never made");
    let mut pending = waiting(unknown.clone(), Some(pod("u", 7)));
    assert!(pending.answered(&id(), None, &Cache(Some(pod("u", 7)))).is_empty(), "deleted, but still shown");
    assert_eq!(pending.saw(pods(), Some(&pod("u", 7)), None), ["key"]);
    let mut pending = waiting(unknown, None);
    assert!(pending.answered(&id(), Some(&pod("u", 7)), &Cache(None)).is_empty());
    assert_eq!(pending.saw(pods(), None, Some(&pod("u", 7))), ["key"]);
}
