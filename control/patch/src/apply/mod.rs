//! Server-side apply and field management: who set which field of an object, kept in `metadata.managedFields`.
//!
//! An apply states all that its manager wants: what it stated before and no longer does is removed, unless another
//! manager owns it; what another manager owns with another value is a conflict. Every other write takes what it
//! changes.

mod cap;
mod filter;
mod last_applied;
mod managed;
mod name;
mod ownership;
mod scale;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use jiff::Timestamp;
use proto_kube::object::{at, text};
use proto_kube::schema::Table;
use proto_kube::{GroupVersion, Gvk};
use serde_json::{Map, Value};

use self::managed::Managers;
use self::ownership::{Conflicts, Refusal};
use crate::Error;

pub use filter::Filter;
pub use name::manager as manager_name;
pub use scale::Replicas;

/// Gives an object in another version of its kind, of which any part may be missing; `None` when the kind is not served in that version, and then the
/// entries of that version are forgotten.
pub type Convert<'a> = &'a dyn Fn(&Value, &GroupVersion) -> Option<Value>;

/// The [`Convert`] of a kind that is served in one version.
#[must_use]
pub fn one_version(_: &Value, _: &GroupVersion) -> Option<Value> {
    None
}

/// A write of an object: who writes, in which version, through which subresource, and when.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// The schema.
    pub table: &'a Table,
    /// The kind of the object, in the version of the request: the objects given must be of this version.
    pub kind: &'a Gvk,
    /// As [`manager_name`] makes it; for apply the `fieldManager` parameter.
    pub manager: &'a str,
    /// As `status`; empty for the object itself.
    pub subresource: &'a str,
    /// What this write may own at all.
    pub filter: &'a Filter,
    /// For kinds that are served in several versions.
    pub convert: Convert<'a>,
    /// The time that a new entry bears; to the second.
    pub now: Timestamp,
}

