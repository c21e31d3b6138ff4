//! What a check is, and how it reads a pod.

use std::collections::BTreeSet;

use proto_kube::{object, pod};
use serde_json::Value;

use super::policy::Level;

/// One rule of a level.
pub(super) struct Check {
    /// The level that has it, and all stricter ones.
    pub(super) level: Level,
    /// The minor version that has it first.
    pub(super) since: u32,
    /// The minor version from which on a check of the restricted level stands in its place there.
    pub(super) until_restricted: u32,
    /// What is wrong with a pod as of a minor version.
    pub(super) find: fn(&Pod<'_>, u32) -> Option<Finding>,
}

impl Check {
    /// Whether a level has it as of a minor version.
    pub(super) fn applies(&self, level: Level, minor: u32) -> bool {
        let replaced =
            level == Level::Restricted && self.level == Level::Baseline && minor >= self.until_restricted;
        level >= self.level && minor >= self.since && !replaced
    }
}

/// What is wrong, in short and in full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) reason: String,
    pub(super) detail: String,
}

impl Finding {
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into() }
    }
}

/// A pod, or a template of pods.
pub(super) struct Pod<'a> {
    pub(super) object: &'a Value,
    pub(super) spec: &'a Value,
}

impl<'a> Pod<'a> {
    pub(super) fn new(object: &'a Value) -> Self {
        Self { object, spec: object.get("spec").unwrap_or(&Value::Null) }
    }

    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        pod::containers(self.spec)
    }

    /// The names of the containers of which something holds.
    pub(super) fn named(&self, mut is: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|c| is(c)).map(|c| object::text(c, &["name"])).collect()
    }

    /// A member of the pod's security context.
    pub(super) fn security(&self, member: &str) -> Option<&'a Value> {
        object::at(self.spec, &["securityContext", member])
    }

    /// Whether it runs in a user namespace of its own.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    pub(super) fn is_windows(&self) -> bool {
        object::text(self.spec, &["os", "name"]) == "windows"
    }
}

/// A member of a container's security context.
pub(super) fn security<'a>(container: &'a Value, member: &str) -> Option<&'a Value> {
    object::at(container, &["securityContext", member])
}

/// The right one of two words for so many things.
pub(super) fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// `"a", "b"`
pub(super) fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `containers "a", "b"`
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container"), quoted(names))
}

/// `pod and container "a"`: who set something; empty when nobody did.
pub(super) fn setters(pod: bool, names: &[&str]) -> String {
    let pod = pod.then(|| "pod".to_owned());
    let containers = (!names.is_empty()).then(|| containers(names));
    pod.into_iter().chain(containers).collect::<Vec<_>>().join(" and ")
}

/// Texts in order, each once.
pub(super) type Set<'a> = BTreeSet<&'a str>;
