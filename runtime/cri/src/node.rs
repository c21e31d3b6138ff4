//! What all calls share: the objects in memory, the mechanisms, and who owns running operations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use cni_invoke::Networks;
use image::{Registries, Snapshots, Store};
use linux::cgroup::Hierarchies;
use proto_cri::{ContainerConfig, ContainerEventResponse, PodSandboxConfig};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::error::Failure;
use crate::lifecycle::{Names, Stop};
use crate::monitor::{Client, MonitorProgram};
use crate::plan::Host;
use crate::record::{self, Records};
use crate::runtime_status::NetworkState;
use crate::stats::DiskCache;

/// How an operation that several wait for ended; `None` while it runs.
pub(crate) type Outcome = watch::Receiver<Option<Result<String, Failure>>>;
/// (uid, namespace, name, attempt)
pub(crate) type PodKey = (String, String, String, u32);
/// (sandbox id, name, attempt)
pub(crate) type ContainerKey = (String, String, u32);

/// A sandbox in memory. Its record is behind a watch, so that who waits for a phase sleeps.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: String,
    /// Written by what changes the sandbox, read by what adds a container. Taken before a container's gate.
    pub(crate) gate: tokio::sync::RwLock<()>,
    pub(crate) state: watch::Sender<record::Pod>,
    /// Held from reading the state to its being on disk: the last write is then of the last state.
    pub(crate) writing: Mutex<()>,
}

/// A container in memory.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// Held by what changes the container, but for a stop, which only signals and waits.
    pub(crate) gate: tokio::sync::Mutex<()>,
    pub(crate) state: watch::Sender<record::Container>,
    /// As a sandbox's.
    pub(crate) writing: Mutex<()>,
    pub(crate) stop: Mutex<Stop>,
    pub(crate) hurried: Notify,
}

impl Pod {
    pub(crate) fn new(record: record::Pod) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            gate: tokio::sync::RwLock::default(),
            state: watch::Sender::new(record),
            writing: Mutex::default(),
        })
    }

    pub(crate) fn record(&self) -> record::Pod {
        self.state.borrow().clone()
    }
}

impl Container {
    pub(crate) fn new(record: record::Container) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            gate: tokio::sync::Mutex::default(),
            state: watch::Sender::new(record),
            writing: Mutex::default(),
            stop: Mutex::default(),
            hurried: Notify::new(),
        })
    }

    pub(crate) fn record(&self) -> record::Container {
        self.state.borrow().clone()
    }
}

/// The server's inside.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) host: Host,
    pub(crate) program: MonitorProgram,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) images: Store,
    pub(crate) registries: Registries,
    pub(crate) snapshots: Snapshots,
    pub(crate) networks: Networks,
    pub(crate) pod_records: Records<record::Pod>,
    pub(crate) container_records: Records<record::Container>,
    pub(crate) pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    pub(crate) containers: Mutex<BTreeMap<String, Arc<Container>>>,
    pub(crate) pod_names: Mutex<Names<PodKey, (PodSandboxConfig, String), Outcome>>,
    pub(crate) container_names: Mutex<Names<ContainerKey, ContainerConfig, Outcome>>,
    pub(crate) events: broadcast::Sender<ContainerEventResponse>,
    pub(crate) network: NetworkState,
    pub(crate) disk: DiskCache,
    pub(crate) tasks: TaskTracker,
}

/// Locks what no code can leave half-changed; a panic elsewhere does not make it unusable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A new id: 64 hexadecimal digits nobody can guess.
pub(crate) fn new_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Failure::Internal(format!("cannot get random bytes: {error}")))?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs what blocks on the disk or the kernel beside the event loop.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(died(&error)))
}

fn died(error: &tokio::task::JoinError) -> Failure {
    Failure::Internal(format!("the operation died: {error}"))
}

impl Node {
    /// Runs an operation to its end, even if the client that waits here gives up.
    pub(crate) async fn own<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        self.tasks.spawn(work).await.unwrap_or_else(|error| Err(died(&error)))
    }

    /// The sandbox of an id or its unique beginning.
    pub(crate) fn pod(&self, id: &str) -> Result<Arc<Pod>, Failure> {
        find(&lock(&self.pods), id).ok_or_else(|| Failure::NotFound { kind: "sandbox", id: id.to_owned() })
    }

    /// The container of an id or its unique beginning.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, Failure> {
        find(&lock(&self.containers), id)
            .ok_or_else(|| Failure::NotFound { kind: "container", id: id.to_owned() })
    }

    /// All sandboxes.
    pub(crate) fn all_pods(&self) -> Vec<Arc<Pod>> {
        lock(&self.pods).values().cloned().collect()
    }

    /// All containers, or those of one sandbox.
    pub(crate) fn all_containers(&self, pod: Option<&str>) -> Vec<Arc<Container>> {
        let all = lock(&self.containers);
        all.values().filter(|one| pod.is_none_or(|pod| one.state.borrow().pod == pod)).cloned().collect()
    }

    pub(crate) fn pod_dir(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("pods").join(id)
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("containers").join(id)
    }

    pub(crate) fn oci_root(&self) -> PathBuf {
        self.config.run_dir.join("oci")
    }

    pub(crate) fn monitor(&self, pod: &str) -> Client {
        Client::new(&self.pod_dir(pod))
    }
}

fn find<T>(all: &BTreeMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = all.get(id) {
        return Some(found.clone());
    }
    let mut matching = all.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    match (id.is_empty(), matching.next(), matching.next()) {
        (false, Some((_, only)), None) => Some(only.clone()),
        _ => None,
    }
}

/// Removes a tree; its absence is no error.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Failure> {
    match linux::remove::tree(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// What an operation that others started came to.
pub(crate) async fn outcome(mut outcome: Outcome) -> Result<String, Failure> {
    let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
    ended.unwrap_or_else(|| Err(Failure::Internal("the operation died".to_owned())))
}
