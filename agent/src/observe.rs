//! Looks at what the CRI server has of our pods.
//!
//! Looks are numbered when they begin. What a look found is used only if it began after the last one that was used
//! for the pod, so a slow look never undoes a fast one.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use agent_core::resources::{CPU_SHARES_MIN, Limits};
use agent_core::time::from_nanoseconds;
use agent_core::{Container, Exit, Sandbox, State};
use k8s_openapi::api::core::v1::LinuxContainerUser;
use proto_cri as cri;
use tonic::Status;

use crate::cri::{CALL, Cri, within};
use crate::labels;
use crate::message;

/// What one look found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// The number of the look.
    pub(crate) number: u64,
    /// The only pod it was for; `None`: all.
    pub(crate) uid: Option<String>,
    /// What is there by pod uid.
    pub(crate) pods: BTreeMap<String, Found>,
}

/// What is there of one pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The pod's name.
    pub(crate) name: String,
    /// The pod's grace period in seconds, where it is written.
    pub(crate) grace_seconds: Option<i64>,
    /// Its sandboxes.
    pub(crate) sandboxes: Vec<Sandbox>,
    /// Its containers.
    pub(crate) containers: Vec<Container>,
}

/// Looks, and remembers details that do not change.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    cri: Cri,
    node: String,
    number: Arc<AtomicU64>,
    /// Container details by id, with the state they were read in.
    containers: Arc<Mutex<HashMap<String, (i32, Container)>>>,
    /// Addresses of ready sandboxes by id.
    addresses: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
}

impl Observer {
    pub(crate) fn new(cri: Cri, node: &str) -> Self {
        Self {
            cri,
            node: node.to_owned(),
            number: Arc::default(),
            containers: Arc::default(),
            addresses: Arc::default(),
        }
    }

    /// The number of the look that began last.
    pub(crate) fn latest(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Looks at one pod, or at all.
    pub(crate) async fn look(&self, uid: Option<&str>) -> Result<Look, Status> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut look = Look { number, uid: uid.map(str::to_owned), pods: BTreeMap::new() };
        let mut selector = HashMap::from([(labels::NODE.to_owned(), self.node.clone())]);
        selector.extend(uid.map(|uid| (labels::POD_UID.to_owned(), uid.to_owned())));
        let filter = cri::PodSandboxFilter { label_selector: selector.clone(), ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let sandboxes = within(CALL, self.cri.runtime.clone().list_pod_sandbox(request)).await?.items;
        let filter = cri::ContainerFilter { label_selector: selector, ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let containers = within(CALL, self.cri.runtime.clone().list_containers(request)).await?.containers;
        if uid.is_none() {
            self.forget_all_but(&sandboxes, &containers);
        }
        for sandbox in sandboxes {
            let Some(uid) = sandbox.labels.get(labels::POD_UID).cloned() else { continue };
            let found = look.pods.entry(uid).or_default();
            let text = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
            (found.namespace, found.name) = (text(labels::POD_NAMESPACE), text(labels::POD_NAME));
            found.grace_seconds = sandbox.annotations.get(labels::POD_GRACE).and_then(|g| g.parse().ok());
            found.sandboxes.push(self.sandbox(&sandbox).await?);
        }
        for container in containers {
            let Some(uid) = container.labels.get(labels::POD_UID).cloned() else { continue };
            if let Some(details) = self.container(&container).await? {
                look.pods.entry(uid).or_default().containers.push(details);
            }
        }
        Ok(look)
    }

    fn forget_all_but(&self, sandboxes: &[cri::PodSandbox], containers: &[cri::Container]) {
        let mut known = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| containers.iter().any(|c| c.id == *id));
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| sandboxes.iter().any(|s| s.id == *id));
    }

