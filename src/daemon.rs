//! The daemons, alone or together: configuration from what was typed, one shutdown, one log.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{self, Runtime};
use crate::join;
use crate::paths::Paths;

/// Sends log lines that pass `filter` to standard error.
pub(crate) fn log_to_stderr(filter: &str) {
    use std::io::IsTerminal;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Namespaces, mounts, cgroups and links are root's to make and to remove.
pub(crate) fn require_root() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a node is made of namespaces, mounts and cgroups: run this as root");
    }
    Ok(())
}

/// A token that SIGINT and SIGTERM cancel.
pub(crate) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancelled = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(shutdown)
}

pub(crate) async fn cri(args: args::Cri) -> anyhow::Result<()> {
    let paths = Paths::resolve(&args.dirs)?;
    let _lock = lock(&paths, "cri")?;
    let mut config = cri_config(&paths, &args.runtime)?;
    if args.runtime.cni_conf_dir.is_none() {
        config.cni_conf_dir = "/etc/cni/net.d".into();
    }
    Ok(cri::run(config, shutdown_on_signal()?).await?)
}

pub(crate) async fn agent(args: args::Agent) -> anyhow::Result<()> {
    let paths = Paths::resolve(&args.dirs)?;
    let _lock = lock(&paths, "agent")?;
    let shutdown = shutdown_on_signal()?;
    let config = match &args.kubeconfig {
        None => {
            let mut config = agent_config(&paths, &args.node, args.manifests.as_deref())?;
            obey(&mut config, &args.node)?;
            config
        }
        Some(file) => join::agent(&args, file, &paths, &shutdown).await?,
    };
    Ok(agent::run(config, shutdown).await?)
}

/// The last before an agent starts: does what the `KubeletConfiguration` file says, if there is one, and keeps the node's
/// name for `cleat down`, which is not told it.
pub(crate) fn obey(config: &mut agent::Config, node: &args::Node) -> anyhow::Result<()> {
    if let Some(file) = &node.config {
        for unsupported in config.read_kubelet_configuration(file).context("--config")? {
            tracing::warn!("{}: {unsupported}", file.display());
        }
    }
    agent::keep_name(&config.data_dir, &config.node_name)
        .with_context(|| format!("keeping the node's name in {}", config.data_dir.display()))
}

/// The CRI server's configuration; CNI plugins of ours are installed below the data directory.
pub(crate) fn cri_config(paths: &Paths, runtime: &Runtime) -> anyhow::Result<cri::Config> {
    let mut config = cri::Config::new(&paths.data, &paths.run);
    config.registry_dirs = vec![runtime.registry_config.clone(), "/etc/containerd/certs.d".into()];
    config.docker_config = Some(runtime.registry_auth.clone());
    if let Some(dir) = &runtime.cni_conf_dir {
        config.cni_conf_dir = std::path::absolute(dir)?;
    }
    let plugins = paths.data.join("cni/bin");
    cni_invoke::install(&plugins, &beside("cleat-cni")?)
        .with_context(|| format!("installing the CNI plugins in {}", plugins.display()))?;
    let mut bin_dirs = runtime.cni_bin_dir.clone();
    bin_dirs.extend([plugins, "/opt/cni/bin".into()]);
    config.cni_bin_dirs = bin_dirs;
    config.monitor = beside("cleat-monitor")?;
    for runtime in &runtime.runtimes {
        let Some((handler, path)) = runtime.split_once('=') else {
            bail!("--runtime {runtime}: expected HANDLER=PATH, such as runc=/usr/sbin/runc");
        };
        if !Path::new(path).is_file() {
            bail!("--runtime {runtime}: there is no program {path}");
        }
        config.runtimes.insert(handler.to_owned(), cri::Runtime::Program(path.into()));
    }
    Ok(config)
}

pub(crate) fn agent_config(
    paths: &Paths,
    node: &args::Node,
    manifests: Option<&Path>,
) -> anyhow::Result<agent::Config> {
    let mut config = agent::Config::new(&paths.data, &paths.run);
    config.log_dir.clone_from(&paths.logs);
    config.node_ips.extend(node.node_ip);
    if let Some(name) = &node.node_name {
        config.node_name.clone_from(name);
    }
    if let Some(socket) = &node.cri_socket {
        config.cri_socket = std::path::absolute(socket)?;
    }
    if let Some(dir) = manifests {
        if !dir.is_dir() {
            bail!("--manifests {}: there is no such directory", dir.display());
        }
        config.manifests = Some(std::path::absolute(dir)?);
    }
    Ok(config)
}

/// Holds the right to be the only `who` in a run directory, until it is dropped or the process ends.
pub(crate) struct Lock {
    _file: std::fs::File,
}

/// Takes the lock of `who`, or says which process has it.
pub(crate) fn lock(paths: &Paths, who: &str) -> anyhow::Result<Lock> {
    let path = lock_file(paths, who);
    match try_lock(&path)? {
        Some(lock) => Ok(lock),
        None => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            let (program, run, pid) = (program(who), paths.run.display(), holder.trim());
            bail!("{program} already runs in {run} (process {pid}); --data-dir DIR makes another beside it")
        }
    }
}

/// The command whose lock is called `who`.
pub(crate) fn program(who: &str) -> String {
    if who == "cleat" { "a node of cleat".to_owned() } else { format!("`cleat {who}`") }
}

/// Where the lock of `who` is; the file holds the process id of its holder.
pub(crate) fn lock_file(paths: &Paths, who: &str) -> PathBuf {
    paths.run.join(format!("{who}.pid"))
}

/// `None` if another process holds it.
pub(crate) fn try_lock(path: &Path) -> anyhow::Result<Option<Lock>> {
    use rustix::fs::{FlockOperation, flock};
    use std::io::Write;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("making {} (are you root?)", dir.display()))?;
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(Lock { _file: file }))
}

/// A program of ours that lies beside the running one.
fn beside(program: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding the running program")?;
    let path = own.with_file_name(program);
    if !path.is_file() {
        bail!(
            "{} is missing: `cargo build --workspace` builds all programs into one directory",
            path.display()
        );
    }
    Ok(path)
}
