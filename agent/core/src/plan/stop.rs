//! Ending containers, and pods as a whole.

use jiff::Timestamp;

use super::Planner;
use crate::action::{Action, Object};
use crate::desired::Termination;
use crate::observed::{Container, HookState, Presence, Sandbox, State};
use crate::pod;
use crate::status::Outcome;
use crate::time::{seconds_later, seconds_until};

/// What a container always gets between SIGTERM and SIGKILL, in seconds, even when its preStop hook took all.
const GRACE_SECONDS_MIN: i64 = 2;

impl Planner<'_> {
    /// Ends a container by `deadline`: its preStop hook, its turn, its stop.
    pub(super) fn kill(&mut self, container: &Container, deadline: Timestamp, why: &str, in_turn: bool) {
        let (name, id) = (container.name.clone(), container.id.clone());
        let hooked = pod::container(&self.desired.pod, &name).is_some_and(|c| pod::has_pre_stop(&c));
        let hook = self.seen.hooks.get(&id).map_or(&HookState::NotRun, |h| &h.pre_stop);
        let pending =
            hooked && *hook == HookState::NotRun && matches!(container.state, State::Running { .. });
        if pending && self.now < deadline && !self.busy(&Object::Container(name.clone())) {
            self.wait(&format!("container {name}"), "its preStop hook", Some(deadline));
            if !self.busy(&Object::PreStop(name.clone())) {
                self.act(Action::PreStop { name, id, deadline });
            }
            return;
        }
        if !in_turn && self.now < deadline {
            self.wait(&format!("container {name}"), "those it serves have to end first", Some(deadline));
            return;
        }
        let grace_seconds = seconds_until(deadline, self.now).max(GRACE_SECONDS_MIN);
        // It is being stopped, and was given more time than it has by now; graces are whole seconds.
        let by = seconds_later(self.now, grace_seconds + 1);
        if self.seen.stopping.get(&name).is_some_and(|given| by <= *given) {
            self.act(Action::HurryContainer { name: name.clone(), id: id.clone(), grace_seconds });
        }
        self.act(Action::StopContainer { name, id, grace_seconds, reason: why.to_owned() });
    }

    /// Ends all that runs; true when nothing does. Sidecars go last, in the reverse of their order.
    fn kill_all(&mut self, deadline: Timestamp, why: &str) -> bool {
        let alive: Vec<&Container> = self.seen.containers.iter().filter(|c| c.alive()).collect();
        for container in &alive {
            let in_turn = self.in_turn(container, &alive);
            self.kill(container, deadline, why, in_turn);
        }
        let made = |object: &&Object| matches!(object, Object::Container(_) | Object::Sandbox);
        alive.is_empty() && !self.seen.in_flight.iter().any(|o| made(&o))
    }

    /// A sidecar's turn comes when no app container and no sidecar after it runs.
    fn in_turn(&self, container: &Container, alive: &[&Container]) -> bool {
        let pod = &self.desired.pod;
        let order =
            |name: &str| pod::init_containers(pod).iter().position(|c| c.name == name && pod::sidecar(c));
        match order(&container.name) {
            None => true,
            Some(own) => alive.iter().all(|other| order(&other.name).is_some_and(|theirs| theirs <= own)),
        }
    }

    /// Stops sandboxes that may still have a network, one after the other; true when all are stopped.
    pub(super) fn stop_sandboxes(&mut self, which: impl Fn(&Sandbox) -> bool) -> bool {
        match self.seen.sandboxes.iter().find(|s| !s.stopped && which(s)) {
            None => true,
            Some(sandbox) => {
                if let Some(failure) = self.act(Action::StopSandbox { id: sandbox.id.clone() }) {
                    self.trouble = Some(crate::status::Waiting::new(&failure.reason, &failure.message));
                }
                false
            }
        }
    }

    /// The pod has come to its end by itself: sidecars and sandbox go, containers stay for their logs.
    pub(super) fn finish(&mut self, outcome: &Outcome) {
        let deadline = seconds_later(outcome.since, outcome.grace_seconds);
        if !self.kill_all(deadline, &outcome.why) || !self.stop_sandboxes(|_| true) {
            return;
        }
        if self.seen.volumes != Presence::Absent {
            self.act(Action::TeardownVolumes);
        }
        self.collect(None);
    }

    /// The pod is to end, and nothing of it is to stay.
    pub(super) fn terminate(&mut self, end: Termination) {
        if !self.kill_all(end.deadline(), "Stopping container") || !self.stop_sandboxes(|_| true) {
            return;
        }
        for container in &self.seen.containers {
            let (name, id) = (container.name.clone(), container.id.clone());
            if !self.busy(&Object::Container(name.clone())) {
                self.act(Action::RemoveContainer { name, id });
            }
        }
        if !self.seen.containers.is_empty() {
            return;
        }
        if let Some(sandbox) = self.seen.sandboxes.first() {
            self.act(Action::RemoveSandbox { id: sandbox.id.clone() });
        } else if self.seen.volumes != Presence::Absent {
            self.act(Action::TeardownVolumes);
        } else if self.seen.cgroup != Presence::Absent {
            self.act(Action::RemoveCgroup);
        } else if self.seen.in_flight.is_empty() {
            self.act(Action::Forget);
        }
    }
}
