//! One look at a deployment: what its sets are, which of the ways to go on it takes.

use std::sync::Arc;

use proto_kube::{object, pod};
use serde_json::{Value, json};

use super::set::{Set, sum};
use crate::resources::{DEPLOYMENTS, PODS, REPLICA_SETS};
use crate::{Outcome, World, owner, write};

pub(super) struct Rollout<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) deployment: &'a Arc<Value>,
    /// Older before newer.
    pub(super) sets: Vec<Set>,
    /// Which of the sets is of the deployment's template.
    pub(super) new: Option<usize>,
    /// How many pods there shall be, how many more there may be, how many of them may be missing.
    pub(super) replicas: i64,
    pub(super) surge: i64,
    pub(super) unavailable: i64,
    /// The status in the making, and the revision that the deployment is annotated with.
    pub(super) status: Value,
    pub(super) revision: Option<String>,
    pub(super) out: Outcome,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        world: &'a World<'a>,
        deployment: &'a Arc<Value>,
        sets: Vec<Arc<Value>>,
        out: Outcome,
    ) -> Self {
        let mut sets: Vec<Set> = sets.into_iter().map(Set::of).collect();
        sets.sort_by(Set::by_age);
        let replicas = object::number(deployment, &["spec", "replicas"]).unwrap_or(1);
        let (surge, unavailable) = super::scale::fence_posts(deployment, replicas);
        let mut status = deployment["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        let mut rollout = Self {
            world,
            deployment,
            sets,
            new: None,
            replicas,
            surge,
            unavailable,
            status,
            revision: None,
            out,
        };
        rollout.new = rollout.find_new();
        rollout
    }

    pub(super) fn go(mut self) -> Outcome {
        if object::is_terminating(self.deployment) {
            return self.finish(false);
        }
        self.note_pause();
        self.sync_revision();
        let paused = object::flag(self.deployment, &["spec", "paused"]);
        if paused || self.is_scaled() {
            self.scale();
            if paused {
                self.clean_up();
            }
            return self.finish(false);
        }
        let recreate = self.deployment["spec"]["strategy"]["type"] == "Recreate";
        let ready = if recreate { self.recreate() } else { self.roll() };
        if ready { self.finish(true) } else { self.write() }
    }

    /// Whether the deployment was made larger or smaller since its sets were last scaled with it.
    fn is_scaled(&self) -> bool {
        let active = self.sets.iter().filter(|set| set.replicas() > 0);
        active.filter_map(|set| set.noted(super::set::DESIRED)).any(|desired| desired != self.replicas)
    }

    /// Old pods go as new ones become available. False where the new set cannot be created.
    fn roll(&mut self) -> bool {
        let Some(new) = self.new.or_else(|| self.create_new()) else { return false };
        if !self.grow_new(new) {
            self.shrink_old(new);
        }
        true
    }

    fn grow_new(&mut self, new: usize) -> bool {
        let now = self.sets[new].replicas();
        let size = if now > self.replicas { self.replicas } else { self.room_for_new(now) };
        self.resize(new, size, false)
    }

    /// How many pods the new set may have, as all together must not be more than there may be.
    pub(super) fn room_for_new(&self, now: i64) -> i64 {
        let room = self.replicas + self.surge - sum(&self.sets, Set::replicas);
        if room <= 0 { now } else { now + room.min(self.replicas - now) }
    }

    fn shrink_old(&mut self, new: usize) {
        let old: Vec<usize> = (0..self.sets.len()).filter(|at| *at != new).collect();
        if old.iter().all(|at| self.sets[*at].replicas() == 0) {
            return;
        }
        let least = self.replicas - self.unavailable;
        let missing = self.sets[new].replicas() - self.sets[new].available();
        let most = sum(&self.sets, Set::replicas) - least - missing;
        if most <= 0 {
            return;
        }
        // What is broken goes first: it would hold up the rollout and is of no use to anybody.
        let mut broken_left = most;
        for &at in &old {
            let broken = self.sets[at].replicas() - self.sets[at].available();
            let gone = broken.min(broken_left);
            if self.sets[at].replicas() > 0 && gone > 0 {
                self.resize(at, self.sets[at].replicas() - gone, false);
                broken_left -= gone;
            }
        }
        let mut spare = sum(&self.sets, Set::available) - least;
        for at in old {
            let gone = self.sets[at].replicas().min(spare);
            if gone > 0 {
                self.resize(at, self.sets[at].replicas() - gone, false);
                spare -= gone;
            }
        }
    }

    /// All old pods go, and then the new ones come. False where the new set cannot be created.
    fn recreate(&mut self) -> bool {
        let mut busy = false;
        for at in (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect::<Vec<_>>() {
            busy |= self.resize(at, 0, false);
        }
        if busy || self.old_pods_run() {
            return true;
        }
        let Some(new) = self.new.or_else(|| self.create_new()) else { return false };
        self.resize(new, self.replicas, false);
        true
    }

    fn old_pods_run(&self) -> bool {
        let old = self.sets.iter().enumerate().filter(|(at, _)| Some(*at) != self.new);
        old.map(|(_, set)| set).any(|set| {
            let pods = || {
                let namespace = object::namespace(self.deployment);
                self.world.view.controlled(PODS, namespace, object::uid(&set.object))
            };
            set.status("replicas") > 0 || pods().iter().any(|pod| !pod::has_ended(pod))
        })
    }

    /// Sets without pods are kept to go back to, but not for ever.
    pub(super) fn clean_up(&mut self) {
        let limit = object::number(self.deployment, &["spec", "revisionHistoryLimit"]);
        let Some(limit) = limit.filter(|limit| *limit != i64::from(i32::MAX)) else { return };
        let mut old: Vec<&Set> = (0..self.sets.len())
            .filter(|at| Some(*at) != self.new)
            .map(|at| &self.sets[at])
            .filter(|set| !object::is_terminating(&set.object))
            .collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by(|a, b| a.revision().cmp(&b.revision()).then_with(|| a.by_age(b)));
        for set in &old[..surplus] {
            let generation = object::number(&set.object, &["metadata", "generation"]).unwrap_or(0);
            let idle = set.status("replicas") == 0 && set.replicas() == 0;
            if idle && generation <= set.status("observedGeneration") {
                self.out.mutations.push(owner::delete(REPLICA_SETS, &set.object));
            }
        }
    }

    /// The mutations, with the status as it has been made last.
    pub(super) fn write(mut self) -> Outcome {
        let mut writes = Vec::new();
        for set in self.sets {
            set.write(&mut writes);
        }
        // After the sets are written, those that are not needed go.
        let at = self.out.mutations.iter().position(|m| matches!(m, crate::Mutation::Delete(..)));
        let at = at.unwrap_or(self.out.mutations.len());
        self.out.mutations.splice(at..at, writes);
        let mut new = (**self.deployment).clone();
        new["status"] = self.status;
        if let Some(revision) = self.revision {
            let notes = object::member(&mut new["metadata"], "annotations");
            notes.insert(super::set::REVISION.to_owned(), revision.into());
        }
        let before = &self.deployment["status"];
        if new["status"] != *before || new["metadata"] != self.deployment["metadata"] {
            self.out.mutations.push(write::update_status(DEPLOYMENTS, new));
        }
        self.out
    }
}
