//! Volumes, claims and classes of their attributes are not removed while somebody uses them.

use proto_kube::view::View;
use proto_kube::{GroupResource, object, pod};
use serde_json::{Value, json};

use crate::resources::{ATTRIBUTES_CLASSES, CLAIMS, PODS, VOLUMES};
use crate::write::update;
use crate::{Controller, Key, Outcome, World, owner};

/// Those who protect them.
pub(crate) fn all() -> Vec<Box<dyn Controller>> {
    vec![Box::new(Claims), Box::new(Volumes), Box::new(AttributesClasses)]
}

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLASSES: &str = "kubernetes.io/vac-protection";

struct Claims;

impl Controller for Claims {
    fn name(&self) -> &'static str {
        "pvc-protection-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "persistentvolumeclaims"), ("", "pods")]
    }

    fn keys(
        &self,
        _view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        match (of, old, new) {
            (CLAIMS, _, Some(claim)) => vec![owner::key(claim)],
            (PODS, Some(gone), None) => {
                let key = |name| (object::namespace(gone).to_owned(), name);
                claims(gone).map(key).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(claim) = world.view.get(CLAIMS, &key.0, &key.1) else { return out };
        // Only pods that have a node use it: others will not start with a claim that is being deleted.
        let uses = |pod: &Value| {
            !object::text(pod, &["spec", "nodeName"]).is_empty() && claims(pod).any(|name| name == key.1)
        };
        let used = || world.view.list(PODS, &key.0).iter().any(|pod| uses(pod));
        let changed = protect(&claim, OF_CLAIMS, used);
        out.mutations.extend(changed.map(|claim| update(CLAIMS, claim)));
        out
    }
}

struct Volumes;

impl Controller for Volumes {
    fn name(&self) -> &'static str {
        "pv-protection-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "persistentvolumes")]
    }

    fn keys(
        &self,
        _view: &dyn View,
        _of: GroupResource<'_>,
        _old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        new.map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(volume) = world.view.get(VOLUMES, "", &key.1) else { return out };
        let changed = protect(&volume, OF_VOLUMES, || volume["status"]["phase"] == "Bound");
        out.mutations.extend(changed.map(|volume| update(VOLUMES, volume)));
        out
    }
}

struct AttributesClasses;

impl Controller for AttributesClasses {
    fn name(&self) -> &'static str {
        "volumeattributesclass-protection-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("storage.k8s.io", "volumeattributesclasses"),
            ("", "persistentvolumeclaims"),
            ("", "persistentvolumes"),
        ]
    }

    fn keys(
        &self,
        _view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        match (of, old, new) {
            (ATTRIBUTES_CLASSES, _, Some(class)) => vec![owner::key(class)],
            // Whoever ceases to use a class may have been the last.
            (CLAIMS | VOLUMES, Some(old), _) => {
                classes(old).map(|name| (String::new(), name.to_owned())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(class) = world.view.get(ATTRIBUTES_CLASSES, "", &key.1) else { return out };
        let uses =
            |of| world.view.list(of, "").iter().any(|object| classes(object).any(|name| name == key.1));
        let changed = protect(&class, OF_CLASSES, || uses(CLAIMS) || uses(VOLUMES));
        out.mutations.extend(changed.map(|class| update(ATTRIBUTES_CLASSES, class)));
        out
    }
}

/// The attributes classes that a claim or a volume has, wants, or is about to have.
fn classes(object: &Value) -> impl Iterator<Item = &str> {
    const PLACES: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    PLACES.into_iter().map(|place| object::text(object, place)).filter(|name| !name.is_empty())
}

/// The names of the claims that a pod uses.
fn claims(pod: &Value) -> impl Iterator<Item = String> {
    object::items(pod, &["spec", "volumes"]).filter_map(move |volume| pod::claim(pod, volume))
}

/// An object with a finalizer as long as it lives, and after that as long as it is used; nothing when it is so already.
fn protect(object: &Value, finalizer: &str, used: impl FnOnce() -> bool) -> Option<Value> {
    let all: Vec<&Value> = object::items(object, &["metadata", "finalizers"]).collect();
    let has = all.iter().any(|f| **f == finalizer);
    let wanted: Vec<&Value> = match (object::is_terminating(object), has) {
        (true, true) if !used() => all.into_iter().filter(|f| **f != finalizer).collect(),
        (false, false) => {
            let mut changed = object.clone();
            let more = all.into_iter().cloned().chain([finalizer.into()]);
            changed["metadata"]["finalizers"] = more.collect();
            return Some(changed);
        }
        _ => return None,
    };
    let mut changed = object.clone();
    changed["metadata"]["finalizers"] = json!(wanted);
    Some(changed)
}

#[cfg(test)]
mod tests;
