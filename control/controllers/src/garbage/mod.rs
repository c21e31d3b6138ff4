//! Garbage collection: what is owned goes with its owners, before them, or outlives them, as their deletion said.

mod graph;

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use proto_kube::view::View;
use proto_kube::{GroupResource, Gvk, Resource, object, resource};
use serde_json::{Value, json};

use crate::resources::kept;
use crate::write::warn;
use crate::{Condition, Controller, Key, Mutation, Outcome, World, owner};
use graph::{Graph, Place};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Those who collect.
pub(crate) fn all() -> Vec<Box<dyn Controller>> {
    vec![Box::new(GarbageCollector::default())]
}

/// Collects. It remembers who depends on whom; whether an owner is there it asks the view, and where the view does not
/// show it, the server: an owner may be newer than what the view shows.
#[derive(Default)]
struct GarbageCollector(Mutex<Graph>);

impl GarbageCollector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "generic-garbage-collector"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        static ALL: LazyLock<Vec<(&str, &str)>> =
            LazyLock::new(|| kept().map(|resource| (resource.group, resource.plural)).collect());
        &ALL
    }

    fn needs(&self, _of: GroupResource<'_>, _object: &Value) -> bool {
        false
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let Some(resource) = resource::preferred(of) else { return Vec::new() };
        let Some(object) = new.or(old) else { return Vec::new() };
        let place = Place::of(resource, object);
        let mut graph = self.graph();
        graph.replace(&place, old, new);
        let mut places: Vec<Place> = Vec::new();
        let references = |object: Option<&Value>| object.map(|o| o["metadata"]["ownerReferences"].clone());
        let changed = references(old) != references(new);
        if let Some(new) = new {
            // An owner that was taken away and put back between two looks has not changed.
            let several = object::items(new, &["metadata", "ownerReferences"]).count() > 1;
            let lost = || owners(resource, new).filter_map(|o| o.place).any(|at| at.get(view).is_none());
            let changed = changed || several && lost();
            let concerns = changed && is_owned(new) || collects(new).is_some();
            places.extend(concerns.then(|| place.clone()));
        }
        // Those that depend on what is gone, or is only waiting for them.
        let foreground = |object: Option<&Value>| object.and_then(collects) == Some(FOREGROUND);
        if foreground(new) && !foreground(old) {
            places.extend(graph.dependents(object::uid(object)));
        }
        if let Some(gone) = old.filter(|old| new.map(object::uid) != Some(object::uid(old))) {
            places.extend(graph.dependents(object::uid(gone)));
        }
        // An owner that waited for this one.
        if let Some(old) = old.filter(|_| changed || new.is_none()) {
            places.extend(owners(resource, old).filter_map(|owner| owner.place));
        }
        places.sort();
        places.dedup();
        places.iter().map(Place::key).collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(place) = Place::read(key) else { return out };
        let Some(item) = place.get(world.view) else { return out };
        out.mutations = match collects(&item) {
            Some(ORPHAN) => orphan(&place, &item, &self.dependents(world.view, &item)),
            Some(_) => {
                let blocked = self.dependents(world.view, &item).iter().any(|(_, dependent)| {
                    references(dependent)
                        .any(|r| r["uid"] == object::uid(&item) && r["blockOwnerDeletion"] == true)
                });
                let mut mutations = Vec::new();
                if blocked {
                    out.wake(crate::clock::after(world.now, LATER));
                } else {
                    mutations.push(without_finalizer(&place, &item, FOREGROUND));
                }
                mutations
            }
            None if object::is_terminating(&item) => Vec::new(),
            None => self.collect(world, &place, &item),
        };
        out
    }
}

/// When to look again at what waits for others, if nothing was seen to change.
const LATER: std::time::Duration = std::time::Duration::from_secs(30);

impl GarbageCollector {
    /// What depends on an object, as the view shows it.
    fn dependents(&self, view: &dyn View, item: &Value) -> Vec<(Place, Arc<Value>)> {
        let places: Vec<Place> = self.graph().dependents(object::uid(item)).collect();
        let uid = object::uid(item);
        let there = |place: Place| {
            let dependent = place.get(view)?;
            let depends = references(&dependent).any(|r| r["uid"] == uid);
            depends.then_some((place, dependent))
        };
        places.into_iter().filter_map(there).collect()
    }

