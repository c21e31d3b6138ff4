//! What a pod's spec says, with the API's defaults.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, EphemeralContainer, Pod, PodSpec, Probe};

use crate::image::PullPolicy;

/// A pod's grace period when its manifest gives none, in seconds.
pub const GRACE_SECONDS: i64 = 30;

/// When a container is started again after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// When its exit code is not 0.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

/// Name, for messages: `namespace/name`.
#[must_use]
pub fn full_name(pod: &Pod) -> String {
    format!("{}/{}", namespace(pod), name(pod))
}

/// The pod's name.
#[must_use]
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's namespace.
#[must_use]
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// An annotation of the pod.
#[must_use]
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The annotation that tells where a pod comes from: [`API`], `file`.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// It comes from the API server.
pub const API: &str = "api";

/// The pod comes from the API server, and is no static pod.
#[must_use]
pub fn is_of_api(pod: &Pod) -> bool {
    annotation(pod, SOURCE) == Some(API)
}

/// The spec; a pod without one was refused by [`crate::validate`].
#[must_use]
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// The pod's init containers, sidecars among them.
#[must_use]
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// The pod's app containers.
#[must_use]
pub fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

/// Init containers, then app containers: all but those that were added to look into the pod.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(containers(pod))
}

/// The containers that were added to look into the running pod, as containers that are never restarted.
pub fn ephemeral_containers(pod: &Pod) -> impl Iterator<Item = Container> {
    spec(pod).ephemeral_containers.iter().flatten().map(debugger)
}

/// All containers, ephemeral ones last.
pub fn every_container(pod: &Pod) -> impl Iterator<Item = Cow<'_, Container>> {
    all_containers(pod).map(Cow::Borrowed).chain(ephemeral_containers(pod).map(Cow::Owned))
}

/// The container of a name.
#[must_use]
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    every_container(pod).find(|c| c.name == name)
}

/// Where in the pod a container is, as events say it.
#[must_use]
pub fn field_path(pod: &Pod, name: &str) -> String {
    let list = match () {
        () if init_containers(pod).iter().any(|c| c.name == name) => "initContainers",
        () if containers(pod).iter().any(|c| c.name == name) => "containers",
        () => "ephemeralContainers",
    };
    format!("spec.{list}{{{name}}}")
}

/// The container whose processes an ephemeral container sees, if it names one.
#[must_use]
pub fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let own = spec(pod).ephemeral_containers.iter().flatten().find(|c| c.name == name)?;
    own.target_container_name.as_deref().filter(|target| !target.is_empty())
}

/// An ephemeral container, which has neither probes nor hooks nor resources of its own.
fn debugger(own: &EphemeralContainer) -> Container {
    let own = own.clone();
    Container {
        name: own.name,
        image: own.image,
        command: own.command,
        args: own.args,
        working_dir: own.working_dir,
        env: own.env,
        env_from: own.env_from,
        volume_mounts: own.volume_mounts,
        volume_devices: own.volume_devices,
        termination_message_path: own.termination_message_path,
        termination_message_policy: own.termination_message_policy,
        image_pull_policy: own.image_pull_policy,
        security_context: own.security_context,
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        tty: own.tty,
        restart_policy: Some("Never".into()),
        ..Container::default()
    }
}

/// An init container with `restartPolicy: Always`.
#[must_use]
pub fn is_sidecar(pod: &Pod, name: &str) -> bool {
    init_containers(pod).iter().any(|c| c.name == name && sidecar(c))
}

/// Whether an init container is a sidecar.
#[must_use]
pub fn sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// The pod's restart policy.
#[must_use]
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    RestartPolicy::parse(spec(pod).restart_policy.as_deref())
}

/// Whether a container that ended with this exit code is started again.
#[must_use]
pub fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if container.restart_policy_rules.iter().flatten().any(|rule| matches(rule, exit_code)) {
        return true;
    }
    let init = init_containers(pod).iter().any(|c| c.name == container.name);
    let own = container.restart_policy.as_deref();
    match own.map_or_else(|| restart_policy(pod), |own| RestartPolicy::parse(Some(own))) {
        // An init container that has succeeded is done, whatever the pod says.
        RestartPolicy::Always => !init || own.is_some() || exit_code != 0,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

fn matches(rule: &ContainerRestartRule, exit_code: i32) -> bool {
    rule.action == "Restart"
        && rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|value| *value == exit_code);
            listed == (codes.operator == "In")
        })
}

/// How long the pod's containers may take to end, in seconds.
#[must_use]
pub fn grace_seconds(pod: &Pod) -> i64 {
    spec(pod).termination_grace_period_seconds.unwrap_or(GRACE_SECONDS).max(0)
}

/// How long a container may take to end when this probe has it killed, in seconds.
#[must_use]
pub fn probe_grace_seconds(pod: &Pod, probe: Option<&Probe>) -> i64 {
    probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or_else(|| grace_seconds(pod))
}

/// The pod uses the host's network.
#[must_use]
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// The pod's service account.
#[must_use]
pub fn service_account(pod: &Pod) -> &str {
    spec(pod).service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
}

/// The user as whom all containers of the pod run, if it is one and the pod names it.
#[must_use]
pub fn common_user(pod: &Pod) -> Option<i64> {
    let of_pod = spec(pod).security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users =
        all_containers(pod).map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

/// The group that the pod's volumes belong to.
#[must_use]
pub fn fs_group(pod: &Pod) -> Option<i64> {
    spec(pod).security_context.as_ref().and_then(|s| s.fs_group)
}

/// The image of a container.
#[must_use]
pub fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

/// The images that a container mounts, and when each is pulled.
pub fn image_volumes<'a>(pod: &'a Pod, container: &Container) -> Vec<(&'a str, PullPolicy)> {
    let mounted = |name: &str| container.volume_mounts.iter().flatten().any(|m| m.name == name);
    let volumes = spec(pod).volumes.iter().flatten().filter(|v| mounted(&v.name));
    let images = volumes.filter_map(|v| {
        let source = v.image.as_ref()?;
        let image = source.reference.as_deref()?;
        Some((image, PullPolicy::of(source.pull_policy.as_deref(), image)))
    });
    images.collect()
}

/// When a container's image is pulled.
#[must_use]
pub fn pull_policy(container: &Container) -> PullPolicy {
    PullPolicy::of(container.image_pull_policy.as_deref(), image(container))
}

/// A container has a postStart hook.
#[must_use]
pub fn has_post_start(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some())
}

/// A container has a preStop hook.
#[must_use]
pub fn has_pre_stop(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|l| l.pre_stop.is_some())
}
