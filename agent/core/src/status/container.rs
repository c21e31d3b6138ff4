//! The status of one container.

use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, Pod, PodStatus, ResourceRequirements,
    VolumeMountStatus,
};

use super::{Parts, Waiting, ready, started};
use crate::observed::{Container, Exit, State};
use crate::pod;
use crate::time::k8s;
use crate::{resize, resources};

/// `ContainerStatusUnknown`'s exit code: as if it had been killed.
const EXIT_CODE_UNKNOWN: i32 = 137;

/// The status of a container of the pod.
pub(super) fn status(parts: &Parts<'_>, spec: &Spec, ended: bool) -> ContainerStatus {
    let old = old(parts, &spec.name);
    let Some(latest) = parts.seen.latest(&spec.name) else {
        return gone(parts, spec, old, ended);
    };
    let terminating = parts.desired.end.is_some();
    let sidecar = pod::is_sidecar(&parts.desired.pod, &spec.name);
    let init = pod::init_containers(&parts.desired.pod).iter().any(|c| c.name == spec.name);
    let previous = parts.seen.before(&spec.name, latest.attempt);
    let previous = previous.and_then(|c| Some(terminated(parts, c, c.exit()?)));
    let previous = previous.or_else(|| old.and_then(|o| o.last_state.as_ref()?.terminated.clone()));
    let (state, last) = match &latest.state {
        State::Running { started_at } => (
            ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(k8s(*started_at)) }),
                ..none()
            },
            previous,
        ),
        State::Exited(exit) => {
            let own = terminated(parts, latest, exit);
            let anew = || parts.seen.is_outdated(spec, latest).then(|| creating(parts));
            let why = parts.waiting.get(&spec.name).cloned().or_else(anew);
            match why.filter(|_| !ended && !terminating) {
                Some(why) => (waiting(&why), Some(own)),
                None => (ContainerState { terminated: Some(own), ..none() }, previous),
            }
        }
        State::Created | State::Unknown => {
            let why = parts.waiting.get(&spec.name).cloned();
            (waiting(&why.unwrap_or_else(|| creating(parts))), previous)
        }
    };
    let succeeded = latest.exit().is_some_and(|exit| exit.exit_code == 0);
    ContainerStatus {
        name: spec.name.clone(),
        ready: if init && !sidecar { succeeded } else { ready(spec, latest, parts.seen) },
        started: Some(started(spec, latest, parts.seen)),
        restart_count: i32::try_from(latest.attempt).unwrap_or(i32::MAX),
        image: if latest.image.is_empty() { pod::image(spec).to_owned() } else { latest.image.clone() },
        image_id: latest.image_ref.clone(),
        container_id: Some(container_id(parts, &latest.id)),
        state: Some(state),
        last_state: Some(ContainerState { terminated: last, ..none() }),
        allocated_resources: spec.resources.as_ref().and_then(|r| r.requests.clone()),
        resources: resources(spec, latest, old),
        user: user(latest),
        volume_mounts: mounts(spec),
        ..ContainerStatus::default()
    }
}

/// What the container has: what it was granted, as soon as the kernel was told.
fn resources(spec: &Spec, latest: &Container, old: Option<&ContainerStatus>) -> Option<ResourceRequirements> {
    let running = matches!(latest.state, State::Running { .. });
    let wanted = resources::container_limits(spec);
    let granted = latest.limits.is_none_or(|told| resize::differs(told, wanted) == (false, false));
    let given = match running && !granted {
        true => old.and_then(|o| o.resources.clone()),
        false => spec.resources.clone(),
    };
    Some(given.unwrap_or_default())
}

/// As whom it runs.
fn user(latest: &Container) -> Option<ContainerUser> {
    latest.user.clone().map(|linux| ContainerUser { linux: Some(linux) })
}

/// What it mounts.
fn mounts(spec: &Spec) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.volume_mounts.iter().flatten().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount
            .read_only
            .filter(|read_only| *read_only)
            .map(|_| mount.recursive_read_only.clone().unwrap_or_else(|| "Disabled".into())),
        ..VolumeMountStatus::default()
    });
    let mounts: Vec<_> = mounts.collect();
    (!mounts.is_empty()).then_some(mounts)
}

