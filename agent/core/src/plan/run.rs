//! A pod that is to run: prepare, sandbox, containers.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Container as Spec;

use super::Planner;
use crate::action::{Action, Object};
use crate::observed::{Container, HookState, Presence, Sandbox, State};
use crate::pod;
use crate::status::{Waiting, deadline};
use crate::time::seconds_later;
use crate::volume;
use crate::{resize, resources};

impl<'a> Planner<'a> {
    pub(super) fn run(&mut self) {
        if let Some(outcome) = self.outcome() {
            self.finish(&outcome);
            return;
        }
        if let Some(at) = deadline(self.desired, self.seen) {
            self.wake_at = super::earlier(self.wake_at, Some(at));
        }
        self.pull_ahead();
        if !self.prepare() {
            return;
        }
        self.update_volumes();
        let Some(sandbox) = self.sandbox() else { return };
        self.ephemeral(sandbox);
        if self.init(sandbox) {
            self.apps(sandbox);
        }
        self.collect(Some(&sandbox.id));
    }

    /// Cgroup and volumes; true when they stand.
    fn prepare(&mut self) -> bool {
        let mut failure = None;
        if self.seen.cgroup != Presence::Ready {
            failure = self.act(Action::PrepareCgroup).map(|f| ("FailedCreatePodCgroup", f));
        }
        if self.seen.volumes != Presence::Ready {
            failure = self.act(Action::PrepareVolumes).map(|f| ("FailedMount", f)).or(failure);
        }
        if let Some((reason, failure)) = failure {
            self.trouble = Some(Waiting::new(reason, &failure.message));
        }
        self.seen.cgroup == Presence::Ready && self.seen.volumes == Presence::Ready
    }

    /// Writes volumes anew when what they are made from has changed. Nothing waits for that.
    fn update_volumes(&mut self) {
        let told = self.seen.volumes_of.as_ref();
        let changed = told.is_some_and(|told| {
            !Arc::ptr_eq(told, &self.desired.pod) && volume::tells_apart(told, &self.desired.pod)
        });
        let due = self.seen.volumes_due.is_some_and(|at| at <= self.now);
        if changed || due {
            self.act(Action::UpdateVolumes);
        } else {
            self.wake_at = super::earlier(self.wake_at, self.seen.volumes_due);
        }
    }

    /// Containers to look into the pod with: each is started once, whatever the others do.
    fn ephemeral(&mut self, sandbox: &Sandbox) {
        let pod = self.desired.pod.clone();
        for spec in pod::ephemeral_containers(&pod) {
            let made = self.current(&spec.name, &sandbox.id).is_some();
            if made || !self.was_made(&spec.name) {
                self.step(&spec, sandbox, true);
            }
        }
    }

