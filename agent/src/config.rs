//! What the agent is told at its start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::{Cache, Event, Query};
use proto_kube::{Resource, object, resource};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::identity::{NodeIdentity, ServingCertificate};
use crate::server::Serving;

/// Everything the agent is told; [`Config::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// The API server whose pods it runs and to which it reports; `None`: it runs the static pods alone.
    pub api: Option<Api>,
    /// How the kubelet's API is served over HTTPS; `None`: it is not, and the API server can reach no container.
    pub serving: Option<Serving>,
    /// The socket of a CRI v1 server.
    pub cri_socket: PathBuf,
    /// The directory with manifests of static pods; `None` watches none.
    pub manifests: Option<PathBuf>,
    /// What must survive a reboot: checkpoints and pod volumes, below `agent/`.
    pub data_dir: PathBuf,
    /// Where the agent's own socket is made, [`Config::socket`].
    pub run_dir: PathBuf,
    /// Where the logs of containers go.
    pub log_dir: PathBuf,
    /// This node's name, appended to the names of static pods.
    pub node_name: String,
    /// This node's addresses, the primary one first; empty finds those of the default route's interface.
    pub node_ips: Vec<IpAddr>,
    /// The cgroup above all pods; empty: pods have none of their own.
    pub cgroup_root: String,
    /// The host's resolver configuration, for `dnsPolicy: Default`.
    pub resolv_conf: PathBuf,
    /// The servers of the cluster's DNS, for `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// How many pods the node takes.
    pub pods_max: u32,
    /// What of the node is not for pods, by resource (`cpu`, `memory`, `ephemeral-storage`, `pid`), as quantities.
    pub reserved: BTreeMap<String, String>,
    /// Below how much of what the node counts as short of it, by signal (`memory.available`, `nodefs.available`,
    /// `nodefs.inodesFree`, `pid.available`), as a quantity or `10%`; the kubelet's defaults for those left out.
    pub eviction_hard: BTreeMap<String, String>,
    /// Sysctls that pods may set beside the safe ones; a `*` at the end stands for all that begin so.
    pub unsafe_sysctls: Vec<String>,
    /// How many images are pulled at a time.
    pub pulls_max: usize,
    /// A container's log is rotated when it is larger, in bytes.
    pub log_bytes_max: u64,
    /// How many files a container's log may have, the current one included.
    pub log_files_max: usize,
}

impl Config {
    /// A node below two directories that was told nothing else.
    #[must_use]
    pub fn new(data_dir: &Path, run_dir: &Path) -> Self {
        Self {
            api: None,
            serving: None,
            cri_socket: run_dir.join("cri.sock"),
            manifests: None,
            data_dir: data_dir.to_path_buf(),
            run_dir: run_dir.to_path_buf(),
            log_dir: data_dir.join("logs/pods"),
            node_name: host_name(),
            node_ips: Vec::new(),
            cgroup_root: "/kubepods".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            pods_max: 110,
            reserved: BTreeMap::new(),
            eviction_hard: BTreeMap::new(),
            unsafe_sysctls: Vec::new(),
            pulls_max: 4,
            log_bytes_max: 10 * 1024 * 1024,
            log_files_max: 5,
        }
    }

    /// Where the agent serves its HTTP API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// Where the pods' checkpoints and volumes are.
    #[must_use]
    pub fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("agent/pods")
    }
}

/// A node's place in a cluster.
#[derive(Clone)]
pub struct Api {
    /// The cluster's objects, seen by the node's own identity, or by one that may do as much.
    pub cache: Cache,
    /// Labels that the node registers itself with beside its own.
    pub labels: BTreeMap<String, String>,
    /// Taints that it registers itself with, as in a Node's `spec.taints`.
    pub taints: Vec<Value>,
    /// Who the node is, if its certificate is to be renewed; the cache's client has the identity's configuration.
    pub identity: Option<NodeIdentity>,
    /// Where the certificate of the kubelet's API is kept that the cluster is asked for; `None`: it is not asked.
    pub serving: Option<ServingCertificate>,
    /// Becomes true when the name is this agent's. What is told in the node's name before may be another's.
    pub named: watch::Sender<bool>,
    /// Whether it makes its Node; else it waits until somebody has.
    pub register: bool,
}

impl Api {
    /// A node of the cluster behind `cache`, with nothing special about it.
    #[must_use]
    pub fn new(cache: Cache) -> Self {
        Self {
            cache,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            identity: None,
            serving: None,
            named: watch::Sender::new(false),
            register: true,
        }
    }

    /// What the node authorizer lets a node see, for [`Cache::scoped`]: its own pods and its own Node.
    #[must_use]
    pub fn scopes(node_name: &str) -> Vec<(&'static Resource, Query)> {
        let only = |field: &str| Query::default().with("fieldSelector", &format!("{field}={node_name}"));
        vec![(pods(), only("spec.nodeName")), (nodes(), only("metadata.name"))]
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cache: _, labels, taints, identity, serving, named, register } = self;
        f.debug_struct("Api")
            .field("labels", labels)
            .field("taints", taints)
            .field("identity", identity)
            .field("serving", serving)
            .field("named", named)
            .field("register", register)
            .finish_non_exhaustive()
    }
}

/// A resource of the catalogue.
pub(crate) fn known(group: &'static str, version: &str, plural: &'static str) -> &'static Resource {
    resource::find(group, version, plural).expect("a resource of the catalogue")
}

/// `pods`.
pub(crate) fn pods() -> &'static Resource {
    known("", "v1", "pods")
}

/// Every change of pods. Those of the node are whole; of others, where the cache has them for others, there is less.
pub(crate) fn pods_of(cache: &Cache, node: &str) -> UnboundedReceiver<Event> {
    let node = node.to_owned();
    let need = move |pod: &Value| object::text(pod, &["spec", "nodeName"]) == node;
    cache.subscribe_some(pods(), "kubelet", Arc::new(need))
}

/// `nodes`.
pub(crate) fn nodes() -> &'static Resource {
    known("", "v1", "nodes")
}

/// `leases` of the group `coordination.k8s.io`.
pub(crate) fn leases() -> &'static Resource {
    known("coordination.k8s.io", "v1", "leases")
}

/// `certificatesigningrequests`.
pub(crate) fn certificate_signing_requests() -> &'static Resource {
    known("certificates.k8s.io", "v1", "certificatesigningrequests")
}

/// `events`.
pub(crate) fn events() -> &'static Resource {
    known("", "v1", "events")
}

/// The host's name in the form of a node's name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}
