//! A node that carries out actions at once, for tests: what [`plan`] says, it does, unless told to fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, Lifecycle, LifecycleHandler, Pod, PodSpec, PodStatus, Probe,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::plan::{Plan, plan};
use crate::time::seconds_later;
use crate::{
    Action, Container, Desired, DesiredPod, Exit, Failure, Health, HookState, Image, Object, Observed,
    ObservedPod, PodAction, Presence, Sandbox, State, Termination, Verdict,
};

/// The model.
pub(crate) struct Model {
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
    pub(crate) now: Timestamp,
    /// All that was done, in words.
    pub(crate) done: Vec<String>,
    /// Objects whose next action fails.
    pub(crate) faults: Vec<Object>,
    ids: u32,
}

impl Model {
    pub(crate) fn new() -> Self {
        let mut observed = Observed::default();
        observed.node.runtime_name = "cleat".into();
        observed.node.ips = vec!["192.0.2.1".parse().unwrap()];
        observed.node.allocatable = [("cpu".to_owned(), crate::quantity::Amount::from_millis(1000))].into();
        Self {
            desired: Desired::default(),
            observed,
            now: Timestamp::from_second(1_000_000).unwrap(),
            done: Vec::new(),
            faults: Vec::new(),
            ids: 0,
        }
    }

    pub(crate) fn with(pod: Pod) -> Self {
        let mut model = Self::new();
        model.add("u", pod);
        model
    }

    pub(crate) fn add(&mut self, uid: &str, pod: Pod) {
        let pod =
            DesiredPod { uid: uid.into(), pod: Arc::new(pod), wanted: None, seen_at: self.now, end: None };
        self.desired.pods.push(pod);
    }

    pub(crate) fn end(&mut self, uid: &str) {
        let now = self.now;
        let pod = self.desired.pods.iter_mut().find(|p| p.uid == uid).unwrap();
        let grace_seconds = crate::pod::grace_seconds(&pod.pod);
        pod.end = Some(Termination { requested_at: now, grace_seconds });
    }

    /// The API server tells of another version of the pod.
    pub(crate) fn change(&mut self, uid: &str, change: impl FnOnce(&mut Pod)) {
        let pod = self.desired.pods.iter_mut().find(|p| p.uid == uid).unwrap();
        let mut changed = Pod::clone(pod.wanted.as_ref().unwrap_or(&pod.pod));
        change(&mut changed);
        (pod.pod, pod.wanted) = crate::resize::split(&pod.pod, &Arc::new(changed));
    }

    pub(crate) fn seen(&mut self, uid: &str) -> &mut ObservedPod {
        self.observed.pods.entry(uid.into()).or_default()
    }

    pub(crate) fn plan(&mut self) -> Plan {
        let plan = plan(&self.desired, &self.observed, self.now);
        for (uid, view) in &plan.pods {
            self.observed.pods.entry(uid.clone()).or_default().status = Some(view.status.clone());
        }
        if !plan.granted.is_empty() {
            for pod in self.desired.pods.iter_mut().filter(|p| plan.granted.contains(&p.uid)) {
                pod.pod = pod.wanted.take().unwrap();
            }
            return self.plan();
        }
        plan
    }

    pub(crate) fn status(&mut self) -> PodStatus {
        self.plan().pods.remove("u").unwrap().status
    }

