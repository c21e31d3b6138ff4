//! StatefulSets: pods that are told apart, each with its own name and claims, one after the other.

mod claims;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto_kube::selector::Labels;
use proto_kube::{GroupResource, object, pod, view::View};
use serde_json::{Value, json};

use crate::history;
use crate::owner::{self, Claim};
use crate::resources::{CLAIMS, PODS, REVISIONS, STATEFUL_SETS};
use crate::{Controller, Key, Mutation, Outcome, World, conditions, pods, write};

/// The label of a pod that tells its name: Services select single pods by it.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub(crate) struct StatefulSets;

fn selector(set: &Value) -> Option<Labels> {
    Labels::of(&set["spec"]["selector"]).ok().flatten().filter(|selector| !selector.is_empty())
}

/// Which of a set's pods this one is: by its name.
fn ordinal(set: &Value, pod: &Value) -> Option<i64> {
    let (parent, number) = object::name(pod).rsplit_once('-')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (parent == object::name(set) && digits).then(|| number.parse().ok()).flatten()
}

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("apps", "statefulsets"),
            ("", "pods"),
            ("apps", "controllerrevisions"),
            ("", "persistentvolumeclaims"),
        ]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of == PODS || of == REVISIONS {
            return owner::keys(view, STATEFUL_SETS, [old, new], selector);
        }
        if of == CLAIMS {
            // A claim's end may be what a pod waits for; other changes of claims concern no set.
            let gone = old.filter(|_| new.is_none());
            let sets = gone.map(|claim| view.list(STATEFUL_SETS, object::namespace(claim)));
            let named = |set: &Arc<Value>| {
                gone.is_some_and(|claim| object::name(claim).contains(&format!("-{}-", object::name(set))))
            };
            return sets.into_iter().flatten().filter(named).map(|set| owner::key(&set)).collect();
        }
        new.or(old).map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, (namespace, name): &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(set) = world.view.get(STATEFUL_SETS, namespace, name) else { return out };
        let Some(selector) = selector(&set) else { return out };
        let claim = |children| Claim {
            of: STATEFUL_SETS,
            owner: &set,
            children,
            selector: &selector,
            finalizer: None,
        };
        let revisions = claim(REVISIONS).take(world, &mut out, |_| true);
        let found = history::find(world, STATEFUL_SETS, &set, history::HASH, revisions, &mut out);
        let history = match found {
            Ok(history) => history,
            Err(collisions) => {
                let mut new = (*set).clone();
                new["status"]["collisionCount"] = collisions.into();
                out.mutations.push(write::update_status(STATEFUL_SETS, new));
                return out;
            }
        };
        let mut pods = BTreeMap::new();
        for pod in claim(PODS).take(world, &mut out, |pod| ordinal(&set, pod).is_some()) {
            pods.extend(ordinal(&set, &pod).map(|ordinal| (ordinal, pod)));
        }
        let mut revisions = history.twins;
        revisions.extend(history.revisions);
        Look { world, set: &set, revisions, pods, deleted: BTreeSet::new(), out }.go()
    }
}

/// One look at a set.
struct Look<'a> {
    world: &'a World<'a>,
    set: &'a Arc<Value>,
    /// The one that pods shall be of is last.
    revisions: Vec<Arc<Value>>,
    /// By ordinal.
    pods: BTreeMap<i64, Arc<Value>>,
    /// The pods that are told to go in this round.
    deleted: BTreeSet<String>,
    out: Outcome,
}

