//! DaemonSets: one pod on each node that is fit for it.

mod node;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::selector::Labels;
use proto_kube::{GroupResource, object, pod, view::View};
use serde_json::{Value, json};

use crate::history::{self, History};
use crate::owner::{self, Claim};
use crate::resources::{DAEMON_SETS, NODES, PODS, REVISIONS, served};
use crate::{Controller, Key, Mutation, Outcome, World, conditions, pods, write};
use node::{Place, Retries};

/// How many pods are created or deleted at a time.
const BURST: usize = 250;
/// The label of pods that tells the count of templates: what revisions were before.
const GENERATION: &str = "pod-template-generation";

/// Remembers which pods failed of late, lest a node that refuses them is asked in a loop.
#[derive(Default)]
pub(crate) struct DaemonSets(Retries);

fn selector(set: &Value) -> Option<Labels> {
    Labels::of(&set["spec"]["selector"]).ok().flatten()
}

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemon-set-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("apps", "daemonsets"), ("", "pods"), ("", "nodes"), ("apps", "controllerrevisions")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of == REVISIONS && old.is_none() && new.and_then(object::controller).is_some() {
            // One that its owner, or a client, has just made: nothing follows from it until something else changes.
            return Vec::new();
        }
        if of == PODS || of == REVISIONS {
            return owner::keys(view, DAEMON_SETS, [old, new], selector);
        }
        if of == NODES {
            let fit =
                |node: &Value| (node["metadata"].get("labels").cloned(), node["spec"].get("taints").cloned());
            let same = old.zip(new).is_some_and(|(old, new)| fit(old) == fit(new));
            let all = if same { Vec::new() } else { view.list(DAEMON_SETS, "") };
            return all.iter().map(|set| owner::key(set)).collect();
        }
        new.or(old).map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, (namespace, name): &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(set) = world.view.get(DAEMON_SETS, namespace, name) else { return out };
        let Some(selector) = selector(&set).filter(|_| !object::is_terminating(&set)) else { return out };
        if selector.is_empty() {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            let generation = &set["metadata"]["generation"];
            if set["status"]["observedGeneration"] != *generation {
                out.mutations.push(write::warn(&set, "SelectingAll", text.to_owned()));
                let mut new = (*set).clone();
                new["status"]["observedGeneration"] = generation.clone();
                out.mutations.push(write::update_status(DAEMON_SETS, new));
            }
            return out;
        }
        let claim =
            |children| Claim { of: DAEMON_SETS, owner: &set, children, selector: &selector, finalizer: None };
        let revisions = claim(REVISIONS).take(world, &mut out, |_| true);
        let history = match history::find(world, DAEMON_SETS, &set, history::LABEL, revisions, &mut out) {
            Ok(history) => history,
            Err(collisions) => {
                let mut new = (*set).clone();
                new["status"]["collisionCount"] = collisions.into();
                out.mutations.push(write::update_status(DAEMON_SETS, new));
                return out;
            }
        };
        let pods = claim(PODS).take(world, &mut out, |_| true);
        let look = Look { retries: &self.0, world, set: &set, history, pods, out };
        look.go()
    }
}

/// One look at a set.
struct Look<'a> {
    retries: &'a Retries,
    world: &'a World<'a>,
    set: &'a Arc<Value>,
    history: History,
    pods: Vec<Arc<Value>>,
    out: Outcome,
}

/// What to change: pods on nodes, and pods that go.
#[derive(Default)]
struct Wish {
    create: Vec<String>,
    delete: Vec<Arc<Value>>,
}

