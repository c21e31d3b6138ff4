//! The server as its handlers share it, and what a handler is told of the request it answers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use pki::Names;
use proto_kube::User;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::audit;
use crate::authn::token::Checked;
use crate::authorize::Authority;
use crate::bootstrap;
use crate::config::Config;
use crate::flow::Gate;
use crate::info::RequestInfo;
use crate::metrics::Metrics;
use crate::query::Query;
use crate::relay;
use crate::rest;

/// The store with the index that the verbs need.
pub type Store = store::Store<rest::Index>;

/// Why the server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error("opening the store")]
    Store(#[source] store::Error),
    /// The directory of all lasting state cannot be made.
    #[error("making {}", path.display())]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The keys cannot be read or made.
    #[error("the cluster's keys")]
    Pki(#[source] pki::Error),
    /// The audit log cannot be opened.
    #[error("opening the audit log {}", path.display())]
    Audit {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("listening on {address}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What a cluster begins with could not be written.
    #[error("writing what a cluster begins with: {why}")]
    Bootstrap {
        /// Why.
        why: String,
    },
}

/// What all handlers share.
pub struct Server {
    /// The objects.
    pub store: Store,
    /// The cluster's authorities and keys.
    pub pki: Arc<pki::Pki>,
    /// Who may do what.
    pub authority: Authority,
    /// Tokens that have been checked before.
    pub tokens: Checked,
    /// Whose turn it is.
    pub gate: Gate,
    /// Figures about the work.
    pub metrics: Metrics,
    /// Figures, in Prometheus' form, of who works beside the server in its process: controllers, the scheduler.
    pub beside: OnceLock<Box<dyn Fn() -> String + Send + Sync>>,
    /// Where requests are written down, if anywhere.
    pub audit: Option<audit::Log>,
    /// What is kept between connections to nodes.
    pub nodes: relay::Nodes,
    /// What the verbs keep between requests.
    pub rest: rest::State,
    /// What the server was started with.
    pub config: Config,
    /// Cancelled when the server goes down: watches and streams end.
    pub ends: CancellationToken,
    ready: AtomicBool,
    port: AtomicU16,
}

impl Server {
    /// Opens the store and the keys, and writes what a cluster begins with. The server does not listen yet.
    ///
    /// # Errors
    /// What could not be opened or written.
    pub async fn open(config: Config) -> Result<Arc<Self>, Error> {
        let now = (config.clock)();
        let control = config.data.as_ref().map(|data| data.join("control"));
        if let Some(dir) = &control {
            keep(dir).map_err(|source| Error::Directory { path: dir.clone(), source })?;
            admin::sweep(dir);
        }
        let keys = control.as_ref().map(|dir| dir.join("pki"));
        let pki = pki::Pki::open(keys.as_deref(), names(&config), now).map_err(Error::Pki)?;
        let place = match (&config.etcd, &control) {
            (Some(etcd), _) => store::Place::Etcd(etcd.clone()),
            (None, Some(dir)) => store::Place::Directory(dir.join("store")),
            (None, None) => store::Place::Memory,
        };
        let store = Store::open(store::Config::new(place)).await.map_err(Error::Store)?;
        let audit = match &config.audit_log {
            None => None,
            Some(path) => {
                Some(audit::Log::open(path).map_err(|source| Error::Audit { path: path.clone(), source })?)
            }
        };
        let server = Arc::new(Self {
            store,
            pki: Arc::new(pki),
            authority: Authority::default(),
            tokens: Checked::default(),
            gate: Gate::new(config.seats, config.queue),
            metrics: Metrics::default(),
            beside: OnceLock::new(),
            audit,
            nodes: relay::Nodes::default(),
            rest: rest::State::default(),
            config,
            ends: CancellationToken::new(),
            ready: AtomicBool::new(false),
            port: AtomicU16::new(0),
        });
        bootstrap::write(&server).await.map_err(|why| Error::Bootstrap { why })?;
        Ok(server)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.config.clock)()
    }

    /// Whether clients may come.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The port that the server listens on; 0 before it does.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    pub(crate) fn set_port(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// Lets clients come.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
}

/// Makes a directory and the names that lead to it durable: what is synced in it must not be lost with them.
fn keep(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for parent in dir.ancestors().skip(1) {
        // Those that we may not open were there before us.
        let _ = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
    }
    Ok(())
}

/// The names of the serving certificate.
fn names(config: &Config) -> Names {
    let mut names: Vec<String> = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(config.advertise.to_string());
    names.extend(config.service_cidrs.iter().filter_map(bootstrap::first_address).map(|ip| ip.to_string()));
    names.extend(
        config.listen.iter().map(|a| a.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()),
    );
    names.extend(config.names.iter().cloned());
    Names::new(names)
}

/// A request, as the shell has understood and let it in: authenticated, authorized and given its turn.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who asks, after impersonation.
    pub user: User,
    /// What for.
    pub info: RequestInfo,
    /// With which options.
    pub query: Query,
    /// The client's program, as its `User-Agent` says; field managers are named after it when a request names none.
    pub user_agent: String,
    /// When the request came.
    pub now: Timestamp,
}
