//! What the agent is told at its start.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Everything the agent is told; [`Config::new`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
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
    /// The cgroup above all pods.
    pub cgroup_root: String,
    /// The host's resolver configuration, for `dnsPolicy: Default`.
    pub resolv_conf: PathBuf,
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
            cri_socket: run_dir.join("cri.sock"),
            manifests: None,
            data_dir: data_dir.to_path_buf(),
            run_dir: run_dir.to_path_buf(),
            log_dir: data_dir.join("logs/pods"),
            node_name: host_name(),
            node_ips: Vec::new(),
            cgroup_root: "/kubepods".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
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

/// The host's name in the form of a node's name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}
