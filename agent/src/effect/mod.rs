//! Carries out actions: one task each, the result goes back to the loop. No decisions here.

mod container;
mod hook;
mod image;
mod sandbox;
mod volume;

use std::sync::Arc;

use agent_core::event::Event;
use agent_core::{Action, Node, pod};
use k8s_openapi::api::core::v1::Pod;
use linux::cgroup::{Cgroup, CgroupError, Hierarchies};
use tokio::sync::Semaphore;

use crate::checkpoint::Checkpoints;
use crate::clock::Clock;
use crate::config::Config;
use crate::cri::Cri;
use crate::events::{Events, Subject};
use crate::objects::Objects;
use crate::tokens::Tokens;
use crate::volume::PodDir;

pub(crate) use container::CONFIG;

/// An action with all that its effect needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) uid: String,
    pub(crate) pod: Arc<Pod>,
    pub(crate) action: Action,
    /// The addresses of the pod's newest sandbox, as text, and its attempt.
    pub(crate) pod_ips: Vec<std::net::IpAddr>,
    pub(crate) sandbox_attempt: u32,
    /// The id of the container whose processes the one to be made sees; mostly empty.
    pub(crate) target: String,
    /// CPU shares of the cgroup above the pod's, for its class.
    pub(crate) class_shares: i64,
    pub(crate) node: Node,
}

/// What an effect found out beside that it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing more.
    Done,
    /// The volumes are as they should be.
    Volumes {
        /// When they are to be looked at again.
        due: Option<jiff::Timestamp>,
    },
    /// The image is on the node.
    Image {
        /// The runtime's reference to it.
        reference: String,
        /// It was pulled just now.
        pulled: bool,
    },
}

/// An effect failed. The loop tries again after a back-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EffectFailed {
    /// As Kubernetes names it.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
    /// The image that was thought to be there is not.
    pub(crate) image_gone: bool,
}

impl EffectFailed {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), image_gone: false }
    }
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What effects work with.
pub(crate) struct Effects {
    pub(crate) config: Config,
    pub(crate) cri: Cri,
    pub(crate) events: Events,
    pub(crate) clock: Clock,
    pub(crate) checkpoints: Checkpoints,
    /// `None` on a machine without cgroups: pods then go unlimited.
    pub(crate) hierarchies: Option<Hierarchies>,
    pub(crate) pulls: Semaphore,
    /// What pods use of the cluster.
    pub(crate) objects: Objects,
    /// What pods identify themselves with.
    pub(crate) tokens: Tokens,
    /// The port on which the kubelet's API is served, for the Node to tell; 0: it is not.
    pub(crate) port: tokio::sync::watch::Sender<u16>,
}

impl Effects {
    /// Carries out an action.
    pub(crate) async fn run(&self, order: &Order) -> Result<Outcome, EffectFailed> {
        use Action::*;
        match &order.action {
            PrepareCgroup => self.prepare_cgroup(order).await?,
            PrepareVolumes | UpdateVolumes => return self.write_volumes(order).await,
            CreateSandbox { attempt } => self.create_sandbox(order, *attempt).await?,
            StopSandbox { id } => self.stop_sandbox(id).await?,
            RemoveSandbox { id } => self.remove_sandbox(id).await?,
            EnsureImage { image, policy, container } => {
                return self.ensure_image(order, image, *policy, container).await;
            }
            CreateContainer { name, sandbox, attempt, crashes, image } => {
                self.create_container(order, name, sandbox, (*attempt, *crashes), image).await?;
            }
            StartContainer { name, id } => self.start_container(order, name, id).await?,
            StopContainer { name, id, grace_seconds, reason } => {
                self.stop_container(order, name, id, *grace_seconds, reason).await?;
            }
            HurryContainer { id, grace_seconds, .. } => self.hurry_container(id, *grace_seconds).await?,
            RemoveContainer { name, id } => self.remove_container(order, name, id).await?,
            ResizeContainer { name, id } => self.resize_container(order, name, id).await?,
            PostStart { name, id } => self.post_start(order, name, id).await?,
            PreStop { name, id, deadline } => self.pre_stop(order, name, id, *deadline).await?,
            TeardownVolumes => self.remove_volumes(order).await?,
            RemoveCgroup => self.remove_cgroup(order).await?,
            Forget => self.forget(order).await?,
        }
        Ok(Outcome::Done)
    }

    fn event(&self, order: &Order, warning: bool, reason: &str, message: &str, container: Option<&str>) {
        let subject = Subject::of(&order.pod, &order.uid);
        let event = Event::new(warning, reason, message);
        let event = match container {
            Some(name) => event.of_container(&order.pod, name),
            None => event,
        };
        self.events.record(&subject, event);
    }

    /// The directory of a pod.
    pub(crate) fn dir(&self, uid: &str) -> PodDir {
        PodDir(self.config.pods_dir().join(uid))
    }