impl Write<'_> {
    /// Applies a configuration to the live object, or makes the object when there is none. What comes back has its
    /// `managedFields` set and is to be decoded, defaulted and validated like any object; when nothing changed it
    /// equals `live`.
    ///
    /// `config` is what was parsed from the body, not decoded by the schema: this function tells what does not fit it.
    ///
    /// # Errors
    /// `Conflicts` when other managers own what the configuration changes, unless `force`; `Malformed` for a
    /// configuration of another kind or with `managedFields`; `Failed` when it does not fit the schema.
    pub fn apply(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, Error> {
        let entries = live.and_then(|live| at(live, &["metadata", "managedFields"]));
        let mut managers = managed::decode(entries)
            .map_err(|why| Error::Failed(format!("failed to decode managed fields: {why}")))?;
        self.accept(config)?;
        let object = self.bare(live);
        if managers.is_empty() && live.is_some() {
            // What was set before anybody applied has an owner, too.
            let before = Self { manager: "before-first-apply", ..*self };
            managers = before.record(&self.blank(), &object, managers);
        }
        let outcome = match self.bring(&object, config, managers.clone(), force) {
            Err(Refusal::Conflicts(conflicts)) if self.manager == last_applied::KUBECTL => {
                match self.not_from_last_applied(&object, &conflicts) {
                    Some(rest) if rest.is_empty() => self.bring(&object, config, managers, true),
                    rest => Err(Refusal::Conflicts(rest.unwrap_or(conflicts))),
                }
            }
            outcome => outcome,
        };
        let (changed, managers) = outcome.map_err(refusal)?;
        let mut new = changed.unwrap_or_else(|| object.into_owned());
        if self.manager == last_applied::KUBECTL {
            last_applied::sync(&mut new, config);
        }
        managed::put(&mut new, &managers);
        Ok(new)
    }

    /// Records in `new` who owns what after a write that is no apply: a create, an update, or another patch. Never
    /// fails: what cannot be read in `managedFields` is replaced by what `live` has. To be called on the decoded and
    /// defaulted object, before admission.
    #[must_use]
    pub fn update(&self, live: Option<&Value>, mut new: Value) -> Value {
        let sent = managed::take(&mut new).filter(|entries| !entries.is_null());
        let managers = self.known(live, sent.as_ref());
        let is_create = live.is_none_or(|live| text(live, &["metadata", "uid"]).is_empty());
        let managers = if managers.is_empty() && !is_create {
            // Nobody applies this object, and nobody asked for it to be tracked.
            managers
        } else {
            self.record(&self.bare(live), &new, managers)
        };
        managed::put(&mut new, &managers);
        new
    }

    /// The managers before a write: as the client sent them, or when it does not know of them as they were.
    fn known(&self, live: Option<&Value>, sent: Option<&Value>) -> Managers {
        let stored = || {
            let entries = live.and_then(|live| at(live, &["metadata", "managedFields"]));
            managed::decode(entries).unwrap_or_default()
        };
        match sent {
            _ if !self.subresource.is_empty() => stored(),
            Some(entries) if managed::is_reset(entries) => Managers::new(),
            Some(entries) => {
                managed::decode(Some(entries)).ok().filter(|m| !m.is_empty()).unwrap_or_else(stored)
            }
            None => stored(),
        }
    }

    fn accept(&self, config: &Value) -> Result<(), Error> {
        let kind = Gvk::new(text(config, &["apiVersion"]), text(config, &["kind"]));
        if kind != *self.kind {
            return Err(Error::Malformed(format!("invalid object type: {kind}")));
        }
        if at(config, &["metadata", "managedFields"]).is_some() {
            return Err(Error::Malformed("metadata.managedFields must be nil".to_owned()));
        }
        self.typed(&self.kind.api_version()).check(config).map_err(|why| {
            let (namespace, name) =
                (text(config, &["metadata", "namespace"]), text(config, &["metadata", "name"]));
            Error::Failed(format!("failed to create typed patch object ({namespace}/{name}; {kind}): {why}"))
        })
    }

    /// The live object without its `managedFields`; when there is none, what it is before it is created.
    fn bare<'v>(&self, live: Option<&'v Value>) -> Cow<'v, Value> {
        match live {
            None => Cow::Owned(self.blank()),
            Some(live) if at(live, &["metadata", "managedFields"]).is_none() => Cow::Borrowed(live),
            Some(live) => {
                let mut live = live.clone();
                managed::take(&mut live);
                Cow::Owned(live)
            }
        }
    }

    /// An object before it is created, as upstream has it: parts that are never absent there are owned through their
    /// members only.
    fn blank(&self) -> Value {
        let mut members = self.table.kind(self.kind).map_or_else(Map::new, |id| self.table.empty(id));
        members.insert("apiVersion".to_owned(), self.kind.api_version().into());
        members.insert("kind".to_owned(), self.kind.kind.as_str().into());
        Value::Object(members)
    }
}

fn refusal(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Failed(why) => Error::Failed(why),
        Refusal::Conflicts(conflicts) => Error::Conflicts(report(&conflicts)),
    }
}

/// A message and a field for each conflict, sorted by the managers.
fn report(conflicts: &Conflicts) -> Vec<(String, String)> {
    let of = |(key, set): (&managed::Key, &crate::fields::Set)| {
        let message = format!("conflict with {key}");
        set.paths().into_iter().map(move |path| (message.clone(), path.to_string())).collect::<Vec<_>>()
    };
    conflicts.iter().flat_map(of).collect()
}

/// Whether `managedFields` can be read: to be asked after admission, which may have changed them.
///
/// # Errors
/// What is wrong with an entry, in upstream's words.
pub fn check(managed_fields: &Value) -> Result<(), String> {
    managed::decode(Some(managed_fields)).map(drop)
}

/// To be called last before an object is stored: gives `new` the times of `old` back when nothing but the times of
/// managed fields differ, so that a write that changes nothing is none.
pub fn keep_times(new: &mut Value, old: &Value) {
    let entries = |object: &Value| at(object, &["metadata", "managedFields"]).cloned();
    let (Some(Value::Array(after)), Some(Value::Array(before))) = (entries(new), entries(old)) else {
        return;
    };
    let timeless = |entries: &[Value]| {
        let mut entries = entries.to_vec();
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        entries
    };
    if after == before || timeless(&after) != timeless(&before) {
        return;
    }
    let Some(kept) = managed::take(new) else { return };
    let mut old = old.clone();
    managed::take(&mut old);
    let entries = if *new == old { Value::Array(before) } else { kept };
    managed::set(new, entries);
}
