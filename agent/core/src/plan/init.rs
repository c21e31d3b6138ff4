//! Init containers one after the other, sidecars among them.

use k8s_openapi::api::core::v1::Container as Spec;

use super::Planner;
use crate::observed::{Sandbox, State};
use crate::pod;
use crate::status;

impl Planner<'_> {
    /// Takes the init containers further; true when the app containers may go. Once one of these has been made in
    /// the sandbox, init containers are done for good, and sidecars are only kept running.
    pub(super) fn init(&mut self, sandbox: &Sandbox) -> bool {
        let pod = self.desired.pod.clone();
        let initialized = status::initialized(&pod, self.seen);
        for spec in pod::init_containers(&pod) {
            if pod::sidecar(spec) {
                let going = self.step(spec, sandbox, true);
                if !(initialized || going && self.started(spec, sandbox)) {
                    return false;
                }
            } else if !initialized && !self.init_one(spec, sandbox) {
                return false;
            }
        }
        true
    }

    fn started(&mut self, spec: &Spec, sandbox: &Sandbox) -> bool {
        let current = self.current(&spec.name, &sandbox.id);
        let started = current.is_some_and(|c| status::started(spec, c, self.seen));
        if !started {
            self.wait("pod", &format!("sidecar {} has to be started", spec.name), None);
        }
        started
    }

    /// Takes one init container further; true when it has succeeded.
    fn init_one(&mut self, spec: &Spec, sandbox: &Sandbox) -> bool {
        let Some(container) = self.current(&spec.name, &sandbox.id) else {
            self.create(spec, sandbox);
            return false;
        };
        match &container.state {
            State::Created => {
                self.start(container);
            }
            State::Running { .. } => {
                self.wait("pod", &format!("init container {} has to end", spec.name), None);
            }
            State::Unknown => {
                let deadline = crate::time::seconds_later(self.now, pod::grace_seconds(&self.desired.pod));
                self.kill(container, deadline, "its state is unknown", true);
            }
            State::Exited(exit) if exit.exit_code == 0 => return true,
            State::Exited(_) => {
                self.create(spec, sandbox);
            }
        }
        false
    }
}