    /// Plans and does until there is nothing to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..200 {
            let plan = self.plan();
            if plan.actions.is_empty() {
                return;
            }
            for action in plan.actions {
                self.apply(action);
            }
        }
        panic!("it never settles: {:?}", &self.done[self.done.len() - 20..]);
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now = seconds_later(self.now, seconds);
    }

    /// What was done since the last call.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    pub(crate) fn exit(&mut self, name: &str, exit_code: i32) {
        let now = self.now;
        let running = |c: &&mut Container| c.name == name && matches!(c.state, State::Running { .. });
        if let Some(container) = self.seen("u").containers.iter_mut().find(running) {
            stop(container, exit_code, now);
        }
    }

    pub(crate) fn probed(&mut self, name: &str, kind: crate::probe::Kind, ok: bool) {
        let verdict = Some(Verdict { ok, at: self.now, message: String::new() });
        let id = self.seen("u").latest(name).unwrap().id.clone();
        let health: &mut Health = self.seen("u").health.entry(id).or_default();
        match kind {
            crate::probe::Kind::Startup => health.startup = verdict,
            crate::probe::Kind::Liveness => health.liveness = verdict,
            crate::probe::Kind::Readiness => health.readiness = verdict,
        }
    }

    pub(crate) fn apply(&mut self, PodAction { uid, action }: PodAction) {
        let object = action.object();
        self.done.push(word(&action));
        if let Some(at) = self.faults.iter().position(|fault| *fault == object) {
            self.faults.remove(at);
            return self.fail(&uid, &action);
        }
        self.ids += 1;
        let (id, now) = (format!("{:04}", self.ids), self.now);
        if let Action::EnsureImage { image, .. } = &action {
            let image = self.observed.images.entry(image.clone()).or_default();
            *image = Image {
                reference: Some("ref".into()),
                pulled_at: Some(now),
                failures: BTreeMap::new(),
                in_flight: false,
            };
            return;
        }
        let seen = self.observed.pods.entry(uid.clone()).or_default();
        seen.failures.remove(&object);
        if object == Object::Volumes {
            let pod = self.desired.pods.iter().find(|p| p.uid == uid);
            seen.volumes_of = pod.map(|p| p.pod.clone()).filter(|_| action != Action::TeardownVolumes);
        }
        do_to(seen, action.clone(), id, now);
        if let Action::CreateContainer { name, .. } | Action::ResizeContainer { name, .. } = &action {
            let pod = &self.desired.pods.iter().find(|p| p.uid == uid).unwrap().pod;
            let limits = crate::resources::container_limits(&crate::pod::container(pod, name).unwrap());
            let newest = seen.containers.iter_mut().filter(|c| c.name == *name).max_by_key(|c| c.attempt);
            newest.unwrap().limits = Some(limits);
        }
        if action == Action::Forget {
            self.observed.pods.remove(&uid);
            self.desired.pods.retain(|p| p.uid != uid);
        }
    }

    fn fail(&mut self, uid: &str, action: &Action) {
        let now = self.now;
        let failed = |old: Option<&Failure>, reason: &str| Failure {
            reason: reason.into(),
            message: "fault".into(),
            at: now,
            count: old.map_or(0, |f| f.count) + 1,
        };
        if let Action::EnsureImage { image, .. } = action {
            let image = self.observed.images.entry(image.clone()).or_default();
            let failure = failed(image.failures.get(uid), "ErrImagePull");
            image.failures.insert(uid.to_owned(), failure);
            return;
        }
        let seen = self.observed.pods.entry(uid.into()).or_default();
        let state = HookState::Failed { at: now, message: "fault".into() };
        match action {
            Action::PostStart { id, .. } => seen.hooks.entry(id.clone()).or_default().post_start = state,
            Action::PreStop { id, .. } => seen.hooks.entry(id.clone()).or_default().pre_stop = state,
            _ => {
                let object = action.object();
                let failure = failed(seen.failures.get(&object), "Failed");
                seen.failures.insert(object, failure);
            }
        }
    }
}

fn stop(container: &mut Container, exit_code: i32, now: Timestamp) {
    let started_at = match container.state {
        State::Running { started_at } => started_at,
        _ => now,
    };
    let exit =
        Exit { started_at, finished_at: now, exit_code, reason: String::new(), message: String::new() };
    container.state = State::Exited(exit);
}

fn do_to(seen: &mut ObservedPod, action: Action, new_id: String, now: Timestamp) {
    match action {
        Action::PrepareCgroup => seen.cgroup = Presence::Ready,
        Action::RemoveCgroup => {
            assert!(seen.sandboxes.is_empty(), "the cgroup goes last");
            seen.cgroup = Presence::Absent;
        }
        Action::PrepareVolumes => seen.volumes = Presence::Ready,
        Action::UpdateVolumes => {
            assert!(seen.volumes == Presence::Ready, "volumes are updated that are not there");
            seen.volumes_due = None;
        }
        Action::TeardownVolumes => {
            assert!(seen.containers.iter().all(|c| !c.alive()), "volumes outlive containers");
            seen.volumes = Presence::Absent;
        }
        Action::CreateSandbox { attempt } => {
            assert!(seen.volumes == Presence::Ready && seen.cgroup == Presence::Ready);
            assert!(seen.sandboxes.iter().all(|s| !s.ready), "two live sandboxes");
            let ips = vec!["10.0.0.9".parse().unwrap()];
            seen.sandboxes.push(Sandbox {
                id: new_id,
                attempt,
                ready: true,
                created_at: now,
                ips,
                stopped: false,
            });
        }
        Action::StopSandbox { id } => {
            for container in seen.containers.iter_mut().filter(|c| c.sandbox == id && c.alive()) {
                stop(container, 137, now);
            }
            let sandbox = seen.sandboxes.iter_mut().find(|s| s.id == id).unwrap();
            (sandbox.ready, sandbox.stopped) = (false, true);
        }
        Action::RemoveSandbox { id } => {
            assert!(seen.containers.iter().all(|c| c.sandbox != id), "a sandbox outlives its containers");
            seen.sandboxes.retain(|s| s.id != id);
        }
        Action::Forget => {
            assert!(seen.containers.is_empty() && seen.sandboxes.is_empty(), "something is left");
            assert!(seen.volumes == Presence::Absent && seen.cgroup == Presence::Absent, "something is left");
        }
        action => do_to_container(seen, action, new_id, now),
    }
}

