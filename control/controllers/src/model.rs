//! A cluster for the tests of controllers: they are asked in turn until none wants a change, on a clock that stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::{GroupResource, Status, object, view::View};
use serde_json::{Value, json};

use crate::resources::PODS;
use crate::{Controller, Facts, Key, Mutation, Objects, Outcome, Refused, World};

/// Why a mutation is refused, if it is.
pub(crate) type Veto = fn(&Objects, &Mutation) -> Option<Status>;

pub(crate) struct Cluster {
    pub(crate) objects: Objects,
    pub(crate) now: Timestamp,
    /// Each with the resource that its keys name.
    pub(crate) controllers: Vec<(Box<dyn Controller>, GroupResource<'static>)>,
    pub(crate) veto: Veto,
    /// As the controllers were last told of it, and whom they want to look at again when.
    told: Objects,
    wakes: BTreeMap<(usize, Key), Timestamp>,
}

impl Cluster {
    pub(crate) fn new(controllers: Vec<(Box<dyn Controller>, GroupResource<'static>)>) -> Self {
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let (objects, told) = (Objects::default(), Objects::default());
        Self { objects, now, controllers, veto: |_, _| None, told, wakes: BTreeMap::new() }
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("within years");
    }

    /// What a controller wants for a key.
    pub(crate) fn ask(&self, which: usize, key: &Key, refused: Option<&Refused>) -> Outcome {
        let facts = Facts::default();
        let world = World { view: &self.objects, facts: &facts, now: self.now, refused };
        self.controllers[which].0.reconcile(&world, key)
    }

    /// Applies the first `most` of some mutations; the one that was refused.
    pub(crate) fn apply(&mut self, mutations: &[Mutation], most: usize) -> Option<Refused> {
        for mutation in mutations.iter().take(most) {
            let done = match (self.veto)(&self.objects, mutation) {
                Some(status) => Err(status),
                None => self.objects.apply(mutation, self.now),
            };
            match done {
                Ok(()) => {}
                Err(status) if matches!(status.reason, "AlreadyExists" | "NotFound" | "Conflict") => {
                    return None;
                }
                Err(status) => return Some(Refused { mutation: mutation.clone(), status }),
            }
        }
        None
    }

    /// Tells the controllers of each change, and asks them for what they say it concerns, until nothing changes any more.
    /// A change that a controller does not see the meaning of leaves it behind: then [`Self::round`] finds something to do.
    pub(crate) fn react(&mut self) {
        for _ in 0..500 {
            let changes = self.objects.since(&self.told);
            self.told = self.objects.clone();
            let now = self.now;
            let mut keys: BTreeSet<(usize, Key)> =
                self.wakes.extract_if(.., |_, at| *at <= now).map(|(key, _)| key).collect();
            for (group, resource, [old, new]) in &changes {
                let of = GroupResource { group, resource };
                for (which, (controller, _)) in self.controllers.iter().enumerate() {
                    if controller.watches().contains(&(group.as_str(), resource.as_str())) {
                        let concerned = controller.keys(&self.objects, of, old.as_deref(), new.as_deref());
                        keys.extend(concerned.into_iter().map(|key| (which, key)));
                    }
                }
            }
            if keys.is_empty() {
                return;
            }
            for (which, key) in keys {
                let outcome = self.ask(which, &key, None);
                self.wakes.remove(&(which, key.clone()));
                self.wakes.extend(outcome.again.map(|at| ((which, key), at)));
                self.apply(&outcome.mutations, usize::MAX);
            }
        }
        panic!("no end: {:#?}", self.objects.since(&self.told));
    }

    /// Asks all controllers for all keys once and does what they want; whether there was anything, and when to look again.
    pub(crate) fn round(&mut self) -> (bool, Option<Timestamp>) {
        let (mut busy, mut again) = (false, None::<Timestamp>);
        for which in 0..self.controllers.len() {
            for object in self.objects.list(self.controllers[which].1, "") {
                let key = (object::namespace(&object).to_owned(), object::name(&object).to_owned());
                let outcome = self.ask(which, &key, None);
                busy |= !outcome.mutations.is_empty();
                again = again.into_iter().chain(outcome.again).min();
                if let Some(refused) = self.apply(&outcome.mutations, usize::MAX) {
                    let outcome = self.ask(which, &key, Some(&refused));
                    self.apply(&outcome.mutations, usize::MAX);
                }
            }
        }
        (busy, again)
    }

    /// Goes on until nobody wants anything; when to look again.
    pub(crate) fn settle(&mut self) -> Option<Timestamp> {
        for _ in 0..200 {
            let (busy, again) = self.round();
            if !busy {
                return again;
            }
        }
        let mut wants = Vec::new();
        for which in 0..self.controllers.len() {
            let keys = self.objects.list(self.controllers[which].1, "");
            wants.extend(keys.iter().map(|o| self.ask(which, &crate::owner::key(o), None).mutations));
        }
        panic!("no end: {wants:#?}");
    }

    pub(crate) fn get(&self, of: GroupResource<'_>, name: &str) -> Arc<Value> {
        self.objects.get(of, "ns", name).unwrap_or_else(|| panic!("no {of} {name}"))
    }

    pub(crate) fn pods(&self) -> Vec<Arc<Value>> {
        self.objects.list(PODS, "ns")
    }

    /// Plays a node: the pod runs, ready since now or not.
    pub(crate) fn run(&mut self, pod: &str, ready: bool) {
        let at = crate::conditions::stamp(self.now);
        let ready = if ready { "True" } else { "False" };
        self.objects.change(PODS, "ns", pod, |pod| {
            object::default(&mut pod["spec"], "nodeName", "node");
            pod["status"] = json!({
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": at}],
            });
        });
    }

    /// All pods that are not being deleted run and are ready.
    pub(crate) fn run_all(&mut self) {
        for pod in self.pods() {
            if crate::pods::is_active(&pod) && !proto_kube::pod::is_ready(&pod) {
                self.run(object::name(&pod), true);
            }
        }
    }

    /// The pods whose deletion nodes were waiting for are gone.
    pub(crate) fn bury(&mut self) {
        for pod in self.pods() {
            let kept = object::items(&pod, &["metadata", "finalizers"]).next().is_some();
            if object::is_terminating(&pod) && !kept {
                self.objects.remove(PODS, "ns", object::name(&pod));
            }
        }
    }

    /// What people were told since the last call, without names that are made up: (reason, message).
    pub(crate) fn told(&mut self) -> Vec<(String, String)> {
        self.objects.told.drain(..).map(|(_, _, reason, message)| (reason.to_owned(), message)).collect()
    }
}
