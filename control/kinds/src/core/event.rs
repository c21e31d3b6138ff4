//! `Event`.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::Value;

use crate::check::{self, Field};
use crate::column::{self, NAME, text, wide};
use crate::{Column, Kind};

pub(super) struct Event;

const COLUMNS: &[Column] = &[
    text("Last Seen", "When it happened last."),
    text("Type", "`Normal` or `Warning`."),
    text("Reason", "Why it happened, in one word."),
    text("Object", "What it happened to."),
    wide(text("Subobject", "Which part of the object it happened to.")),
    wide(text("Source", "Who says so.")),
    text("Message", "What happened, for a person."),
    wide(text("First Seen", "When it happened first.")),
    wide(text("Count", "How often it happened.")),
    wide(NAME),
];

const FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

impl Kind for Event {
    fn name(&self, _text: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }

    fn validate(&self, event: &Value) -> Errors {
        check::object(event, |event| rules(&event))
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, event: &Value, now: Timestamp) -> Vec<Value> {
        cells(event, now)
    }

    fn selectable(&self) -> &'static [&'static str] {
        FIELDS
    }

    fn fields(&self, event: &Value) -> Vec<(&'static str, String)> {
        let value = |name: &str| match name.split_once('.') {
            Some((object, member)) => object::text(event, &[object, member]),
            None if name == "source" => match object::text(event, &["source", "component"]) {
                "" => object::text(event, &["reportingComponent"]),
                component => component,
            },
            None => object::text(event, &[name]),
        };
        FIELDS.iter().map(|name| (*name, value(name).to_owned())).collect()
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

/// What holds for an event in each version of the API.
fn rules(event: &Field<'_>) {
    const MISMATCH: &str = "does not match event.namespace";
    let namespace = event.at("metadata").at("namespace").text();
    let involved = event.at("involvedObject").at("namespace");
    if event.at("eventTime").is_set() {
        if involved.is_empty() && !["default", "kube-system"].contains(&namespace) {
            involved.invalid(MISMATCH);
        }
        let by = event.at("reportingComponent");
        by.needs("");
        by.all_invalid(name::qualified(by.text()));
        for (key, most) in [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)] {
            let at = event.at(key);
            if key != "message" {
                at.needs("");
            }
            if at.text().len() > most {
                at.invalid_value("", format!("can have at most {most} characters"));
            }
        }
    } else if involved.is_empty() {
        if !["", "default"].contains(&namespace) {
            involved.invalid(MISMATCH);
        }
    } else if involved.text() != namespace {
        involved.invalid(MISMATCH);
    }
}

fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let seen = |path: &[&str]| object::at(event, path).is_some().then(|| column::since(event, path, now));
    let unknown = || Value::from("<unknown>");
    let first = seen(&["firstTimestamp"]).or_else(|| seen(&["eventTime"])).unwrap_or_else(unknown);
    let mut last = seen(&["lastTimestamp"]).unwrap_or_else(|| first.clone());
    let mut count = object::at(event, &["count"]).and_then(Value::as_i64).filter(|c| *c != 0).unwrap_or(1);
    if let Some(series) = object::at(event, &["series"]) {
        last = column::since(series, &["lastObservedTime"], now);
        count = series["count"].as_i64().unwrap_or(0);
    }
    let involved = |key| object::text(event, &["involvedObject", key]);
    let kind = involved("kind").to_lowercase();
    let target = match involved("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let or = |a: &str, b: &str| if a.is_empty() { b.to_owned() } else { a.to_owned() };
    let component =
        or(object::text(event, &["source", "component"]), object::text(event, &["reportingComponent"]));
    let host = or(object::text(event, &["source", "host"]), object::text(event, &["reportingInstance"]));
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        last,
        object::text(event, &["type"]).into(),
        object::text(event, &["reason"]).into(),
        target.into(),
        involved("fieldPath").into(),
        source.into(),
        object::text(event, &["message"]).trim().into(),
        first,
        count.into(),
        object::name(event).into(),
    ]
}
