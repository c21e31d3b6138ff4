//! What the server is told at its start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The name of the runtime that is built in, and the one used when a pod names none.
pub const BUILT_IN: &str = "cleat";

/// Where the server keeps things, and what it works with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The socket to serve CRI v1 on.
    pub socket: PathBuf,
    /// What must survive a reboot: images, snapshots, records.
    pub data_dir: PathBuf,
    /// What must not: monitors' sockets, bundles.
    pub run_dir: PathBuf,
    /// Registry configuration in containerd's form, `HOST/hosts.toml`; the first directory with a host's entry wins.
    pub registry_dirs: Vec<PathBuf>,
    /// Docker's `config.json` with registry credentials.
    pub docker_config: Option<PathBuf>,
    /// Where the CNI configuration lists are.
    pub cni_conf_dir: PathBuf,
    /// Where the CNI plugins are, searched in order.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// Where CNI results are kept between ADD and DEL.
    pub cni_cache_dir: PathBuf,
    /// Where exec, attach and port-forward connections are taken; port 0 picks one.
    pub stream_address: SocketAddr,
    /// OCI runtimes by handler name; [`BUILT_IN`] is always there.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The `cleat-monitor` program.
    pub monitor: PathBuf,
    /// cgroup parent of pods that name none, as cgroupfs path.
    pub cgroup_parent: String,
}

/// What runs the containers of a runtime handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// Ours, inside the monitor.
    BuiltIn,
    /// A program with runc's command line.
    Program(PathBuf),
}

impl Config {
    /// Everything below two directories, as a node has it that was told nothing else. The monitor program and the
    /// CNI plugins are taken from the directory of the running program.
    #[must_use]
    pub fn new(data_dir: &Path, run_dir: &Path) -> Self {
        let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
        let beside = beside.unwrap_or_else(|| PathBuf::from("/usr/local/bin"));
        Self {
            socket: run_dir.join("cri.sock"),
            registry_dirs: vec!["/etc/cleat/certs.d".into(), "/etc/containerd/certs.d".into()],
            docker_config: None,
            cni_conf_dir: data_dir.join("cni/net.d"),
            cni_bin_dirs: vec![data_dir.join("cni/bin")],
            cni_cache_dir: data_dir.join("cni/cache"),
            stream_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            runtimes: BTreeMap::from([(BUILT_IN.to_owned(), Runtime::BuiltIn)]),
            monitor: beside.join("cleat-monitor"),
            cgroup_parent: "/cleat".to_owned(),
            data_dir: data_dir.to_path_buf(),
            run_dir: run_dir.to_path_buf(),
        }
    }
}
