//! Who owns what: references to owners, adoption of what is nobody's and release of what fits no more.

use std::sync::Arc;

use proto_kube::selector::Labels;
use proto_kube::{GroupResource, object, view::View};
use serde_json::{Value, json};

use crate::resources::served;
use crate::{Key, Mutation, Outcome, World, write};

/// The namespace and name of an object.
pub(crate) fn key(object: &Value) -> Key {
    (object::namespace(object).to_owned(), object::name(object).to_owned())
}

/// A reference to the object that controls another.
pub(crate) fn reference(of: GroupResource<'static>, owner: &Value) -> Value {
    let resource = served(of);
    json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "name": object::name(owner),
        "uid": object::uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The name of the object of a resource that controls the other.
pub(crate) fn controls<'a>(of: GroupResource<'static>, child: &'a Value) -> Option<&'a str> {
    let resource = served(of);
    let controller = object::controller(child)?;
    let group = controller.api_version.split_once('/').map_or("", |(group, _)| group);
    (controller.kind == resource.kind && group == resource.group).then_some(controller.name)
}

/// The owners of a resource that the change of a child concerns: those that controlled or control it, and where nobody
/// does, all of its namespace that select it.
pub(crate) fn keys(
    view: &dyn View,
    of: GroupResource<'static>,
    [old, new]: [Option<&Value>; 2],
    selector: impl Fn(&Value) -> Option<Labels>,
) -> Vec<Key> {
    let owner = |child: &Value| {
        controls(of, child).map(|name| (object::namespace(child).to_owned(), name.to_owned()))
    };
    let mut keys: Vec<Key> = [old, new].into_iter().flatten().filter_map(owner).collect();
    keys.dedup();
    let Some(new) = new.filter(|new| object::controller(new).is_none()) else { return keys };
    let labels = |child: &Value| child["metadata"].get("labels").cloned();
    let same = |old: &Value| object::controller(old).is_none() && labels(old) == labels(new);
    if !old.is_some_and(same) && labels(new).is_some() {
        let selects = |owner: &Arc<Value>| selector(owner).is_some_and(|s| !s.is_empty() && s.selects(new));
        let owners = view.list(of, object::namespace(new)).into_iter().filter(selects);
        keys.extend(owners.map(|owner| key(&owner)));
    }
    keys
}

/// What belongs to an owner, and how it comes to.
pub(crate) struct Claim<'a> {
    /// The owner's resource.
    pub(crate) of: GroupResource<'static>,
    pub(crate) owner: &'a Arc<Value>,
    /// The children's resource.
    pub(crate) children: GroupResource<'static>,
    pub(crate) selector: &'a Labels,
    /// Each child bears it as long as it has the owner.
    pub(crate) finalizer: Option<&'static str>,
}

impl Claim<'_> {
    /// The children that are the owner's and `may` be: those it controls and selects, and those that it takes in as they
    /// are nobody's. What it controls but does not select any more it lets go.
    pub(crate) fn take(
        &self,
        world: &World<'_>,
        out: &mut Outcome,
        may: impl Fn(&Value) -> bool,
    ) -> Vec<Arc<Value>> {
        let of_uid = |uid: &str| {
            let mut all = world.view.controlled(self.children, object::namespace(self.owner), uid);
            all.retain(|child| may(child));
            all
        };
        let going = object::is_terminating(self.owner);
        let (mut mine, strange): (Vec<_>, Vec<_>) =
            of_uid(object::uid(self.owner)).into_iter().partition(|child| self.selector.selects(child));
        if going {
            return mine;
        }
        out.mutations.extend(strange.iter().map(|child| self.release(child)));
        let mut found = of_uid("");
        found.retain(|child| !object::is_terminating(child) && self.selector.selects(child));
        if !found.is_empty() {
            // An owner that goes and leaves its children behind must not get them back: the view may be behind. A write
            // that changes nothing succeeds only if the owner is still as it was seen.
            out.mutations.push(write::update_status(self.of, (**self.owner).clone()));
        }
        out.mutations.extend(found.iter().map(|child| self.adopt(child)));
        mine.extend(found);
        mine
    }

    fn adopt(&self, child: &Value) -> Mutation {
        let mut owners: Vec<Value> =
            object::items(child, &["metadata", "ownerReferences"]).cloned().collect();
        owners.push(reference(self.of, self.owner));
        let mut finalizers: Vec<Value> = object::items(child, &["metadata", "finalizers"]).cloned().collect();
        if let Some(finalizer) = self.finalizer
            && !finalizers.iter().any(|f| f == finalizer)
        {
            finalizers.push(finalizer.into());
        }
        self.merge(child, owners, finalizers)
    }

    fn release(&self, child: &Value) -> Mutation {
        let uid = object::uid(self.owner);
        let owners =
            object::items(child, &["metadata", "ownerReferences"]).filter(|owner| owner["uid"] != uid);
        let finalizers =
            object::items(child, &["metadata", "finalizers"]).filter(|f| f.as_str() != self.finalizer);
        self.merge(child, owners.cloned().collect(), finalizers.cloned().collect())
    }

    fn merge(&self, child: &Value, owners: Vec<Value>, finalizers: Vec<Value>) -> Mutation {
        let list = |items: Vec<Value>| if items.is_empty() { Value::Null } else { items.into() };
        let mut patch = guarded(child);
        patch["metadata"]["ownerReferences"] = list(owners);
        if self.finalizer.is_some() {
            patch["metadata"]["finalizers"] = list(finalizers);
        }
        Mutation::Merge(served(self.children), key(child), None, patch)
    }
}

/// The beginning of a patch that hits the object only as it is.
pub(crate) fn guarded(object: &Value) -> Value {
    let meta = &object["metadata"];
    json!({"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}})
}

/// The deletion of this object and of no other of its name.
pub(crate) fn delete(of: GroupResource<'static>, object: &Value) -> Mutation {
    let options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": object::uid(object)},
    });
    Mutation::Delete(served(of), key(object), options)
}
