//! Controllers in tests, run by what they are told of changes, as the runner does it: the view may be behind the truth,
//! each resource by as much as the test wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::{GroupResource, view::View};
use serde_json::Value;

use crate::{Controller, Facts, Key, Mutation, Objects, World};

/// The view as a watch cache shows it: of objects that no controller needs whole only the metadata.
struct Shown<'a>(&'a Objects, &'a [Box<dyn Controller>]);

impl Shown<'_> {
    fn narrow(&self, of: GroupResource<'_>, object: Arc<Value>) -> Arc<Value> {
        let watches = |c: &dyn Controller| c.watches().contains(&(of.group, of.resource));
        if self.1.iter().any(|c| watches(c.as_ref()) && c.needs(of, &object)) {
            return object;
        }
        let mut object = (*object).clone();
        proto_kube::object::narrow(of, &mut object);
        Arc::new(object)
    }
}

impl View for Shown<'_> {
    fn get(&self, of: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.get(of, namespace, name).map(|object| self.narrow(of, object))
    }

    fn list(&self, of: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        self.0.list(of, namespace).into_iter().map(|object| self.narrow(of, object)).collect()
    }
}

pub(crate) struct Driven {
    /// The truth.
    pub(crate) objects: Objects,
    /// What controllers see.
    pub(crate) view: Objects,
    pub(crate) facts: Facts,
    pub(crate) now: Timestamp,
    pub(crate) controllers: Vec<Box<dyn Controller>>,
    /// What waits to be looked at, and from when on.
    pub(crate) queue: BTreeMap<(usize, Key), Timestamp>,
    /// Asked about each change before it is made.
    pub(crate) check: fn(&Objects, &Mutation),
}

impl Driven {
    pub(crate) fn new(controllers: Vec<Box<dyn Controller>>) -> Self {
        Self {
            objects: Objects::default(),
            view: Objects::default(),
            facts: Facts::default(),
            now: "2026-01-01T12:00:00Z".parse().expect("a time"),
            controllers,
            queue: BTreeMap::new(),
            check: |_, _| {},
        }
    }

    /// Lets the controllers see all that has happened to a resource; to every one for none.
    pub(crate) fn see(&mut self, only: Option<GroupResource<'_>>) {
        for (group, plural, [old, new]) in self.objects.since(&self.view) {
            let of = GroupResource { group: &group, resource: &plural };
            if only.is_some_and(|only| only != of) {
                continue;
            }
            match &new {
                Some(new) => self.view.show(of, new.clone()),
                None => drop(old.as_ref().and_then(|old| {
                    let (namespace, name) = crate::owner::key(old);
                    self.view.remove(of, &namespace, &name)
                })),
            }
            let shown = Shown(&self.view, &self.controllers);
            let [old, new] = [old, new].map(|object| object.map(|object| shown.narrow(of, object)));
            for (which, controller) in self.controllers.iter().enumerate() {
                if controller.watches().contains(&(&*group, &*plural)) {
                    for key in controller.keys(&shown, of, old.as_deref(), new.as_deref()) {
                        self.queue.insert((which, key), self.now);
                    }
                }
            }
        }
    }

    /// Works on the `nth` of the keys whose time has come; the changes that were made.
    pub(crate) fn step(&mut self, nth: usize) -> Option<Vec<Mutation>> {
        let due: Vec<_> =
            self.queue.iter().filter(|(_, at)| **at <= self.now).map(|(key, _)| key.clone()).collect();
        let (which, key) = due.get(nth % due.len().max(1))?.clone();
        self.queue.remove(&(which, key.clone()));
        let shown = Shown(&self.view, &self.controllers);
        let world = World { view: &shown, facts: &self.facts, now: self.now, refused: None };
        let outcome = self.controllers[which].reconcile(&world, &key);
        let mut done = Vec::new();
        for mutation in outcome.mutations {
            if !matches!(mutation, Mutation::If(_) | Mutation::Event(..)) {
                (self.check)(&self.objects, &mutation);
            }
            if self.objects.apply(&mutation, self.now).is_err() {
                let soon = self.now.checked_add(SignedDuration::from_millis(100)).expect("no end of time");
                self.queue.insert((which, key.clone()), soon);
                return Some(done);
            }
            done.push(mutation);
        }
        if let Some(again) = outcome.again {
            self.queue.entry((which, key)).or_insert(again);
        }
        Some(done)
    }

    /// Goes on until nobody wants anything at this time; the changes that were made.
    pub(crate) fn settle(&mut self) -> Vec<Mutation> {
        let mut done = Vec::new();
        for _ in 0..10_000 {
            self.see(None);
            match self.step(0) {
                Some(more) => done.extend(more),
                None => return done,
            }
        }
        panic!("no end: {:?}", self.queue);
    }

    /// Lets time pass, with everybody looking when it is time to.
    pub(crate) fn pass(&mut self, seconds: i64) -> Vec<Mutation> {
        let end = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("no end of time");
        let mut done = self.settle();
        while let Some(next) = self.queue.values().copied().filter(|at| *at <= end).min() {
            self.now = self.now.max(next);
            done.extend(self.settle());
        }
        self.now = end;
        done
    }

    /// All keys of all objects again: as after a start. Nothing may be wanted that was not wanted before.
    pub(crate) fn restart(&mut self) {
        self.view = Objects::default();
        self.queue.clear();
        self.see(None);
    }

    pub(crate) fn get(&self, of: GroupResource<'_>, namespace: &str, name: &str) -> Option<Value> {
        proto_kube::view::View::get(&self.objects, of, namespace, name).map(|object| (*object).clone())
    }

    pub(crate) fn names(&self, of: GroupResource<'_>, namespace: &str) -> BTreeSet<String> {
        let all = proto_kube::view::View::list(&self.objects, of, namespace);
        all.iter().map(|object| proto_kube::object::name(object).to_owned()).collect()
    }
}
