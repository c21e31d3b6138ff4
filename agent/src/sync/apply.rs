//! What happenings do to the state.

use std::collections::BTreeSet;

use agent_core::probe::Kind;
use agent_core::{Action, Failure, HookState, Image, Object, ObservedPod, Presence};

use super::{Book, Happening, Sync};
use crate::effect::{EffectFailed, Outcome};
use crate::observe::{Found, Look};

impl Sync {
    pub(super) fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Source(update) => self.take_source(update),
            Happening::Api(change) => self.take_api(change),
            Happening::Node(object) => self.observed.node.object = object,
            Happening::Looked(look) => self.take_look(look),
            Happening::Hint(uid) => self.look_soon(&uid),
            Happening::Listening(listening) => self.listening = listening,
            Happening::Runtime { name, network_problem } => {
                self.observed.node.runtime_name = name;
                self.observed.node.network_problem = network_problem;
                self.runtime_known = true;
            }
            Happening::Probed { uid, id, kind, verdict } => {
                let Some(seen) = self.observed.pods.get_mut(&uid) else { return };
                if !seen.containers.iter().any(|c| c.id == id) {
                    return;
                }
                let health = seen.health.entry(id).or_default();
                match kind {
                    Kind::Startup => health.startup = Some(verdict),
                    Kind::Liveness => health.liveness = Some(verdict),
                    Kind::Readiness => health.readiness = Some(verdict),
                }
                self.book(&uid).urgent = true;
            }
            Happening::Evict { uid, message } => {
                let now = self.effects.clock.now();
                if let Some(seen) = self.observed.pods.get_mut(&uid) {
                    seen.evicted.get_or_insert((now, message));
                }
            }
            Happening::Objects(uids) => self.objects_changed(&uids),
            Happening::Done { uid, action, result, look } => self.done(&uid, &action, result, look),
        }
    }

    pub(super) fn book(&mut self, uid: &str) -> &mut Book {
        self.books.entry(uid.to_owned()).or_default()
    }

    /// Looks at one pod; when one is looking already, once more after that.
    fn look_soon(&mut self, uid: &str) {
        if !self.desired.pods.iter().any(|p| p.uid == uid) {
            return;
        }
        let book = self.book(uid);
        if book.looking {
            book.look_again = true;
            return;
        }
        book.looking = true;
        let (observer, happenings, uid) = (self.observer.clone(), self.happenings.clone(), uid.to_owned());
        self.tasks.spawn(async move {
            let look = super::look_until_seen(&observer, &uid).await;
            let _ = happenings.send(Happening::Looked(look));
        });
    }

    /// Uses a look for the pods for which nothing newer is known.
    fn take_look(&mut self, mut look: Look) {
        if let Some(uid) = look.uid.clone() {
            let found = look.pods.remove(&uid).unwrap_or_default();
            let book = self.book(&uid);
            book.looking = false;
            let again = std::mem::take(&mut book.look_again);
            self.found(&uid, look.number, found);
            if again {
                self.look_soon(&uid);
            }
            return;
        }
        let known: Vec<String> = self.desired.pods.iter().map(|p| p.uid.clone()).collect();
        for uid in known {
            let found = look.pods.remove(&uid).unwrap_or_default();
            self.found(&uid, look.number, found);
        }
        self.looked = true;
        // What nobody wants is ended, once the sources have said what they want.
        let told = self.source.is_some() && self.cluster.as_ref().is_none_or(|c| c.synced);
        if told && look.number > self.stale_look {
            for (uid, found) in look.pods {
                self.adopt(&uid, &found);
                self.found(&uid, look.number, found);
            }
        }
    }

    fn found(&mut self, uid: &str, number: u64, found: Found) {
        let book = self.books.entry(uid.to_owned()).or_default();
        if number <= book.look || !self.desired.pods.iter().any(|p| p.uid == uid) {
            return;
        }
        book.look = number;
        let seen = self.observed.pods.entry(uid.to_owned()).or_default();
        seen.sandboxes = found.sandboxes;
        seen.containers = found.containers;
        for sandbox in &mut seen.sandboxes {
            sandbox.stopped = !sandbox.ready && book.stopped.contains(&sandbox.id);
        }
        book.stopped.retain(|id| seen.sandboxes.iter().any(|s| s.id == *id));
        let there = |id: &String| seen.containers.iter().any(|c| c.id == *id);
        let before = seen.health.len() + seen.hooks.len();
        seen.health.retain(|id, _| there(id));
        seen.hooks.retain(|id, _| there(id));
        book.dirty |= before != seen.health.len() + seen.hooks.len();
    }

    /// An effect has ended.
    fn done(
        &mut self,
        uid: &str,
        action: &Action,
        result: Result<Outcome, EffectFailed>,
        look: Option<Look>,
    ) {
        match &result {
            Ok(_) => tracing::debug!(pod.uid = %uid, ?action, "done"),
            Err(failed) => {
                tracing::info!(pod.uid = %uid, ?action, reason = failed.reason, "{}", failed.message)
            }
        }
        if let Action::EnsureImage { image, .. } = action {
            self.image_done(uid, image, result);
            return;
        }
        if *action == Action::Forget && result.is_ok() {
            self.forget(uid);
            return;
        }
        let now = self.effects.clock.now();
        let object = action.object();
        let seen = self.observed.pods.entry(uid.to_owned()).or_default();
        seen.end(action);
        let book = self.books.entry(uid.to_owned()).or_default();
        book.urgent |= hook_done(seen, action, &result, now);
        match &result {
            Ok(outcome) => {
                seen.failures.remove(&object);
                if let Outcome::Volumes { due: Some(due) } = outcome {
                    seen.volumes_due = Some(seen.volumes_due.map_or(*due, |known| known.min(*due)));
                }
                match action {
                    Action::PrepareCgroup => seen.cgroup = Presence::Ready,
                    Action::RemoveCgroup => seen.cgroup = Presence::Absent,
                    Action::PrepareVolumes => seen.volumes = Presence::Ready,
                    Action::TeardownVolumes => seen.volumes = Presence::Absent,
                    Action::StopSandbox { id } => drop(book.stopped.insert(id.clone())),
                    _ => {}
                }
            }
            Err(failed) => {
                let gone = failed.image_gone.then_some(action);
                if let Some(Action::CreateContainer { name, .. }) = gone {
                    self.image_lost(uid, name);
                }
                let seen = self.observed.pods.entry(uid.to_owned()).or_default();
                seen_presence_unknown(seen, action);
                if *action == Action::UpdateVolumes {
                    seen.volumes_due = Some(now);
                }
                let count = seen.failures.get(&object).map_or(0, |f| f.count) + 1;
                let failure =
                    Failure { reason: failed.reason.into(), message: failed.message.clone(), at: now, count };
                seen.failures.insert(object, failure);
            }
        }
        if let Some(look) = look {
            let found = look.pods.get(uid).cloned().unwrap_or_default();
            self.found(uid, look.number, found);
        }
    }

    /// What pods use has changed: volumes are written anew, and what failed for want of it is tried again at once.
    fn objects_changed(&mut self, uids: &BTreeSet<String>) {
        let now = self.effects.clock.now();
        for uid in uids {
            let Some(seen) = self.observed.pods.get_mut(uid) else { continue };
            seen.volumes_due = Some(now);
            let config = |failure: &Failure| failure.reason == crate::effect::CONFIG;
            seen.failures.retain(|object, failure| *object != Object::Volumes && !config(failure));
        }
    }

    /// The image of a container is not there although it was: it is looked for again.
    fn image_lost(&mut self, uid: &str, container: &str) {
        let pod = self.desired.pods.iter().find(|p| p.uid == uid).map(|p| p.pod.clone());
        let spec = pod.as_ref().and_then(|pod| agent_core::pod::container(pod, container));
        if let Some(spec) = spec {
            self.observed.images.remove(agent_core::pod::image(&spec));
        }
    }

    fn image_done(&mut self, uid: &str, name: &str, result: Result<Outcome, EffectFailed>) {
        let now = self.effects.clock.now();
        let image = self.observed.images.entry(name.to_owned()).or_default();
        match result {
            Ok(Outcome::Image { reference, pulled }) => {
                let pulled_at = if pulled { Some(now) } else { image.pulled_at };
                *image = Image { reference: Some(reference), pulled_at, ..Image::default() };
            }
            Ok(_) => image.in_flight = false,
            Err(failed) => {
                let count = image.failures.get(uid).map_or(0, |f| f.count) + 1;
                let failure =
                    Failure { reason: failed.reason.into(), message: failed.message, at: now, count };
                image.failures.insert(uid.to_owned(), failure);
                image.in_flight = false;
            }
        }
    }

    /// A pod is gone. If it is wanted again meanwhile it begins anew.
    fn forget(&mut self, uid: &str) {
        self.report_over(uid);
        self.desired.pods.retain(|p| p.uid != uid);
        self.observed.pods.remove(uid);
        self.books.remove(uid);
        self.stale_look = self.observer.latest();
        let used: Vec<String> = self
            .desired
            .pods
            .iter()
            .flat_map(|p| {
                agent_core::pod::all_containers(&p.pod).map(|c| agent_core::pod::image(c).to_owned())
            })
            .collect();
        self.observed.images.retain(|name, image| image.in_flight || used.contains(name));
        self.observed.images.values_mut().for_each(|image| drop(image.failures.remove(uid)));
        self.reconcile_source();
    }
}

/// A half-done preparation or removal leaves something of which nobody knows.
fn seen_presence_unknown(seen: &mut ObservedPod, action: &Action) {
    match action {
        Action::PrepareCgroup | Action::RemoveCgroup => seen.cgroup = Presence::Unknown,
        Action::PrepareVolumes | Action::TeardownVolumes => seen.volumes = Presence::Unknown,
        _ => {}
    }
}

/// Keeps the outcome of a hook; true if the action was one.
fn hook_done(
    seen: &mut ObservedPod,
    action: &Action,
    result: &Result<Outcome, EffectFailed>,
    now: jiff::Timestamp,
) -> bool {
    let state = || match result {
        Ok(_) => HookState::Done,
        Err(failed) => HookState::Failed { at: now, message: failed.message.clone() },
    };
    match action {
        Action::PostStart { id, .. } => seen.hooks.entry(id.clone()).or_default().post_start = state(),
        Action::PreStop { id, .. } => seen.hooks.entry(id.clone()).or_default().pre_stop = state(),
        _ => return false,
    }
    debug_assert!(matches!(action.object(), Object::PostStart(_) | Object::PreStop(_)));
    true
}