    /// What becomes of an object that nobody has asked to delete.
    fn collect(&self, world: &World<'_>, place: &Place, item: &Arc<Value>) -> Vec<Mutation> {
        let (mut solid, mut leaving, mut mutations) = (0, Vec::new(), Vec::new());
        let mut waiting = false;
        for owner in owners(place.resource, item) {
            let Some(at) = &owner.place else {
                // Of a kind that nobody knows: it may be there.
                solid += 1;
                continue;
            };
            if owner.crosses {
                let group_version = object::text(owner.reference, &["apiVersion"]);
                let text = |member| object::text(owner.reference, &[member]);
                let message = format!(
                    "ownerRef [{group_version}/{}, namespace: , name: {}, uid: {}] does not exist in namespace \"\"",
                    text("kind"),
                    text("name"),
                    text("uid")
                );
                return vec![warn(item, "OwnerRefInvalidNamespace", message)];
            }
            let uid = object::text(owner.reference, &["uid"]);
            match at.get(world.view).filter(|found| object::uid(found) == uid) {
                Some(found) if collects(&found) == Some(FOREGROUND) => {
                    waiting = true;
                    leaving.push(uid.to_owned());
                }
                Some(_) => solid += 1,
                None => {
                    let absent = Condition::Absent(at.resource, at.name_key(), Some(uid.to_owned()));
                    mutations.push(Mutation::If(absent));
                    leaving.push(uid.to_owned());
                }
            }
        }
        if leaving.is_empty() {
            return Vec::new();
        }
        if solid > 0 {
            mutations.push(without_owners(place, item, &leaving));
            return mutations;
        }
        let dependents = if waiting { self.dependents(world.view, item) } else { Vec::new() };
        if dependents.is_empty() {
            let policy = match () {
                () if has_finalizer(item, ORPHAN) => "Orphan",
                () if has_finalizer(item, FOREGROUND) => "Foreground",
                () => "Background",
            };
            mutations.push(delete(place, item, policy));
            return mutations;
        }
        // Where one of them waits too they may wait for each other: this one lets its owners go on.
        if dependents.iter().any(|(_, dependent)| collects(dependent) == Some(FOREGROUND))
            && references(item).any(|r| r["blockOwnerDeletion"] == true)
        {
            mutations.push(unblocking(place, item));
            return mutations;
        }
        mutations.push(delete(place, item, "Foreground"));
        mutations
    }
}

/// The finalizer for which an object that is being deleted waits, if it is one of the collector's.
fn collects(object: &Value) -> Option<&'static str> {
    let waits = object::is_terminating(object);
    [ORPHAN, FOREGROUND].into_iter().find(|finalizer| waits && has_finalizer(object, finalizer))
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object::items(object, &["metadata", "finalizers"]).any(|f| f == finalizer)
}

fn is_owned(object: &Value) -> bool {
    references(object).next().is_some()
}

fn references(object: &Value) -> impl Iterator<Item = &Value> {
    object::items(object, &["metadata", "ownerReferences"])
}

/// A reference and where the owner is.
struct Owner<'a> {
    reference: &'a Value,
    /// `None` for a kind that is not served.
    place: Option<Place>,
    /// Whether an object of the cluster says that one of a namespace owns it, which is not possible.
    crosses: bool,
}

fn owners<'a>(resource: &'static Resource, item: &'a Value) -> impl Iterator<Item = Owner<'a>> {
    references(item).map(move |reference| {
        let text = |member| object::text(reference, &[member]);
        let of = resource::of_kind(&Gvk::new(text("apiVersion"), text("kind")));
        let of = of.and_then(|of| resource::preferred(of.group_resource()));
        let namespace = |of: &Resource| if of.namespaced { object::namespace(item) } else { "" }.to_owned();
        let crosses = of.is_some_and(|of| of.namespaced) && !resource.namespaced;
        let place =
            of.map(|of| Place { resource: of, namespace: namespace(of), name: text("name").to_owned() });
        Owner { reference, place, crosses }
    })
}

/// Lets go of all that depends on an object, and then of the object.
fn orphan(place: &Place, item: &Value, dependents: &[(Place, Arc<Value>)]) -> Vec<Mutation> {
    let uid = [object::uid(item).to_owned()];
    let mut mutations: Vec<Mutation> =
        dependents.iter().map(|(place, dependent)| without_owners(place, dependent, &uid)).collect();
    mutations.push(without_finalizer(place, item, ORPHAN));
    mutations
}

fn without_owners(place: &Place, item: &Value, uids: &[String]) -> Mutation {
    let stay = |reference: &&Value| !uids.iter().any(|uid| reference["uid"] == *uid);
    set(place, item, "ownerReferences", references(item).filter(stay).cloned().collect())
}

fn without_finalizer(place: &Place, item: &Value, finalizer: &str) -> Mutation {
    let others = object::items(item, &["metadata", "finalizers"]).filter(|f| *f != finalizer);
    set(place, item, "finalizers", others.cloned().collect())
}

/// No owner has to wait any more for this one.
fn unblocking(place: &Place, item: &Value) -> Mutation {
    let free = |reference: &Value| {
        let mut reference = reference.clone();
        reference["blockOwnerDeletion"] = false.into();
        reference
    };
    set(place, item, "ownerReferences", references(item).map(free).collect())
}

fn set(place: &Place, item: &Value, list: &str, items: Vec<Value>) -> Mutation {
    let mut patch = owner::guarded(item);
    patch["metadata"][list] = if items.is_empty() { Value::Null } else { items.into() };
    Mutation::Merge(place.resource, place.name_key(), None, patch)
}

/// Deletes an object as it was seen: if somebody has given it another owner meanwhile, it stays.
fn delete(place: &Place, item: &Value, policy: &str) -> Mutation {
    let meta = &item["metadata"];
    let options = json!({"propagationPolicy": policy,
        "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}});
    Mutation::Delete(place.resource, place.name_key(), options)
}

#[cfg(test)]
mod tests;
