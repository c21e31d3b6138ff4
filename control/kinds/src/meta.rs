//! The metadata that every object has: what the server sets, what clients may change, and what is wrong with it.

use jiff::Timestamp;
use proto_kube::{Resource, object};
use serde_json::{Map, Value};

use crate::check;

mod valid;

pub use proto_kube::decode::{micro_time, time};
pub use valid::{
    annotations, label_selector, labels, maybe_prefix, selector_errors, validate, validate_update,
};

/// The end of a generated name: five characters of a random value, without vowels and the like.
#[must_use]
pub fn suffix(random: u64) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let base = ALPHABET.len() as u64;
    let mut rest = random;
    let next = || {
        let at = usize::try_from(rest % base).unwrap_or(0);
        rest /= base;
        char::from(ALPHABET[at])
    };
    std::iter::repeat_with(next).take(5).collect()
}

/// Gives an object that has only a `generateName` its name. Should the name be taken, the caller asks again with another
/// random value after removing it.
pub fn generate_name(object: &mut Value, random: u64) {
    /// The longest name minus the suffix.
    const MOST: usize = 63 - 5;
    let base = object::text(object, &["metadata", "generateName"]);
    if base.is_empty() || !object::name(object).is_empty() {
        return;
    }
    let end = (0..=MOST.min(base.len())).rev().find(|at| base.is_char_boundary(*at)).unwrap_or(0);
    let name = format!("{}{}", &base[..end], suffix(random));
    object::metadata(object).insert("name".to_owned(), name.into());
}

/// Makes a new object what the server wants it to be: its metadata, its status, and what its kind says. `uid` is a fresh
/// UUID; `random` ends a generated name.
pub fn prepare_create(resource: &Resource, object: &mut Value, uid: &str, random: u64, now: Timestamp) {
    let kind = crate::of(resource);
    generate_name(object, random);
    let metadata = object::metadata(object);
    for key in
        ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        metadata.remove(key);
    }
    if !resource.namespaced {
        metadata.remove("namespace");
    }
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), time(now).into());
    if !kind.generation().is_empty() {
        metadata.insert("generation".to_owned(), 1.into());
    }
    if !kind.keeps_new_status() {
        put(object, "status", kind.initial_status());
    }
    kind.prepare_create(object);
}

/// Makes an updated object what the server wants it to be, for the object itself (an empty `subresource`) or one of its
/// subresources: what clients cannot change is as it was, and a changed wish is a new generation.
pub fn prepare_update(resource: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    let kind = crate::of(resource);
    let was = |key: &str| object::at(old, &["metadata", key]).cloned();
    let metadata = object::metadata(new);
    metadata.remove("selfLink");
    if !resource.namespaced {
        metadata.remove("namespace");
    }
    for key in ["creationTimestamp", "generation"] {
        set(metadata, key, was(key));
    }
    if metadata.get("uid").and_then(Value::as_str).is_none_or(str::is_empty) {
        set(metadata, "uid", was("uid"));
    }
    if let Some(at) = was("deletionTimestamp") {
        metadata.insert("deletionTimestamp".to_owned(), at);
    }
    if metadata.get("deletionGracePeriodSeconds").is_none_or(Value::is_null) {
        set(metadata, "deletionGracePeriodSeconds", was("deletionGracePeriodSeconds"));
    }
    if subresource.is_empty() {
        put(new, "status", object::at(old, &["status"]).cloned());
        kind.prepare_update(new, old);
    } else {
        kind.prepare_subresource(subresource, new, old);
    }
    if kind.generation().iter().any(|member| !check::same_at(new, old, &[member])) {
        let before = object::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
        object::metadata(new).insert("generation".to_owned(), (before + 1).into());
    }
}

/// Keeps of a changed object only the named top-level members and what every update may change in the metadata of a
/// subresource: the managed fields and the resource version. All else is as it was.
pub fn only(new: &mut Value, old: &Value, members: &[&str]) {
    let mut kept = old.clone();
    for member in members {
        put(&mut kept, member, object::at(new, &[member]).cloned());
    }
    let metadata = object::metadata(&mut kept);
    for key in ["managedFields", "resourceVersion", "labels", "annotations", "ownerReferences", "finalizers"]
    {
        set(metadata, key, object::at(new, &["metadata", key]).cloned());
    }
    for key in ["name", "namespace", "uid"] {
        if let Some(value) = object::at(new, &["metadata", key]) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    *new = kept;
}

/// Keeps of a changed object only the named top-level members and its managed fields: labels, annotations, owners and
/// finalizers are as they were, as the younger kinds have it for `status`.
pub fn reset(new: &mut Value, old: &Value, members: &[&str]) {
    only(new, old, members);
    let metadata = object::metadata(new);
    for key in ["labels", "annotations", "ownerReferences", "finalizers"] {
        set(metadata, key, object::at(old, &["metadata", key]).cloned());
    }
}

/// Puts members of the old object into the new one, or drops those that it did not have.
pub fn keep(new: &mut Value, old: &Value, members: &[&str]) {
    for member in members {
        put(new, member, object::at(old, &[member]).cloned());
    }
}

/// Sets or drops a top-level member.
pub fn put(object: &mut Value, key: &str, value: Option<Value>) {
    if let Some(members) = object.as_object_mut() {
        set(members, key, value);
    }
}

fn set(members: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(members.insert(key.to_owned(), value)),
        None => drop(members.remove(key)),
    }
}

#[cfg(test)]
mod tests;
