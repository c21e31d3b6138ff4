//! Rules and conversion of events.

use proptest::prelude::*;
use proto_kube::field::Errors;
use serde_json::{Value, json};

use super::event::Event;
use crate::Kind;

fn event() -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "a", "namespace": "ns"},
        "regarding": {"kind": "Pod", "name": "web", "namespace": "ns"},
        "note": "hello", "reason": "Started", "action": "Start", "type": "Normal",
        "eventTime": "2026-11-21T07:00:00.000000Z",
        "reportingController": "example.com/a", "reportingInstance": "a-1",
    })
}

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn forms() {
    let mut object = event();
    Event.to_storage(&mut object);
    assert_eq!(object["apiVersion"], "v1");
    assert_eq!(object["involvedObject"]["name"], "web");
    assert_eq!(object["message"], "hello");
    assert_eq!(object["reportingComponent"], "example.com/a");
    assert_eq!(object["note"], Value::Null);
    Event.from_storage(&mut object);
    assert_eq!(object, event());
}

#[test]
fn strict_rules() {
    assert_eq!(texts(Event.validate(&event())), Vec::<String>::new());
    for (member, value, expected) in [
        ("type", json!("Loud"), "type: Invalid value: \"\": has invalid value: Loud"),
        ("deprecatedCount", json!(1), "count: Invalid value: \"\": needs to be unset"),
        ("deprecatedSource", json!({"host": "a"}), "source: Invalid value: \"\": needs to be unset"),
        (
            "deprecatedFirstTimestamp",
            json!("2026-11-21T07:00:00Z"),
            "firstTimestamp: Invalid value: \"\": needs to be unset",
        ),
        (
            "series",
            json!({"count": 1, "lastObservedTime": "x"}),
            "series.count: Invalid value: \"\": should be at least 2",
        ),
    ] {
        let mut object = event();
        object[member] = value;
        assert_eq!(texts(Event.validate(&object)), [expected]);
    }
    let mut object = event();
    object["eventTime"] = Value::Null;
    assert_eq!(texts(Event.validate(&object)), ["eventTime: Required value"]);
    object["eventTime"] = event()["eventTime"].clone();
    object["reportingController"] = "".into();
    let found = texts(Event.validate(&object));
    assert!(found.contains(&"reportingController: Required value".to_owned()), "{found:?}");
}

#[test]
fn only_the_series_changes() {
    let mut new = event();
    new["series"] = json!({"count": 2, "lastObservedTime": "2026-11-21T07:00:00.000000Z"});
    assert_eq!(texts(Event.validate_update(&new, &event())), Vec::<String>::new());
    new["note"] = "other".into();
    new["reportingController"] = "b".into();
    assert_eq!(
        texts(Event.validate_update(&new, &event())),
        [
            "message: Invalid value: \"other\": field is immutable",
            "reportingController: Invalid value: \"b\": field is immutable",
        ]
    );
}

proptest! {
    #[test]
    fn both_forms_say_the_same(
        members in proptest::collection::btree_map(
            prop_oneof![
                Just("regarding"), Just("note"), Just("reportingController"), Just("deprecatedSource"),
                Just("deprecatedFirstTimestamp"), Just("deprecatedLastTimestamp"), Just("deprecatedCount"),
                Just("related"), Just("series"), Just("action"),
            ],
            "[a-z]{0,3}",
            0..6,
        ),
    ) {
        let mut object = json!({"apiVersion": "events.k8s.io/v1"});
        for (member, value) in members {
            object[member] = value.into();
        }
        let before = object.clone();
        Event.to_storage(&mut object);
        Event.from_storage(&mut object);
        prop_assert_eq!(object, before);
    }
}
