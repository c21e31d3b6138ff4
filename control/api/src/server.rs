//! The server as its handlers share it, and what a handler is told of the request it answers.

use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::User;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::info::RequestInfo;
use crate::query::Query;
use crate::rest;

/// The store with the index that the verbs need.
pub type Store = store::Store<rest::Index>;

/// What all handlers share.
pub struct Server {
    /// The objects.
    pub store: Store,
    /// The cluster's authorities and keys.
    pub pki: Arc<pki::Pki>,
    /// What the verbs keep between requests.
    pub rest: rest::State,
    /// What the server was started with.
    pub config: Config,
    /// Cancelled when the server goes down: watches and streams end.
    pub ends: CancellationToken,
}

impl Server {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.config.clock)()
    }
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
