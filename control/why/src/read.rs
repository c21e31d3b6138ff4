//! Reading what objects say about themselves.

use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::{GroupResource, object, view::View};
use serde_json::Value;

/// As `pod/web`.
pub(crate) fn reference(kind: &str, object: &Value) -> String {
    format!("{}/{}", kind.to_lowercase(), object::name(object))
}

pub(crate) fn list(view: &dyn View, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
    view.list(GroupResource { group, resource }, namespace)
}

pub(crate) fn get(
    view: &dyn View,
    (group, resource): (&str, &str),
    namespace: &str,
    name: &str,
) -> Option<Arc<Value>> {
    view.get(GroupResource { group, resource }, namespace, name)
}

/// The number at a path; 0 where there is none.
pub(crate) fn number(object: &Value, path: &[&str]) -> i64 {
    object::number(object, path).unwrap_or(0)
}

/// A condition of the status.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object::items(object, &["status", "conditions"]).find(|c| c["type"] == kind)
}

/// The condition that says that a job is over.
pub(crate) fn end(job: &Value) -> Option<&Value> {
    let ends = ["Complete", "Failed"].into_iter().filter_map(|kind| condition(job, kind));
    ends.into_iter().find(|end| end["status"] == "True")
}

/// Since when a condition is as it is.
pub(crate) fn since(condition: &Value) -> Option<Timestamp> {
    object::time(condition, &["lastTransitionTime"])
}

/// What an object owns, of the namespace's objects of a resource.
pub(crate) fn owned(view: &dyn View, group: &str, resource: &str, owner: &Value) -> Vec<Arc<Value>> {
    let uid = object::uid(owner);
    let mut all = list(view, group, resource, object::namespace(owner));
    all.retain(|o| object::items(o, &["metadata", "ownerReferences"]).any(|r| r["uid"] == uid));
    all
}

/// The newest events about an object, oldest first.
pub(crate) fn events(view: &dyn View, kind: &str, about: &Value, most: usize) -> Vec<String> {
    let namespace = match object::namespace(about) {
        "" => "default",
        own => own,
    };
    let mut found: Vec<((Option<Timestamp>, u64), String)> = Vec::new();
    for event in list(view, "", "events", namespace) {
        let of = &event["involvedObject"];
        let same = match object::text(of, &["uid"]) {
            "" => of["kind"] == kind && of["name"] == object::name(about),
            uid => uid == object::uid(about) || (of["kind"] == "Node" && of["name"] == object::name(about)),
        };
        if !same || of["kind"] != kind {
            continue;
        }
        let times: [&[&str]; 4] =
            [&["series", "lastObservedTime"], &["lastTimestamp"], &["eventTime"], &["firstTimestamp"]];
        let last = times.into_iter().find_map(|path| object::time(&event, path));
        // Within a second they are told apart by when they were written.
        let written = object::text(&event, &["metadata", "resourceVersion"]).parse().unwrap_or(0);
        let count = number(&event, &["count"]);
        let often = if count > 1 { format!(" (x{count})") } else { String::new() };
        let said = object::text(&event, &["message"]).trim();
        found.push(((last, written), format!("{}: {said}{often}", object::text(&event, &["reason"]))));
    }
    found.sort();
    let first = found.len().saturating_sub(most);
    found.split_off(first).into_iter().map(|(_, text)| text).collect()
}

/// The newest event of a reason about an object, if any: its message.
pub(crate) fn said(view: &dyn View, kind: &str, about: &Value, reason: &str) -> Option<String> {
    let prefix = format!("{reason}: ");
    let all = events(view, kind, about, usize::MAX);
    all.iter().rev().find_map(|text| text.strip_prefix(&prefix).map(str::to_owned))
}

/// A taint as people write it.
pub(crate) fn taint(taint: &Value) -> String {
    let [key, value, effect] = ["key", "value", "effect"].map(|part| object::text(taint, &[part]));
    let is = if value.is_empty() { "" } else { "=" };
    format!("{key}{is}{value}:{effect}")
}
