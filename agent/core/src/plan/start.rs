//! Getting one container to run: its image, its back-off, its creation and start.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, ContainerStatus};

use super::Planner;
use crate::action::Action;
use crate::backoff;
use crate::image::{self, PullPolicy};
use crate::observed::{Container, Failure, HookState, Sandbox};
use crate::pod;
use crate::status::{self, Waiting};

/// A running container has to end.
pub(super) struct End {
    /// Since when that is known.
    pub(super) at: Timestamp,
    /// How long it may take, in seconds.
    pub(super) grace_seconds: i64,
    /// Why, for people.
    pub(super) why: String,
}

impl Planner<'_> {
    /// Asks for the images of all containers that have never been made, so that they arrive side by side while the
    /// sandbox and the init containers are busy.
    pub(super) fn pull_ahead(&mut self) {
        let pod = self.desired.pod.clone();
        for spec in pod::every_container(&pod) {
            if !self.was_made(&spec.name) {
                let _ = self.image(&spec, self.desired.seen_at);
                let _ = self.image_volumes(&spec);
            }
        }
    }

    /// Makes the next attempt at a container when its back-off is over and its image there. Returns whether those
    /// after it may be started meanwhile: not while it is about to be.
    pub(super) fn create(&mut self, spec: &Spec, sandbox: &Sandbox) -> bool {
        let last = self.seen.latest(&spec.name);
        // That one image has crashed says nothing of another.
        let crashed = last.filter(|last| !self.seen.is_outdated(spec, last));
        let (restart_at, delay) = crashed.map_or((Timestamp::MIN, Default::default()), backoff::restart_at);
        let ended = last.and_then(Container::exit).map(|exit| exit.finished_at);
        if backoff::waits(self.now, ended.unwrap_or(Timestamp::MIN), restart_at) {
            let pod = &self.desired.pod;
            let text = format!(
                "back-off {}s restarting failed container={} pod={}_{}({})",
                delay.as_secs(),
                spec.name,
                pod::name(pod),
                pod::namespace(pod),
                self.desired.uid
            );
            self.wait(&container(&spec.name), &text, Some(restart_at));
            self.waiting.insert(spec.name.clone(), Waiting::new("CrashLoopBackOff", &text));
            return true;
        }
        let image = match self.image(spec, ended.unwrap_or(self.desired.seen_at)) {
            Ok(image) => image,
            Err(None) => return false,
            Err(Some(waiting)) => {
                self.waiting.insert(spec.name.clone(), waiting);
                return true;
            }
        };
        if let Err(waiting) = self.image_volumes(spec) {
            let known = waiting.is_some();
            self.waiting.extend(waiting.map(|waiting| (spec.name.clone(), waiting)));
            return known;
        }
        let action = Action::CreateContainer {
            name: spec.name.clone(),
            sandbox: sandbox.id.clone(),
            attempt: self.next_attempt(&spec.name),
            crashes: crashed.map_or(0, backoff::crashes),
            image,
        };
        let failure = self.act(action);
        self.failed(spec, failure)
    }

    /// Whether a container was ever made, even if its record was removed.
    pub(super) fn was_made(&self, name: &str) -> bool {
        self.seen.latest(name).is_some() || self.told(name).is_some()
    }

    /// What was told of a container that was made.
    fn told(&self, name: &str) -> Option<&'_ ContainerStatus> {
        let status = self.seen.status.as_ref()?;
        status::containers(status).find(|s| s.name == name && s.container_id.is_some())
    }

    /// The number of the next attempt. A container whose record was removed behind our back still counts.
    fn next_attempt(&self, name: &str) -> u32 {
        if let Some(last) = self.seen.latest(name) {
            return last.attempt + 1;
        }
        self.told(name).map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0) + 1)
    }

    /// Starts a container that was made.
    pub(super) fn start(&mut self, made: &Container) -> bool {
        let action = Action::StartContainer { name: made.name.clone(), id: made.id.clone() };
        let failure = self.act(action);
        if let Some(failure) = failure {
            self.waiting.insert(made.name.clone(), Waiting::new(&failure.reason, &failure.message));
        }
        failure.is_some()
    }

    fn failed(&mut self, spec: &Spec, failure: Option<&Failure>) -> bool {
        if let Some(failure) = failure {
            self.waiting.insert(spec.name.clone(), Waiting::new(&failure.reason, &failure.message));
        }
        failure.is_some()
    }

    /// The runtime's reference to a container's image, pulled after `since` if its policy is `Always`. Without it
    /// says why the container waits; `None`: it is on its way for the first time.
    fn image(&mut self, spec: &Spec, since: Timestamp) -> Result<String, Option<Waiting>> {
        self.image_named(spec, pod::image(spec), pod::pull_policy(spec), since)
    }

    /// The images that a container mounts, as [`Self::image`].
    fn image_volumes(&mut self, spec: &Spec) -> Result<(), Option<Waiting>> {
        let pod = self.desired.pod.clone();
        for (image, policy) in pod::image_volumes(&pod, spec) {
            self.image_named(spec, image, policy, self.desired.seen_at)?;
        }
        Ok(())
    }

    fn image_named(
        &mut self,
        spec: &Spec,
        name: &str,
        policy: PullPolicy,
        since: Timestamp,
    ) -> Result<String, Option<Waiting>> {
        if let Err(what) = image::check(name) {
            let text =
                format!("Failed to apply default image tag {name:?}: couldn't parse image name: {what}");
            self.wait(&container(&spec.name), &text, None);
            return Err(Some(Waiting::new("InvalidImageName", &text)));
        }
        let known = self.images.get(name);
        if let Some(reference) = known.and_then(|i| i.reference.as_ref()) {
            let fresh = known.and_then(|i| i.pulled_at).is_some_and(|at| at >= since);
            if fresh || policy != PullPolicy::Always {
                return Ok(reference.clone());
            }
        }
        let failure = known.and_then(|i| i.failures.get(&self.desired.uid));
        let waiting = failure.map(|failure| not_pulled(name, failure));
        if known.is_some_and(|i| i.in_flight) {
            self.wait(&container(&spec.name), &format!("image {name} is being pulled"), None);
            return Err(waiting);
        }
        if let (Some(failure), Some(waiting)) = (failure, &waiting) {
            let retry_at = backoff::pull_at(failure);
            if backoff::waits(self.now, failure.at, retry_at) {
                self.wait(&container(&spec.name), &waiting.message, Some(retry_at));
                return Err(Some(waiting.clone()));
            }
        }
        self.wait(&container(&spec.name), &format!("image {name}"), None);
        self.act(Action::EnsureImage { image: name.to_owned(), policy, container: spec.name.clone() });
        Err(waiting)
    }

    /// Why a running container has to end: its postStart hook, startup or liveness probe failed.
    pub(super) fn verdict(&self, spec: &Spec, running: &Container) -> Option<End> {
        let pod = &self.desired.pod;
        if let Some(HookState::Failed { at, message }) =
            self.seen.hooks.get(&running.id).map(|h| &h.post_start)
        {
            let why = format!("FailedPostStartHook: {message}");
            return Some(End { at: *at, grace_seconds: pod::grace_seconds(pod), why });
        }
        let health = self.seen.health.get(&running.id)?;
        let probes = [
            ("startup", spec.startup_probe.as_ref(), &health.startup),
            ("liveness", spec.liveness_probe.as_ref(), &health.liveness),
        ];
        probes.into_iter().find_map(|(kind, probe, verdict)| {
            let verdict = verdict.as_ref().filter(|v| !v.ok && probe.is_some())?;
            let grace_seconds = pod::probe_grace_seconds(pod, probe);
            let why = format!("Container {} failed {kind} probe, will be restarted", spec.name);
            Some(End { at: verdict.at, grace_seconds, why })
        })
    }
}

/// How a container waits for an image that could not be had: the error at first, then the back-off.
fn not_pulled(image: &str, failure: &Failure) -> Waiting {
    if failure.reason != "ErrImagePull" || failure.count < 2 {
        return Waiting::new(&failure.reason, &failure.message);
    }
    let text = format!("Back-off pulling image {image:?}: {}: {}", failure.reason, failure.message);
    Waiting::new("ImagePullBackOff", &text)
}

fn container(name: &str) -> String {
    format!("container {name}")
}