/// A container without a record: not made yet, or removed behind our back, or after its pod had ended.
fn gone(parts: &Parts<'_>, spec: &Spec, old: Option<&ContainerStatus>, ended: bool) -> ContainerStatus {
    let made = old.filter(|o| o.container_id.is_some());
    let closed = || old.filter(|o| o.state.as_ref().is_some_and(|state| state.terminated.is_some()));
    let for_good = parts.seen.last_exit_code(&parts.desired.pod, spec).is_some();
    if let Some(old) = made.or_else(closed).filter(|_| ended || for_good || parts.desired.end.is_some()) {
        let state = match old.state.as_ref() {
            Some(state) if state.running.is_some() => {
                Some(ContainerState { terminated: Some(unknown(Some(old))), ..none() })
            }
            state => state.cloned(),
        };
        return ContainerStatus { state, ready: old.ready && ended, started: Some(false), ..old.clone() };
    }
    let why = parts.waiting.get(&spec.name).cloned().unwrap_or_else(|| creating(parts));
    let last = made.map(|old| {
        let state = old.state.as_ref().and_then(|s| s.terminated.clone());
        ContainerState { terminated: Some(state.unwrap_or_else(|| unknown(Some(old)))), ..none() }
    });
    ContainerStatus {
        name: spec.name.clone(),
        started: Some(false),
        image: pod::image(spec).to_owned(),
        image_id: made.map(|o| o.image_id.clone()).unwrap_or_default(),
        container_id: made.and_then(|o| o.container_id.clone()),
        restart_count: made.map_or(0, |o| o.restart_count),
        state: Some(waiting(&why)),
        last_state: Some(last.unwrap_or_default()),
        volume_mounts: mounts(spec),
        ..ContainerStatus::default()
    }
}

fn old<'a>(parts: &Parts<'a>, name: &str) -> Option<&'a ContainerStatus> {
    super::containers(parts.seen.status.as_ref()?).find(|s| s.name == name)
}

fn none() -> ContainerState {
    ContainerState::default()
}

fn waiting(why: &Waiting) -> ContainerState {
    let message = Some(why.message.clone()).filter(|m| !m.is_empty());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(why.reason.clone()), message }),
        ..none()
    }
}

fn creating(parts: &Parts<'_>) -> Waiting {
    let inits = !pod::init_containers(&parts.desired.pod).is_empty();
    Waiting::new(if inits { "PodInitializing" } else { "ContainerCreating" }, "")
}

fn terminated(parts: &Parts<'_>, container: &Container, exit: &Exit) -> ContainerStateTerminated {
    let reason = match exit.reason.as_str() {
        "" if exit.exit_code == 0 => "Completed",
        "" => "Error",
        reason => reason,
    };
    ContainerStateTerminated {
        container_id: Some(container_id(parts, &container.id)),
        exit_code: exit.exit_code,
        reason: Some(reason.to_owned()),
        message: Some(exit.message.clone()).filter(|m| !m.is_empty()),
        started_at: Some(k8s(exit.started_at)),
        finished_at: Some(k8s(exit.finished_at)),
        signal: None,
    }
}

/// Of a pod that is over, whose containers have ended: those whose turn had come and of whose end nothing is known count as
/// failed.
pub(super) fn close(pod: &Pod, status: &mut PodStatus) {
    let waits = |s: &ContainerStatus| {
        let state = |state: &Option<ContainerState>| state.clone().unwrap_or_default();
        state(&s.state).waiting.is_some() && state(&s.last_state).terminated.is_none()
    };
    let inits = status.init_container_statuses.as_deref_mut().unwrap_or_default();
    let apps = status.container_statuses.as_deref_mut().unwrap_or_default();
    let done = inits.last().is_none_or(|last| match pod::is_sidecar(pod, &last.name) {
        true => !waits(last),
        false => last.ready,
    });
    let begun = if done || apps.iter().any(|s| !waits(s)) { apps.len() } else { 0 };
    let tried = inits.iter().rposition(|s| !waits(s)).unwrap_or(0) + 1;
    for status in inits.iter_mut().take(tried).chain(apps.iter_mut().take(begun)) {
        if status.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
            status.state = Some(ContainerState { terminated: Some(unknown(None)), ..none() });
        }
    }
}

fn unknown(old: Option<&ContainerStatus>) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: old.and_then(|old| old.container_id.clone()),
        exit_code: EXIT_CODE_UNKNOWN,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some("The container could not be located when the pod was terminated".into()),
        ..ContainerStateTerminated::default()
    }
}

fn container_id(parts: &Parts<'_>, id: &str) -> String {
    format!("{}://{id}", parts.node.runtime_name)
}