impl Look<'_> {
    fn go(mut self) -> Outcome {
        if !object::is_terminating(self.set) {
            self.tell_refusal();
            if !pods::held(self.world) {
                self.step();
            }
        }
        self.clean_up();
        self.tell();
        self.out
    }

    /// The revision that pods shall be of.
    fn update(&self) -> &Value {
        self.revisions.last().expect("one is made where there is none")
    }

    /// The revision that pods were of before the update that is going on.
    fn current(&self) -> &Value {
        let name = object::text(self.set, &["status", "currentRevision"]);
        self.revisions.iter().find(|revision| object::name(revision) == name).map_or(self.update(), |r| r)
    }

    fn replicas(&self) -> i64 {
        object::number(self.set, &["spec", "replicas"]).unwrap_or(1)
    }

    fn first(&self) -> i64 {
        object::number(self.set, &["spec", "ordinals", "start"]).unwrap_or(0)
    }

    fn is_available(&self, pod: &Value) -> bool {
        let min_ready = object::number(self.set, &["spec", "minReadySeconds"]).unwrap_or(0);
        pods::available_from(pod, min_ready).is_some_and(|from| from <= self.world.now)
    }

    /// Tells people of what the server has just refused.
    fn tell_refusal(&mut self) {
        let Some(refused) = self.world.refused else { return };
        if write::ends_with_namespace(&refused.status) {
            return;
        }
        let (set, why) = (object::name(self.set), &refused.status.message);
        let told = match &refused.mutation {
            Mutation::Create(of, new) if of.group_resource() == PODS => {
                let text =
                    format!("Create Pod {} in StatefulSet {set} failed error: {why}", object::name(new));
                ("FailedCreate", text)
            }
            Mutation::Create(of, new) if of.group_resource() == CLAIMS => {
                let claim = object::name(new);
                let pod = claim.rsplit_once('-').map_or("", |(_, ordinal)| ordinal);
                let text = format!(
                    "Create Claim {claim} for Pod {set}-{pod} in StatefulSet {set} failed error: {why}"
                );
                ("FailedCreate", text)
            }
            Mutation::Delete(of, key, _) if of.group_resource() == PODS => {
                let text = format!("Delete Pod {} in StatefulSet {set} failed error: {why}", key.1);
                ("FailedDelete", text)
            }
            _ => return,
        };
        self.out.mutations.push(write::warn(self.set, told.0, told.1));
    }

    /// Revisions that nothing is of any more are kept to go back to, but not for ever.
    fn clean_up(&mut self) {
        let mut live: BTreeSet<&str> =
            self.pods.values().filter_map(|pod| object::label(pod, history::LABEL)).collect();
        live.extend([object::name(self.current()), object::name(self.update())]);
        let old: Vec<_> = self.revisions.iter().filter(|r| !live.contains(object::name(r))).collect();
        let limit = object::number(self.set, &["spec", "revisionHistoryLimit"]).unwrap_or(10);
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let deletions: Vec<_> = old[..surplus].iter().map(|r| owner::delete(REVISIONS, r)).collect();
        self.out.mutations.extend(deletions);
    }

    fn tell(&mut self) {
        let count = |which: &dyn Fn(&Value) -> bool| {
            i64::try_from(self.pods.values().filter(|pod| which(pod)).count()).unwrap_or(i64::MAX)
        };
        let going = |pod: &Value| object::is_terminating(pod) || self.deleted.contains(object::uid(pod));
        let of = |revision: &Value, pod: &Value| {
            !going(pod) && object::label(pod, history::LABEL) == Some(object::name(revision))
        };
        let runs = |pod: &Value| pod["status"]["phase"] == "Running" && pod::is_ready(pod);
        let (current, update) = (self.current(), self.update());
        let (replicas, ready, updated) = (count(&|_| true), count(&runs), count(&|pod| of(update, pod)));
        let all = self.replicas();
        let rolls = self.set["spec"]["updateStrategy"]["type"] != "OnDelete";
        let done = rolls && [replicas, ready, updated] == [all; 3];
        let current_count = if done { updated } else { count(&|pod| of(current, pod)) };
        let mut status = self.set["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        status["replicas"] = replicas.into();
        status["availableReplicas"] = count(&|pod| runs(pod) && self.is_available(pod)).into();
        status["currentRevision"] = object::name(if done { update } else { current }).into();
        status["updateRevision"] = object::name(update).into();
        object::default(&mut status, "collisionCount", 0);
        conditions::count(&mut status, "readyReplicas", ready);
        conditions::count(&mut status, "updatedReplicas", updated);
        conditions::count(&mut status, "currentReplicas", current_count);
        let generation = object::number(self.set, &["metadata", "generation"]).unwrap_or(0);
        conditions::count(&mut status, "observedGeneration", generation);
        if status != self.set["status"] {
            let mut new = (**self.set).clone();
            new["status"] = status;
            self.out.mutations.push(write::update_status(STATEFUL_SETS, new));
        }
        let min_ready = object::number(self.set, &["spec", "minReadySeconds"]).unwrap_or(0);
        let soon = self.pods.values().filter_map(|pod| pods::available_from(pod, min_ready));
        if let Some(soon) = soon.filter(|from| *from > self.world.now).min() {
            self.out.wake(soon);
        }
    }
}

#[cfg(test)]
mod tests;
