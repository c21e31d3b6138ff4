//! The end of a namespace: all that is in it is deleted, pods first, and when nothing is left it may go.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use proto_kube::view::View;
use proto_kube::{GroupResource, Resource, object};
use serde_json::{Value, json};

use crate::clock::after;
use crate::conditions::{self, stamp};
use crate::resources::{EVENTS, NAMESPACES, PODS, kept, served};
use crate::write::update_status;
use crate::{Condition, Controller, Key, Mutation, Outcome, Refused, World};

/// What keeps a namespace until it is empty.
const OURS: &str = "kubernetes";
/// When to look again at a namespace in which something waits, though no kind of object has come to its end.
const LATER: Duration = Duration::from_secs(5);

/// Empties namespaces.
pub(crate) struct Namespaces;

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        static ALL: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
            let contents = kept().filter(|r| r.namespaced).map(|r| (r.group, r.plural));
            [("", "namespaces")].into_iter().chain(contents).collect()
        });
        &ALL
    }

    fn needs(&self, of: GroupResource<'_>, _object: &Value) -> bool {
        of == NAMESPACES
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        _old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let key = |name: &str| vec![(String::new(), name.to_owned())];
        match (of, new, _old) {
            (NAMESPACES, Some(namespace), _) if is_ours(namespace) => key(object::name(namespace)),
            // The last of its kind has gone.
            (_, None, Some(old)) => {
                let name = object::namespace(old);
                let ends = view.get(NAMESPACES, "", name).is_some_and(|namespace| is_ours(&namespace));
                if ends && view.list(of, name).is_empty() { key(name) } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, world: &World<'_>, (_, name): &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(namespace) = world.view.get(NAMESPACES, "", name).filter(|n| is_ours(n)) else { return out };
        let content: Vec<(&'static Resource, Vec<Arc<Value>>)> = contents()
            .map(|resource| (resource, world.view.list(resource.group_resource(), name)))
            .filter(|(_, objects)| !objects.is_empty())
            .collect();
        let status = status(&namespace, &content, world.refused, world.now);
        out.mutations.extend(status.map(|status| update_status(NAMESPACES, status)));
        if world.refused.is_some() || !out.mutations.is_empty() {
            // With the new state of the namespace it goes on.
            return out;
        }
        if content.is_empty() {
            out.mutations = end(&namespace);
            return out;
        }
        out.wake(after(world.now, LATER));
        let pods = content.iter().any(|(resource, _)| resource.group_resource() == PODS);
        let first = content.iter().filter(|(resource, _)| !pods || resource.group_resource() == PODS);
        let left = first.filter(|(_, objects)| objects.iter().any(|object| !object::is_terminating(object)));
        out.mutations.extend(left.map(|(resource, _)| Mutation::Clear(resource, name.clone())));
        out
    }
}

fn is_ours(namespace: &Value) -> bool {
    object::is_terminating(namespace) && object::items(namespace, &["spec", "finalizers"]).any(|f| f == OURS)
}

/// What a namespace can hold, but for the many events.
fn contents() -> impl Iterator<Item = &'static Resource> {
    kept().filter(|resource| resource.namespaced)
}

/// Lets a namespace go that looks empty: what the view does not show is deleted as well, and the server itself must say
/// that nothing is left.
fn end(namespace: &Value) -> Vec<Mutation> {
    let name = object::name(namespace);
    let all = || contents().chain([served(EVENTS)]);
    let nothing =
        |resource| Mutation::If(Condition::Absent(resource, (name.to_owned(), String::new()), None));
    let mut mutations: Vec<Mutation> = all().map(|r| Mutation::Clear(r, name.to_owned())).collect();
    mutations.extend(all().map(nothing));
    let mut free = namespace.clone();
    let others = object::items(namespace, &["spec", "finalizers"]).filter(|f| *f != OURS);
    free["spec"]["finalizers"] = others.cloned().collect();
    mutations.push(Mutation::Update(served(NAMESPACES), Some("finalize"), free));
    mutations
}

/// The namespace with the conditions that tell how far its end has come; nothing when it has them.
fn status(
    namespace: &Value,
    content: &[(&'static Resource, Vec<Arc<Value>>)],
    refused: Option<&Refused>,
    now: Timestamp,
) -> Option<Value> {
    let mut remaining: Vec<String> = Vec::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (resource, objects) in content {
        let waiting: Vec<&Arc<Value>> = objects.iter().filter(|o| object::is_terminating(o)).collect();
        if !waiting.is_empty() {
            let (plural, group, count) = (resource.plural, resource.group, waiting.len());
            remaining.push(format!("{plural}.{group} has {count} resource instances"));
        }
        for object in waiting {
            for finalizer in object::items(object, &["metadata", "finalizers"]).filter_map(Value::as_str) {
                *finalizers.entry(finalizer).or_default() += 1;
            }
        }
    }
    remaining.sort();
    let finalizers: Vec<String> =
        finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    let list =
        |texts: &[String], what: &str| (!texts.is_empty()).then(|| format!("{what}: {}", texts.join(", ")));
    let failure = refused.map(|refused| {
        format!("Failed to delete all resource types, 1 remaining: {}", refused.status.message)
    });
    let mut changed = namespace.clone();
    for (kind, good, bad, problem) in [
        (
            "NamespaceDeletionDiscoveryFailure",
            ("ResourcesDiscovered", "All resources successfully discovered"),
            "",
            None,
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            "",
            None,
        ),
        (
            "NamespaceDeletionContentFailure",
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            "ContentDeletionFailed",
            failure,
        ),
        (
            "NamespaceContentRemaining",
            ("ContentRemoved", "All content successfully removed"),
            "SomeResourcesRemain",
            list(&remaining, "Some resources are remaining"),
        ),
        (
            "NamespaceFinalizersRemaining",
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            "SomeFinalizersRemain",
            list(&finalizers, "Some content in the namespace has finalizers remaining"),
        ),
    ] {
        let (is, reason, message) = match problem {
            Some(problem) => ("True", bad, problem),
            None => ("False", good.0, good.1.to_owned()),
        };
        let told =
            |member| conditions::get(&namespace["status"], kind).map_or("", |c| object::text(c, &[member]));
        if told("status") == is && told("reason") == reason && told("message") == message {
            continue;
        }
        let since = if told("status") == is { told("lastTransitionTime").into() } else { stamp(now) };
        let condition = json!({"type": kind, "status": is, "reason": reason, "message": message,
            "lastTransitionTime": since});
        put(&mut changed["status"], condition);
    }
    (changed != *namespace).then_some(changed)
}

/// Puts a condition where the one of its type is, or last.
fn put(status: &mut Value, condition: Value) {
    let all = &mut status["conditions"];
    if !all.is_array() {
        *all = json!([]);
    }
    let list = all.as_array_mut().expect("made above");
    match list.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(place) => *place = condition,
        None => list.push(condition),
    }
}

#[cfg(test)]
mod tests;