impl Look<'_> {
    fn go(mut self) -> Outcome {
        self.drop_twins();
        let places = self.places();
        pods::failure(self.world, self.set, &mut self.out);
        if !pods::held(self.world) {
            let mut wish = self.manage(&places);
            if wish.create.is_empty() && wish.delete.is_empty() {
                wish = self.update(&places);
            }
            self.act(wish);
        }
        let live: BTreeSet<&str> =
            self.pods.iter().filter_map(|pod| object::label(pod, history::LABEL)).collect();
        self.history.clean_up(self.set, &live, &mut self.out);
        self.tell(&places);
        self.out
    }

    /// Revisions that are the same as the current one go, and the pods of them become its.
    fn drop_twins(&mut self) {
        for twin in &self.history.twins {
            for pod in
                self.pods.iter().filter(|p| object::label(p, history::LABEL) == Some(history::hash(twin)))
            {
                let mut patch = owner::guarded(pod);
                patch["metadata"]["labels"] = json!({history::LABEL: self.history.current()});
                self.out.mutations.push(Mutation::Merge(served(PODS), owner::key(pod), None, patch));
            }
            self.out.mutations.push(owner::delete(REVISIONS, twin));
        }
    }

    /// Each node, and each that pods are for though it is not there, with these pods.
    fn places(&self) -> BTreeMap<String, Place> {
        let template = self.template();
        let mut places: BTreeMap<String, Place> = self
            .world
            .view
            .list(NODES, "")
            .into_iter()
            .map(|node| (object::name(&node).to_owned(), Place::of(&template["spec"], &node)))
            .collect();
        for pod in self.pods.iter().filter(|pod| !(pod::has_ended(pod) && object::is_terminating(pod))) {
            if let Some(name) = node::target(pod) {
                places.entry(name.to_owned()).or_default().pods.push(pod.clone());
            }
        }
        for place in places.values_mut() {
            place.pods.sort_by_cached_key(|pod| {
                let bound = !object::text(pod, &["spec", "nodeName"]).is_empty();
                (!bound, object::time(pod, &["metadata", "creationTimestamp"]), object::name(pod).to_owned())
            });
        }
        places
    }

    /// The template with what every pod of a DaemonSet gets.
    fn template(&self) -> Value {
        let mut template = self.set["spec"]["template"].clone();
        node::add_tolerations(&mut template["spec"]);
        object::default(&mut template, "metadata", json!({}));
        let labels = object::member(&mut template["metadata"], "labels");
        if let Some(generation) = self.generation() {
            labels.insert(GENERATION.to_owned(), generation.to_string().into());
        }
        labels.insert(history::LABEL.to_owned(), self.history.current().into());
        template
    }

    fn generation(&self) -> Option<i64> {
        object::annotation(self.set, "deprecated.daemonset.template.generation")?.parse().ok()
    }

    /// Whether a pod is of the current template.
    fn is_updated(&self, pod: &Value) -> bool {
        let of = |key: &str| object::label(pod, key);
        of(history::LABEL) == Some(self.history.current())
            || self.generation().is_some_and(|count| of(GENERATION) == Some(&count.to_string()))
    }

    fn available_from(&self, pod: &Value) -> Option<Timestamp> {
        pods::available_from(pod, object::number(self.set, &["spec", "minReadySeconds"]).unwrap_or(0))
    }

    fn is_available(&self, pod: &Value) -> bool {
        self.available_from(pod).is_some_and(|from| from <= self.world.now)
    }

    /// One pod where one belongs, none where none does, and none that has ended.
    fn manage(&mut self, places: &BTreeMap<String, Place>) -> Wish {
        let mut wish = Wish::default();
        for (name, place) in places {
            let going = |pod: &Arc<Value>| !object::is_terminating(pod);
            if !place.exists {
                // No node will ever take what waits for one that is not there.
                let waiting =
                    |pod: &&Arc<Value>| object::text(pod, &["spec", "nodeName"]).is_empty() && going(pod);
                wish.delete.extend(place.pods.iter().filter(waiting).cloned());
            } else if place.runs && place.pods.is_empty() {
                wish.create.push(name.clone());
            } else if place.stays {
                self.keep_one(name, place, &mut wish);
            } else {
                wish.delete.extend(place.pods.iter().filter(|pod| going(pod)).cloned());
            }
        }
        wish
    }

    fn keep_one(&mut self, node: &str, place: &Place, wish: &mut Wish) {
        let mut running = Vec::new();
        for pod in place.pods.iter().filter(|pod| !object::is_terminating(pod)) {
            let found = |how: &str, to: &str| {
                let (namespace, name) = owner::key(pod);
                format!("Found {how} daemon pod {namespace}/{name} on node {node}, will try to {to} it")
            };
            match object::text(pod, &["status", "phase"]) {
                "Failed" => {
                    let key = (object::uid(self.set).to_owned(), node.to_owned());
                    match self.retries.after(key, object::uid(pod), self.world.now) {
                        Some(later) => self.out.wake(later),
                        None => {
                            let text = found("failed", "kill");
                            self.out.mutations.push(write::warn(self.set, "FailedDaemonPod", text));
                            wish.delete.push(pod.clone());
                        }
                    }
                }
                "Succeeded" => {
                    let text = found("succeeded", "delete");
                    self.out.mutations.push(write::tell(self.set, "SucceededDaemonPod", text));
                    wish.delete.push(pod.clone());
                }
                _ => running.push(pod),
            }
        }
        if self.surge(1) == 0 {
            wish.delete.extend(running.into_iter().skip(1).cloned());
            return;
        }
        if running.is_empty() && place.runs {
            // With a surge the next one does not wait until the one that goes is gone.
            if place.pods.iter().all(|pod| object::is_terminating(pod)) {
                wish.create.push(node.to_owned());
            }
            return;
        }
        // Two may be there while the new one is not ready and the old one is.
        let (new, old): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|pod| object::label(pod, history::LABEL) == Some(self.history.current()));
        wish.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).map(|pod| (*pod).clone()));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pod::is_ready(old) || self.is_available(new))
        {
            wish.delete.push((*old).clone());
        }
    }

    fn act(&mut self, wish: Wish) {
        let template = self.template();
        let seed = pods::seed(self.set, &self.pods);
        for node in wish.create.into_iter().take(BURST) {
            let Some(name) = pods::names(self.world, self.set, seed.text(&node)).next() else { continue };
            let mut pod = pods::from_template(DAEMON_SETS, self.set, &template, &name);
            node::bind(&mut pod["spec"], &node);
            self.out.mutations.push(Mutation::Create(served(PODS), pod));
            self.out.mutations.push(write::tell(
                self.set,
                "SuccessfulCreate",
                format!("Created pod: {name}"),
            ));
        }
        for pod in wish.delete.iter().take(BURST) {
            self.out.mutations.push(owner::delete(PODS, pod));
            let text = format!("Deleted pod: {}", object::name(pod));
            self.out.mutations.push(write::tell(self.set, "SuccessfulDelete", text));
        }
    }

    fn tell(&mut self, places: &BTreeMap<String, Place>) {
        let places = || places.values().filter(|place| place.exists);
        let wanted = || places().filter(|place| place.runs);
        let first = || wanted().filter_map(|place| place.pods.first());
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let available = first().filter(|pod| self.is_available(pod)).count();
        let mut status = self.set["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        let wrong = places().filter(|place| !place.runs && !place.pods.is_empty()).count();
        status["desiredNumberScheduled"] = wanted().count().into();
        status["currentNumberScheduled"] = first().count().into();
        status["numberMisscheduled"] = wrong.into();
        status["numberReady"] = first().filter(|pod| pod::is_ready(pod)).count().into();
        let updated = first().filter(|pod| self.is_updated(pod)).count();
        conditions::count(&mut status, "updatedNumberScheduled", count(updated));
        conditions::count(&mut status, "numberAvailable", count(available));
        conditions::count(&mut status, "numberUnavailable", count(wanted().count() - available));
        let generation = object::number(self.set, &["metadata", "generation"]).unwrap_or(0);
        conditions::count(&mut status, "observedGeneration", generation);
        if status != self.set["status"] {
            let mut new = (**self.set).clone();
            new["status"] = status;
            self.out.mutations.push(write::update_status(DAEMON_SETS, new));
        }
        let soon = self
            .pods
            .iter()
            .filter_map(|pod| self.available_from(pod))
            .filter(|at| *at > self.world.now)
            .min();
        if let Some(soon) = soon {
            self.out.wake(soon);
        }
    }
}

/// A moment later.
fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
