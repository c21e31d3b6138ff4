//! The store of the API server: MVCC in memory over a durable log, or over etcd.
//!
//! Every key and the recent past are in memory, so that reading, listing and watching never touch a disk or a
//! network; what differs between the backends is only how a transaction becomes durable. A transaction is
//! acknowledged when it is durable and visible, and visible only when it is durable.
#![forbid(unsafe_code)]

mod config;
mod engine;
mod entry;
mod log;
mod state;
mod txn;
mod watch;

use std::{path::Path, sync::Arc, time::Duration};

use engine::{Clock, Engine};
use watch::Shared;

pub use config::{Config, Etcd, Place, Tls};
pub use entry::{Entry, Event, Index};
pub use state::{Compacted, History, Page, Pending, Range, State};
pub use txn::{CommitError, Expect, Op, Txn, Write};
pub use watch::{Batch, Watch};

/// Why a store cannot be opened, saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{what}")]
    Io {
        /// What was tried, with the file.
        what: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The backend is not built yet.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// etcd could not be reached, or did not answer.
    #[error("etcd at {endpoints} does not answer: {reason}")]
    Unavailable {
        /// The members that were tried.
        endpoints: String,
        /// What the last attempt met.
        reason: String,
    },
}

/// A store. Clones are the same store.
pub struct Store<I = ()> {
    shared: Arc<Shared<I>>,
    backend: Arc<Backend<I>>,
}

enum Backend<I> {
    Embedded(Engine<I>),
}

impl<I> Clone for Store<I> {
    fn clone(&self) -> Self {
        Store { shared: self.shared.clone(), backend: self.backend.clone() }
    }
}

impl<I: Send + Sync + 'static> Store<I> {
    /// Opens a store with all that it holds.
    ///
    /// # Errors
    /// The directory is held by another process or damaged, or etcd does not answer.
    pub async fn open(config: Config) -> Result<Store<I>, Error> {
        match config.place {
            Place::Memory => {
                let shared = Shared::new(State::new(1, []));
                let engine = Engine::start(shared.clone(), None, Clock::start(0), config.history)
                    .map_err(|source| Error::Io { what: "starting the store's thread".into(), source })?;
                Ok(Store { shared, backend: Arc::new(Backend::Embedded(engine)) })
            }
            Place::Directory(_) => Err(Error::Unsupported { what: "a directory" }),
            Place::Etcd(_) => Err(Error::Unsupported { what: "etcd" }),
        }
    }

    /// The revision of the last change that is durable and visible.
    pub fn revision(&self) -> i64 {
        self.shared.read().state.revision()
    }

    /// The oldest revision that can be read or watched from.
    pub fn compacted(&self) -> i64 {
        self.shared.read().state.compacted()
    }

    /// A revision that contains everything acknowledged anywhere before this call; readings see it when this
    /// returns. Embedded it is [`Store::revision`]; with etcd its members are asked and the mirror waited for.
    ///
    /// # Errors
    /// [`Error::Unavailable`]
    pub async fn current(&self) -> Result<i64, Error> {
        match &*self.backend {
            Backend::Embedded(_) => Ok(self.revision()),
        }
    }

    /// Waits until a revision is visible. `false` when the time is over before.
    pub async fn wait_for(&self, revision: i64, timeout: Duration) -> bool {
        let mut published = self.shared.revision();
        let reached = published.wait_for(|published| *published >= revision);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }

    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<Arc<Entry<I>>> {
        self.shared.read().state.get(key).cloned()
    }

    /// What a key held at a revision.
    ///
    /// # Errors
    /// The revision is compacted.
    pub fn get_at(&self, key: &str, at: i64) -> Result<Option<Arc<Entry<I>>>, Compacted> {
        self.shared.read().state.get_at(key, at)
    }

    /// What a prefix holds, wholly or in part, now or lately; all at one revision.
    ///
    /// # Errors
    /// The revision is compacted.
    pub fn range(&self, prefix: &str, range: Range<'_>) -> Result<Page<I>, Compacted> {
        self.shared.read().state.range(prefix, range)
    }

    /// Makes writes happen together, and answers their revision once they are durable and visible. A transaction
    /// that changes nothing answers the revision at which that was found.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(&self, txn: Txn) -> Result<i64, CommitError<I>> {
        match &*self.backend {
            Backend::Embedded(engine) => engine.commit(txn).await,
        }
    }

    /// What happens under a prefix after a revision.
    ///
    /// # Errors
    /// The revision is compacted.
    pub fn watch(&self, prefix: &str, after: i64) -> Result<Watch<I>, Compacted> {
        self.shared.watch(prefix, after)
    }

    /// Forgets the past up to a revision. The store does so by itself within the bounds of [`History`].
    pub fn compact(&self, revision: i64) {
        match &*self.backend {
            Backend::Embedded(engine) => engine.compact(revision),
        }
    }

    /// Writes everything that the store holds at this moment into a file, while it goes on working.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub async fn backup(&self, _path: &Path) -> Result<i64, Error> {
        Err(Error::Unsupported { what: "a backup" })
    }

    /// Ends the store: what is queued is finished, watches end, the directory is free when this returns.
    pub async fn close(&self) {
        let backend = self.backend.clone();
        let stop = move || match &*backend {
            Backend::Embedded(engine) => engine.stop(),
        };
        if tokio::task::spawn_blocking(stop).await.is_err() {
            tracing::error!("closing the store has panicked");
        }
    }
}
