//! `events.k8s.io/v1 Event`: another form of the core group's `Event`, as which it is kept, with stricter rules.

use jiff::Timestamp;
use proto_kube::field::{Errors, Path};
use proto_kube::resource;
use serde_json::Value;

use crate::check::{self, Field, IMMUTABLE};
use crate::{Column, Kind, meta};

const VERSION: &str = "events.k8s.io/v1";
/// The members that the two forms call by different names: here and in the core group.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];
/// What an update must leave alone, by the names of the core group, with how upstream calls it.
const FIXED: [(&str, &str); 13] = [
    ("involvedObject", "involvedObject"),
    ("reason", "reason"),
    ("message", "message"),
    ("source", "source"),
    ("firstTimestamp", "firstTimestamp"),
    ("lastTimestamp", "lastTimestamp"),
    ("count", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingComponent", CONTROLLER),
    ("reportingInstance", "reportingInstance"),
];
const CONTROLLER: &str = "reportingController";

pub(super) struct Event;

impl Kind for Event {
    fn validate(&self, object: &Value) -> Errors {
        let object = stored(object);
        let mut errors = core_faults(&object);
        errors.extend(check::object(&object, |event| {
            series(&event);
            event.at("eventTime").needs("");
            let kind = event.at("type");
            if !["Normal", "Warning"].contains(&kind.text()) {
                kind.invalid_value("", format!("has invalid value: {}", kind.text()));
            }
            let unset = |at: &Field<'_>| at.invalid_value("", "needs to be unset");
            ["firstTimestamp", "lastTimestamp"]
                .iter()
                .filter_map(|m| event.member(m))
                .for_each(|at| unset(&at));
            if event.at("count").number_or_zero() != 0 {
                unset(&event.at("count"));
            }
            let source = event.at("source");
            if !source.at("component").is_empty() || !source.at("host").is_empty() {
                unset(&source);
            }
        }));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let (new, old) = (stored(new), stored(old));
        let mut errors = core_faults(&new);
        errors.extend(check::object(&new, |event| {
            if !check::same_at(&new, &old, &["series"]) {
                series(&event);
            }
            for (member, shown) in FIXED {
                let at = event.at(member);
                if !same(&at, &old[member]) {
                    at.shown_at(Path::new(shown)).invalid_value(at.value.clone(), IMMUTABLE);
                }
            }
        }));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        core().columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        core().cells(&stored(object), now)
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn to_storage(&self, object: &mut Value) {
        if object["apiVersion"] == VERSION {
            rename(object, |(here, core)| (here, core));
            object["apiVersion"] = "v1".into();
        }
    }

    fn from_storage(&self, object: &mut Value) {
        if object["apiVersion"] == "v1" {
            rename(object, |(here, core)| (core, here));
            object["apiVersion"] = VERSION.into();
        }
    }
}

/// The kind of the core group.
fn core() -> &'static dyn Kind {
    crate::of(resource::find("", "v1", "events").expect("the core group has events"))
}

fn core_faults(object: &Value) -> Errors {
    let mut errors = core().validate(object);
    for error in errors.iter_mut().filter(|error| error.path == Path::new("reportingComponent")) {
        error.path = Path::new(CONTROLLER);
    }
    errors
}

fn stored(object: &Value) -> Value {
    let mut object = object.clone();
    Event.to_storage(&mut object);
    object
}

fn rename(object: &mut Value, names: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    for (from, to) in NAMES.map(names) {
        let value = object.as_object_mut().and_then(|members| members.remove(from));
        if let Some(value) = value {
            meta::put(object, to, Some(value));
        }
    }
}

/// Whether a member is as it was: a zero is like nothing.
fn same(at: &Field<'_>, old: &Value) -> bool {
    let plain = |value: &Value| match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Number(number) if number.as_i64() == Some(0) => Value::Null,
        other => other.clone(),
    };
    check::same(&plain(at.value), &plain(old))
}

fn series(event: &Field<'_>) {
    let Some(series) = event.member("series") else { return };
    if series.at("count").number_or_zero() < 2 {
        series.at("count").invalid_value("", "should be at least 2");
    }
    series.at("lastObservedTime").needs("");
}