    /// The sandbox to put containers in; makes one when there is none or the old one is dead.
    fn sandbox(&mut self) -> Option<&'a Sandbox> {
        let host_network = pod::host_network(&self.desired.pod);
        let newest = self.seen.newest_sandbox();
        let ready = self.seen.sandboxes.iter().filter(|s| s.ready).count();
        if let Some(newest) = newest {
            let usable = newest.ready && ready == 1 && (host_network || !newest.ips.is_empty());
            if usable && !self.busy(&Object::Sandbox) {
                return Some(newest);
            }
            if !self.clear_sandboxes() {
                return None;
            }
        }
        if let Some(problem) = self.node.network_problem.as_ref().filter(|_| !host_network) {
            self.trouble = Some(Waiting::new("NetworkNotReady", problem));
            self.wait("sandbox", &format!("the network: {problem}"), None);
            return None;
        }
        let attempt = newest.map_or(0, |s| s.attempt + 1);
        if let Some(failure) = self.act(Action::CreateSandbox { attempt }) {
            self.trouble = Some(Waiting::new("FailedCreatePodSandBox", &failure.message));
        }
        None
    }

    /// Stops what is left of dead sandboxes; true when nothing of them runs.
    fn clear_sandboxes(&mut self) -> bool {
        let deadline = seconds_later(self.now, pod::grace_seconds(&self.desired.pod));
        let alive: Vec<&Container> = self.seen.containers.iter().filter(|c| c.alive()).collect();
        for container in &alive {
            self.kill(container, deadline, "Pod sandbox changed, it will be killed and re-created.", true);
        }
        if !alive.is_empty() {
            return false;
        }
        self.stop_sandboxes(|_| true)
    }

    /// App containers, in order; an init container before them has seen to the rest.
    fn apps(&mut self, sandbox: &Sandbox) {
        let pod = self.desired.pod.clone();
        let mut first = true;
        for spec in pod::containers(&pod) {
            first &= self.step(spec, sandbox, first);
        }
    }

    /// Takes one container (app or sidecar) a step further; one that has ended for good in another sandbox, or whose record
    /// is gone, needs none. `may_start`: those before it have been started. Returns whether those after it may be started.
    pub(super) fn step(&mut self, spec: &Spec, sandbox: &Sandbox, may_start: bool) -> bool {
        let Some(container) = self.current(&spec.name, &sandbox.id) else {
            let ended = self.seen.last_exit_code(&self.desired.pod, spec).is_some();
            return ended || self.create(spec, sandbox);
        };
        match &container.state {
            State::Created if may_start => self.start(container),
            State::Created => false,
            State::Unknown => {
                let deadline = seconds_later(self.now, pod::grace_seconds(&self.desired.pod));
                self.kill(container, deadline, "its state is unknown", true);
                true
            }
            State::Running { .. } => self.running(spec, container),
            State::Exited(exit)
                if self.seen.is_outdated(spec, container)
                    || pod::restarts(&self.desired.pod, spec, exit.exit_code) =>
            {
                self.create(spec, sandbox)
            }
            State::Exited(_) => true,
        }
    }

    /// A running container: its postStart hook, and its end if its image, a probe or the hook says so.
    fn running(&mut self, spec: &Spec, container: &Container) -> bool {
        if self.seen.is_outdated(spec, container) {
            let deadline = seconds_later(self.now, pod::grace_seconds(&self.desired.pod));
            let why = format!("Container {} definition changed, will be restarted", spec.name);
            self.kill(container, deadline, &why, true);
            return true;
        }
        if let Some(end) = self.verdict(spec, container) {
            let deadline = seconds_later(end.at, end.grace_seconds);
            self.kill(container, deadline, &end.why, true);
            return true;
        }
        if self.resize(spec, container) {
            return true;
        }
        if !pod::has_post_start(spec) {
            return true;
        }
        let hooks = self.seen.hooks.get(&container.id);
        if hooks.is_some_and(|h| h.post_start != HookState::NotRun) {
            return true;
        }
        self.act(Action::PostStart { name: spec.name.clone(), id: container.id.clone() });
        self.waiting.insert(spec.name.clone(), Waiting::new("PodInitializing", ""));
        false
    }

    /// Gives a running container the resources that it was granted; true when that takes its end.
    fn resize(&mut self, spec: &Spec, container: &Container) -> bool {
        let changes = match container.limits {
            Some(told) => resize::differs(told, resources::container_limits(spec)),
            None => return false,
        };
        if changes == (false, false) {
            return false;
        }
        self.resizing.get_or_insert_with(|| Waiting::new("", ""));
        if resize::takes_restart(spec, changes) {
            let deadline = seconds_later(self.now, pod::grace_seconds(&self.desired.pod));
            let why = format!("Container {} resize requires restart", spec.name);
            self.kill(container, deadline, &why, true);
            return true;
        }
        let (name, id) = (container.name.clone(), container.id.clone());
        if let Some(failure) = self.act(Action::ResizeContainer { name, id }) {
            self.resizing = Some(Waiting::new("Error", &failure.message));
        }
        false
    }

    /// Removes what is no longer of use: all but the newest two attempts of a container of which one at most is dead
    /// beside the newest, what never ran in an old sandbox, and old sandboxes without containers.
    pub(super) fn collect(&mut self, current: Option<&str>) {
        let pod = self.desired.pod.clone();
        let mut kept = Vec::new();
        for container in &self.seen.containers {
            let known = pod::container(&pod, &container.name).is_some();
            let newest = self.seen.latest(&container.name);
            let latest = newest.is_some_and(|l| l.id == container.id);
            let second = newest
                .and_then(|l| self.seen.before(&container.name, l.attempt))
                .is_some_and(|b| b.id == container.id);
            let stale =
                container.state == State::Created && current.is_some_and(|id| container.sandbox != id);
            if !known && container.alive() {
                let deadline = seconds_later(self.now, pod::grace_seconds(&pod));
                self.kill(container, deadline, "it is not in the pod's spec", true);
            } else if container.alive() || (known && (latest || second) && !stale) {
                kept.push(container.sandbox.as_str());
            } else {
                self.act(Action::RemoveContainer { name: container.name.clone(), id: container.id.clone() });
                kept.push(container.sandbox.as_str());
            }
        }
        let Some(current) = current else { return };
        self.stop_sandboxes(|s| s.id != current);
        let unused = |s: &&Sandbox| s.id != current && s.stopped && !kept.contains(&s.id.as_str());
        let unused: Vec<String> = self.seen.sandboxes.iter().filter(unused).map(|s| s.id.clone()).collect();
        if let Some(id) = unused.into_iter().next()
            && !self.busy(&Object::Sandbox)
        {
            self.act(Action::RemoveSandbox { id });
        }
    }
}