    /// A container has changed without its state: what is known of it is read again.
    pub(crate) fn forget(&self, id: &str) {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    async fn sandbox(&self, sandbox: &cri::PodSandbox) -> Result<Sandbox, Status> {
        let ready = sandbox.state() == cri::PodSandboxState::SandboxReady;
        Ok(Sandbox {
            id: sandbox.id.clone(),
            attempt: sandbox.metadata.as_ref().map_or(0, |m| m.attempt),
            ready,
            created_at: from_nanoseconds(sandbox.created_at),
            ips: self.addresses_of(&sandbox.id, ready).await?,
            stopped: false,
        })
    }

    async fn addresses_of(&self, id: &str, ready: bool) -> Result<Vec<IpAddr>, Status> {
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(ips) = known {
            return Ok(ips);
        }
        if !ready {
            return Ok(Vec::new());
        }
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let status = match within(CALL, self.cri.runtime.clone().pod_sandbox_status(request)).await {
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(Vec::new()),
            result => result?.status,
        };
        let network = status.and_then(|s| s.network).unwrap_or_default();
        let texts = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
        let ips: Vec<IpAddr> = texts.filter_map(|ip| ip.parse().ok()).collect();
        if !ips.is_empty() {
            let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(id.to_owned(), ips.clone());
        }
        Ok(ips)
    }

    /// A container's details; `None` when it has gone since it was listed. They are read again when its state has
    /// changed.
    async fn container(&self, container: &cri::Container) -> Result<Option<Container>, Status> {
        let known =
            self.containers.lock().unwrap_or_else(PoisonError::into_inner).get(&container.id).cloned();
        if let Some((state, details)) = known
            && state == container.state
        {
            return Ok(Some(details));
        }
        let request = cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = match within(CALL, self.cri.runtime.clone().container_status(request)).await {
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(None),
            result => result?.status.unwrap_or_default(),
        };
        let mut details = details(container, &status);
        if let State::Exited(exit) = &mut details.state {
            let task = tokio::task::spawn_blocking({
                let (status, code) = (status.clone(), exit.exit_code);
                move || message::of(&status, code)
            });
            exit.message = task.await.unwrap_or_default();
        }
        let mut known = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(container.id.clone(), (status.state, details.clone()));
        Ok(Some(details))
    }
}

/// What the runtime says that the kernel was told; 0 and less is no limit.
fn limits(told: &cri::LinuxContainerResources) -> Limits {
    let positive = |value: i64| Some(value).filter(|value| *value > 0);
    Limits {
        cpu_shares: told.cpu_shares.max(CPU_SHARES_MIN),
        cpu_quota_us: positive(told.cpu_quota),
        memory_bytes: positive(told.memory_limit_in_bytes),
    }
}

fn details(container: &cri::Container, status: &cri::ContainerStatus) -> Container {
    let number = |key: &str| container.annotations.get(key).and_then(|n| n.parse().ok());
    let attempt = container.metadata.as_ref().map_or(0, |m| m.attempt);
    let named = status.image.as_ref().map(|i| match i.user_specified_image.is_empty() {
        true => i.image.clone(),
        false => i.user_specified_image.clone(),
    });
    let image_ref = if status.image_ref.is_empty() { &status.image_id } else { &status.image_ref };
    Container {
        id: container.id.clone(),
        name: container.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default(),
        sandbox: container.pod_sandbox_id.clone(),
        attempt,
        crashes: number(labels::CRASHES).unwrap_or(attempt),
        image: named.unwrap_or_default(),
        image_ref: image_ref.clone(),
        made_of: container.annotations.get(labels::IMAGE).cloned(),
        user: status.user.as_ref().and_then(|user| user.linux.as_ref()).map(|user| LinuxContainerUser {
            uid: user.uid,
            gid: user.gid,
            supplemental_groups: Some(user.supplemental_groups.clone()).filter(|groups| !groups.is_empty()),
        }),
        limits: status.resources.as_ref().and_then(|all| all.linux.as_ref()).map(limits),
        state: match status.state() {
            cri::ContainerState::ContainerCreated => State::Created,
            cri::ContainerState::ContainerRunning => {
                State::Running { started_at: from_nanoseconds(status.started_at) }
            }
            cri::ContainerState::ContainerExited => State::Exited(Exit {
                started_at: from_nanoseconds(status.started_at),
                finished_at: from_nanoseconds(status.finished_at),
                exit_code: status.exit_code,
                reason: status.reason.clone(),
                message: String::new(),
            }),
            cri::ContainerState::ContainerUnknown => State::Unknown,
        },
    }
}