fn do_to_container(seen: &mut ObservedPod, action: Action, new_id: String, now: Timestamp) {
    let the = |seen: &mut ObservedPod, id: &str| seen.containers.iter().position(|c| c.id == id).unwrap();
    match action {
        Action::CreateContainer { name, sandbox, attempt, crashes, image } => {
            assert!(seen.sandboxes.iter().any(|s| s.id == sandbox && s.ready));
            assert!(seen.containers.iter().all(|c| c.name != name || (c.attempt < attempt && !c.alive())));
            let container = Container {
                id: new_id,
                name,
                sandbox,
                attempt,
                crashes,
                image: String::new(),
                image_ref: image,
                made_of: None,
                user: None,
                limits: None,
                state: State::Created,
            };
            seen.containers.push(container);
        }
        Action::StartContainer { id, .. } => {
            let at = the(seen, &id);
            assert_eq!(seen.containers[at].state, State::Created);
            seen.containers[at].state = State::Running { started_at: now };
        }
        Action::ResizeContainer { id, .. } => {
            let at = the(seen, &id);
            assert!(seen.containers[at].alive(), "nothing runs that could be resized");
        }
        Action::StopContainer { id, .. } => {
            let at = the(seen, &id);
            stop(&mut seen.containers[at], 143, now);
        }
        Action::RemoveContainer { id, .. } => {
            let at = the(seen, &id);
            assert!(!seen.containers[at].alive(), "a running container is removed");
            seen.containers.remove(at);
        }
        Action::PostStart { id, .. } => seen.hooks.entry(id).or_default().post_start = HookState::Done,
        Action::PreStop { id, .. } => seen.hooks.entry(id).or_default().pre_stop = HookState::Done,
        other => unreachable!("{other:?}"),
    }
}

/// An action in a word or two.
pub(crate) fn word(action: &Action) -> String {
    match action {
        Action::PrepareCgroup => "cgroup".into(),
        Action::PrepareVolumes => "volumes".into(),
        Action::UpdateVolumes => "update volumes".into(),
        Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
        Action::EnsureImage { image, .. } => format!("image {image}"),
        Action::CreateContainer { name, attempt, .. } => format!("create {name} {attempt}"),
        Action::StartContainer { name, .. } => format!("start {name}"),
        Action::ResizeContainer { name, .. } => format!("resize {name}"),
        Action::PostStart { name, .. } => format!("postStart {name}"),
        Action::PreStop { name, .. } => format!("preStop {name}"),
        Action::StopContainer { name, grace_seconds, .. } => format!("stop {name} {grace_seconds}s"),
        Action::HurryContainer { name, grace_seconds, .. } => format!("hurry {name} {grace_seconds}s"),
        Action::RemoveContainer { name, .. } => format!("remove {name}"),
        Action::StopSandbox { .. } => "stop sandbox".into(),
        Action::RemoveSandbox { .. } => "remove sandbox".into(),
        Action::TeardownVolumes => "no volumes".into(),
        Action::RemoveCgroup => "no cgroup".into(),
        Action::Forget => "forget".into(),
    }
}

/// A container whose image needs no second pull.
pub(crate) fn container(name: &str) -> Spec {
    Spec { name: name.into(), image: Some("i:1".into()), ..Spec::default() }
}

pub(crate) fn sidecar(name: &str) -> Spec {
    Spec { restart_policy: Some("Always".into()), ..container(name) }
}

pub(crate) fn hooked(spec: Spec, post_start: bool, pre_stop: bool) -> Spec {
    let handler = |wanted: bool| wanted.then(LifecycleHandler::default);
    let lifecycle =
        Lifecycle { post_start: handler(post_start), pre_stop: handler(pre_stop), stop_signal: None };
    Spec { lifecycle: Some(lifecycle), ..spec }
}

pub(crate) fn probed(spec: Spec, startup: bool, liveness: bool, readiness: bool) -> Spec {
    let probe = |wanted: bool| wanted.then(Probe::default);
    Spec {
        startup_probe: probe(startup),
        liveness_probe: probe(liveness),
        readiness_probe: probe(readiness),
        ..spec
    }
}

pub(crate) fn pod(policy: &str, init: Vec<Spec>, apps: Vec<Spec>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some("p".into()),
            namespace: Some("d".into()),
            labels: Some(BTreeMap::new()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some(policy.into()),
            init_containers: (!init.is_empty()).then_some(init),
            containers: apps,
            ..PodSpec::default()
        }),
        status: None,
    }
}