    /// The path of the pod's cgroup.
    pub(crate) fn cgroup_path(&self, pod: &Pod, uid: &str) -> String {
        agent_core::resources::cgroup_path(&self.config.cgroup_root, pod, uid)
    }

    /// The path of the cgroup of the pod's class, and its shares; none for guaranteed pods.
    fn class(&self, order: &Order) -> Option<(String, i64)> {
        let directory = agent_core::resources::qos(&order.pod).directory()?;
        Some((format!("{}/{directory}", self.config.cgroup_root.trim_end_matches('/')), order.class_shares))
    }

    pub(super) async fn prepare_cgroup(&self, order: &Order) -> Result<(), EffectFailed> {
        let Some(hierarchies) = self.hierarchies.clone() else { return Ok(()) };
        let path = self.cgroup_path(&order.pod, &order.uid);
        let class = self.class(order);
        let limits = agent_core::resources::pod_limits(&order.pod);
        let limits = linux::cgroup::Limits {
            cpu: linux::cgroup::Cpu {
                shares: u64::try_from(limits.cpu_shares).ok(),
                quota: limits.cpu_quota_us,
                period: limits.cpu_quota_us.map(|_| agent_core::resources::CPU_PERIOD_US.unsigned_abs()),
                ..Default::default()
            },
            memory: linux::cgroup::Memory { limit: limits.memory_bytes, ..Default::default() },
            ..Default::default()
        };
        let task = move || {
            let cgroup = Cgroup::of_path(&hierarchies, &path)?;
            cgroup.create()?;
            linux::crash::point("agent.cgroup.made");
            cgroup.limit(&limits)?;
            class.map_or(Ok(()), |(path, shares)| weigh(&hierarchies, &path, shares))
        };
        blocking("FailedCreatePodCgroup", task).await
    }

    async fn remove_cgroup(&self, order: &Order) -> Result<(), EffectFailed> {
        // A pod known only by what is left of it may be of any class.
        let root = self.config.cgroup_root.trim_end_matches('/').to_owned();
        let paths = ["", "/burstable", "/besteffort"].map(|class| format!("{root}{class}/pod{}", order.uid));
        let Some(hierarchies) = self.hierarchies.clone() else { return Ok(()) };
        let class = self.class(order);
        let task = move || {
            paths.iter().try_for_each(|path| Cgroup::of_path(&hierarchies, path)?.remove())?;
            class.map_or(Ok(()), |(path, shares)| weigh(&hierarchies, &path, shares))
        };
        blocking("FailedRemovePodCgroup", task).await
    }

    /// Removes the cgroup above all pods when there are none: an agent that goes leaves nothing.
    pub(crate) async fn remove_cgroups(&self) {
        let (hierarchies, root) = (self.hierarchies.clone(), self.config.cgroup_root.clone());
        let task = move || hierarchies.map_or(Ok(()), |h| Cgroup::of_path(&h, &root)?.remove());
        if let Err(failed) = blocking("FailedCleanup", task).await {
            tracing::info!("{}", failed.message);
        }
    }

    /// Removes the last traces: directory, logs, and at the very end the checkpoint.
    async fn forget(&self, order: &Order) -> Result<(), EffectFailed> {
        self.remove_volumes(order).await?;
        let logs = self.log_dir(&order.pod, &order.uid);
        blocking("FailedCleanup", move || match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        })
        .await?;
        linux::crash::point("agent.forget.cleaned");
        let (checkpoints, uid) = (self.checkpoints.clone(), order.uid.clone());
        blocking("FailedCleanup", move || checkpoints.remove(&uid)).await
    }

    /// The directory of a pod's logs.
    pub(crate) fn log_dir(&self, pod: &Pod, uid: &str) -> std::path::PathBuf {
        self.config.log_dir.join(format!("{}_{}_{uid}", pod::namespace(pod), pod::name(pod)))
    }
}

/// Gives the cgroup of a class its share of the CPU, if it is there.
fn weigh(hierarchies: &Hierarchies, path: &str, shares: i64) -> Result<(), CgroupError> {
    let cgroup = Cgroup::of_path(hierarchies, path)?;
    if !cgroup.exists() {
        return Ok(());
    }
    let cpu = linux::cgroup::Cpu { shares: u64::try_from(shares).ok(), ..Default::default() };
    cgroup.limit(&linux::cgroup::Limits { cpu, ..Default::default() })
}

/// Runs something that blocks; its error becomes an effect's.
async fn blocking<E>(
    reason: &'static str,
    task: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Result<(), EffectFailed>
where
    E: std::error::Error + Send + 'static,
{
    match tokio::task::spawn_blocking(task).await {
        Ok(result) => result.map_err(|error| EffectFailed::new(reason, chain(&error))),
        Err(error) => Err(EffectFailed::new(reason, error.to_string())),
    }
}
