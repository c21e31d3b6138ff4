//! The revisions of a template that a DaemonSet or StatefulSet had: `ControllerRevision`s, to tell which pods are of
//! which and to go back to.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto_kube::{GroupResource, object};
use serde_json::{Value, json};

use crate::names::Hash;
use crate::owner;
use crate::pods::plain;
use crate::resources::{REVISIONS, served};
use crate::{Mutation, Outcome, World, write};

/// The label of pods and revisions that tells which revision they are of.
pub(crate) const LABEL: &str = "controller-revision-hash";

pub(crate) struct History {
    /// All, in the order in which they were current; the current one, though it may still have to be created, is last.
    pub(crate) revisions: Vec<Arc<Value>>,
    /// Others that are the same as the current one.
    pub(crate) twins: Vec<Arc<Value>>,
}

/// Which number a revision is.
fn number(revision: &Value) -> i64 {
    object::number(revision, &["revision"]).unwrap_or(0)
}

/// The label of revisions that DaemonSets and StatefulSets tell their hash by.
pub(crate) const HASH: &str = "controller.kubernetes.io/hash";

/// The name by which the pods of a DaemonSet refer to a revision, as their label.
pub(crate) fn hash(revision: &Value) -> &str {
    object::label(revision, LABEL).unwrap_or_else(|| object::name(revision))
}

/// The part of an owner that its revisions keep, as a patch that brings it back.
fn patch(owner: &Value) -> Value {
    let mut template = owner["spec"]["template"].clone();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

fn is_of(revision: &Value, owner: &Value) -> bool {
    let mut kept = revision["data"]["spec"]["template"].clone();
    if let Some(members) = kept.as_object_mut() {
        members.remove("$patch");
    }
    plain(&kept) == plain(&owner["spec"]["template"])
}

/// Finds the owner's current revision, with its hash in the label `mark`, among those that belong to it, or has it created; brings its number up to date.
/// `Err` has the count of collisions to be written instead, as the name is another's.
pub(crate) fn find(
    world: &World<'_>,
    of: GroupResource<'static>,
    owner: &Value,
    mark: &str,
    mut all: Vec<Arc<Value>>,
    out: &mut Outcome,
) -> Result<History, i64> {
    all.sort_by(|a, b| number(a).cmp(&number(b)).then_with(|| object::name(a).cmp(object::name(b))));
    let (mut same, mut revisions): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| is_of(r, owner));
    let next = revisions.last().map_or(0, |last| number(last)) + 1;
    let current = match same.pop() {
        Some(current) if number(&current) >= next => current,
        Some(current) => {
            let mut new = (*current).clone();
            new["revision"] = next.into();
            out.mutations.push(write::update(REVISIONS, new.clone()));
            Arc::new(new)
        }
        None => {
            let new = create(world, of, owner, mark, next)?;
            out.mutations.push(Mutation::Create(served(REVISIONS), new.clone()));
            Arc::new(new)
        }
    };
    revisions.push(current);
    Ok(History { revisions, twins: same })
}

fn create(
    world: &World<'_>,
    of: GroupResource<'static>,
    owner: &Value,
    mark: &str,
    number: i64,
) -> Result<Value, i64> {
    let template = &owner["spec"]["template"];
    let collisions = object::number(owner, &["status", "collisionCount"]);
    let hash = Hash::new().value(&plain(template));
    let hash = collisions.map_or(hash, |count| hash.text(&count.to_string())).label();
    let name = object::name(owner);
    let name = format!("{}-{hash}", name.get(..223).unwrap_or(name));
    if world.view.get(REVISIONS, object::namespace(owner), &name).is_some() {
        return Err(collisions.unwrap_or(0) + 1);
    }
    let mut labels = template["metadata"].get("labels").cloned().unwrap_or_else(|| json!({}));
    labels[mark] = hash.into();
    let mut new = json!({
        "metadata": {
            "name": name,
            "namespace": object::namespace(owner),
            "labels": labels,
            "ownerReferences": [owner::reference(of, owner)],
        },
        "data": patch(owner),
        "revision": number,
    });
    if let Some(annotations) = object::at(owner, &["metadata", "annotations"]) {
        new["metadata"]["annotations"] = annotations.clone();
    }
    Ok(new)
}

impl History {
    /// By which label pods of the current revision are known.
    pub(crate) fn current(&self) -> &str {
        self.revisions.last().map_or("", |revision| hash(revision))
    }

    /// Has the oldest revisions deleted that no pod is of, so that no more than the owner wants are kept.
    pub(crate) fn clean_up(&self, owner: &Value, live: &BTreeSet<&str>, out: &mut Outcome) {
        let limit = object::number(owner, &["spec", "revisionHistoryLimit"]).unwrap_or(10);
        let old = &self.revisions[..self.revisions.len() - 1];
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let unused = old.iter().filter(|revision| !live.contains(hash(revision)));
        out.mutations.extend(unused.take(surplus).map(|revision| owner::delete(REVISIONS, revision)));
    }
}
