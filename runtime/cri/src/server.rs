//! The server: opens what it works with, recovers, serves, and leaves the containers running.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cni_invoke::{Dirs, Networks};
use image::{Registries, Snapshots, Store};
use linux::cgroup::Hierarchies;
use proto_cri::image_service_server::ImageServiceServer;
use proto_cri::runtime_service_server::RuntimeServiceServer;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::config::Config;
use crate::connection;
use crate::error::chain;
use crate::events;
use crate::host;
use crate::monitor::MonitorProgram;
use crate::node::Node;
use crate::record::Records;
use crate::service::Service;
use crate::session::Sessions;
use crate::stream::{Listener, Streamer};

/// The largest request, as the kubelet's own limit.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long connections may still be open when the server is to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long running operations may take to end then; what they leave half-done, the next start finishes.
const OPERATIONS: Duration = Duration::from_secs(10);

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file or directory of the server's own.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Another server works there.
    #[error("another cleat serves {}: stop it, or give this one another data directory", .0.display())]
    Taken(
        /// The data directory.
        PathBuf,
    ),
    /// Something the server is made of does not open.
    #[error("cannot open {what}: {why}")]
    Open {
        /// What.
        what: &'static str,
        /// Why, with all causes.
        why: String,
    },
    /// The records of the last server cannot be read.
    #[error("cannot take over from the last server: {0}")]
    Recover(String),
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ServerError {
    let path = path.to_owned();
    move |source| ServerError::Io { what, path, source }
}

fn open<E: std::error::Error + 'static>(what: &'static str) -> impl FnOnce(E) -> ServerError {
    move |error| ServerError::Open { what, why: chain(&error) }
}

/// A server that is open, but does not serve yet.
pub struct Server {
    node: Arc<Node>,
    streamer: Streamer,
    listener: Listener,
    /// Locked as long as it is open, so that two servers cannot undo each other's work.
    _lock: fs::File,
}

impl Server {
    /// Makes the directories, opens the image store, and loads the monitor program.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn open(config: Config) -> Result<Self, ServerError> {
        let data = config.data_dir.clone();
        for (dir, mode) in [
            (data.join("cri"), 0o700),
            (config.run_dir.join("pods"), 0o711),
            (config.run_dir.join("containers"), 0o711),
            (config.run_dir.join("oci"), 0o700),
        ] {
            fs::create_dir_all(&dir).map_err(io("make directory", &dir))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).map_err(io("protect", &dir))?;
        }
        let lock = take(&data)?;
        let images = Store::open(&data.join("images")).map_err(open("the image store"))?;
        let snapshots = Snapshots::open(&data.join("snapshots"), &images).map_err(open("the snapshots"))?;
        let (pods, containers) = (data.join("cri/sandboxes"), data.join("cri/containers"));
        let hierarchies = Hierarchies::read().map_err(open("the cgroups"))?;
        let networks = Networks::new(Dirs {
            conf: config.cni_conf_dir.clone(),
            plugins: config.cni_bin_dirs.clone(),
            cache: config.cni_cache_dir.clone(),
        });
        let bound = Streamer::bind(config.stream_address).await;
        let (streamer, listener) = bound.map_err(open("the streaming address"))?;
        let node = Node {
            host: host::facts(&hierarchies),
            program: MonitorProgram::load(&config.monitor).map_err(open("the monitor program"))?,
            hierarchies,
            registries: Registries::new(config.registry_dirs.clone(), config.docker_config.clone()),
            images,
            snapshots,
            networks,
            pod_records: Records::open(&pods).map_err(io("make directory", &pods))?,
            container_records: Records::open(&containers).map_err(io("make directory", &containers))?,
            pods: Mutex::default(),
            containers: Mutex::default(),
            pod_names: Mutex::default(),
            container_names: Mutex::default(),
            events: broadcast::Sender::new(events::BACKLOG),
            network: Default::default(),
            disk: Default::default(),
            tasks: Default::default(),
            config,
        };
        Ok(Self { node: Arc::new(node), streamer, listener, _lock: lock })
    }

    /// The image store, e.g. to show the progress of pulls.
    pub fn images(&self) -> &Store {
        &self.node.images
    }

    /// Takes over what the last server left, then serves until `shutdown` is cancelled. Containers go on running.
    ///
    /// # Errors
    /// The records cannot be read, the socket cannot be bound.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServerError> {
        self.node.recover().await.map_err(|failure| ServerError::Recover(failure.to_string()))?;
        let path = &self.node.config.socket;
        let socket =
            linux::socket::listen(path).and_then(UnixListener::from_std).map_err(io("listen on", path))?;
        let stop = shutdown.child_token();
        let sessions = Arc::new(Sessions(self.node.clone()));
        let streaming = tokio::spawn(self.listener.serve(sessions, stop.clone()));
        let service = Service { node: self.node.clone(), streamer: self.streamer };
        let runtime = RuntimeServiceServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let images = ImageServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let routes = Routes::new(runtime).add_service(images).prepare();
        connection::serve(socket, routes, stop.clone(), PATIENCE).await;
        stop.cancel();
        streaming.abort();
        self.node.tasks.close();
        let _ = tokio::time::timeout(OPERATIONS, self.node.tasks.wait()).await;
        // A socket that nobody answers is worse than none; a later server has made its own.
        let _ = fs::remove_file(&self.node.config.socket);
        Ok(())
    }
}

/// Takes the data directory for this process; its end, however it comes, gives it back.
fn take(data: &Path) -> Result<fs::File, ServerError> {
    let path = data.join("cri/lock");
    let file = fs::File::create(&path).map_err(io("make", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(ServerError::Taken(data.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(io("lock", &path)(error)),
    }
}

/// [`Server::open`] and [`Server::run`].
///
/// # Errors
/// As these two.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServerError> {
    Server::open(config).await?.run(shutdown).await
}
