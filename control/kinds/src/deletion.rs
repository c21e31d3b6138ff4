//! What a deletion does to an object: at once, after a grace period, or when its finalizers are done.

use jiff::Timestamp;
use proto_kube::object;
use serde_json::{Value, json};

use crate::Kind;

/// What happens to an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    Background,
    /// The garbage collector deletes them first; the object waits.
    Foreground,
    /// They stay and lose their owner reference; the object waits until they have.
    Orphan,
}

/// What a deletion comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The object is to be removed.
    Now,
    /// The object was changed and is to be stored: it waits.
    Waits,
    /// The object already waits, and nothing has to change.
    Unchanged,
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Carries out a deletion with `DeleteOptions` on an object: marks it, sets its grace period and the garbage collector's
/// finalizers. Preconditions are the caller's business.
pub fn delete(kind: &dyn Kind, object: &mut Value, options: &Value, now: Timestamp) -> Deletion {
    let before = object.clone();
    let asked = object::at(options, &["gracePeriodSeconds"]).and_then(Value::as_i64);
    let left = match kind.grace(object, asked) {
        None => 0,
        Some(seconds) => grace(object, seconds, now),
    };
    collect(kind, object, options);
    let finalizers = object::items(object, &["metadata", "finalizers"]).next().is_some();
    if left == 0 && !finalizers && !kind.is_held(object) {
        return Deletion::Now;
    }
    if !object::is_terminating(object) {
        mark(object, left, now);
        bump(object);
        kind.terminate(object);
    }
    if *object == before { Deletion::Unchanged } else { Deletion::Waits }
}

/// Whether an object that was just updated is to be removed: it waits for its deletion and nothing keeps it any more.
#[must_use]
pub fn is_due(kind: &dyn Kind, object: &Value) -> bool {
    let seconds = object::at(object, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    object::is_terminating(object)
        && seconds.unwrap_or(0) == 0
        && object::items(object, &["metadata", "finalizers"]).next().is_none()
        && !kind.is_held(object)
}

/// The seconds that are left; an object that already waits can only be hurried.
fn grace(object: &mut Value, seconds: i64, now: Timestamp) -> i64 {
    let Ok(deadline) = object::text(object, &["metadata", "deletionTimestamp"]).parse::<Timestamp>() else {
        if seconds > 0 {
            mark(object, seconds, now);
            bump(object);
        }
        return seconds;
    };
    let before =
        object::at(object, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
    if before == 0 {
        return 0;
    }
    if seconds >= before {
        return before;
    }
    let started = deadline - jiff::SignedDuration::from_secs(before);
    stamp(object, seconds, started + jiff::SignedDuration::from_secs(seconds));
    seconds
}

fn mark(object: &mut Value, seconds: i64, now: Timestamp) {
    stamp(object, seconds, now + jiff::SignedDuration::from_secs(seconds));
}

fn stamp(object: &mut Value, seconds: i64, at: Timestamp) {
    let metadata = object::metadata(object);
    metadata.insert("deletionTimestamp".to_owned(), crate::meta::time(at).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
}

fn bump(object: &mut Value) {
    let metadata = object::metadata(object);
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|g| *g > 0) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}

/// Sets the garbage collector's finalizers as the options ask.
fn collect(kind: &dyn Kind, object: &mut Value, options: &Value) {
    let has = |object: &Value, name: &str| {
        object::items(object, &["metadata", "finalizers"]).any(|f| f.as_str() == Some(name))
    };
    let orphan = object::at(options, &["orphanDependents"]).and_then(Value::as_bool);
    let wish = match (orphan, object::text(options, &["propagationPolicy"])) {
        (Some(true), _) | (_, "Orphan") => Propagation::Orphan,
        (_, "Foreground") => Propagation::Foreground,
        (Some(false), _) | (_, "Background") => Propagation::Background,
        _ if has(object, ORPHAN) => Propagation::Orphan,
        _ if has(object, FOREGROUND) => Propagation::Foreground,
        _ => kind.default_propagation(),
    };
    let wanted = match wish {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    if [ORPHAN, FOREGROUND].into_iter().all(|name| has(object, name) == (wanted == Some(name))) {
        return;
    }
    let mut finalizers: Vec<Value> = object::items(object, &["metadata", "finalizers"])
        .filter(|f| ![Some(ORPHAN), Some(FOREGROUND)].contains(&f.as_str()))
        .cloned()
        .collect();
    finalizers.extend(wanted.map(Value::from));
    let metadata = object::metadata(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
}
