//! The store of the API server: MVCC in memory over a durable log, or over etcd.
//!
//! Every key and the recent past are in memory, so that reading, listing and watching never touch a disk or a
//! network; what differs between the backends is only how a transaction becomes durable. A transaction is
//! acknowledged when it is durable and visible, and visible only when it is durable.
#![forbid(unsafe_code)]

mod backup;
mod config;
mod engine;
mod entry;
mod etcd;
mod log;
mod state;
mod txn;
mod watch;

use std::{path::Path, sync::Arc, time::Duration};

use engine::{Clock, Engine};
use etcd::Remote;
use watch::Shared;

pub use backup::{Backup, JUMP, restore, verify};
pub use config::{Config, Etcd, Place, Tls};
pub use entry::{Entry, Event, Index};
pub use log::Damage;
#[doc(hidden)]
pub use log::fuzz;
pub use state::{Compacted, History, Page, Pending, Range, State};
pub use txn::{CommitError, Expect, Op, Txn, Write};
pub use watch::{Batch, Watch};

/// Why a store cannot be opened, saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or the backup cannot be read or written, or is damaged.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The kernel gives no thread.
    #[error("starting the store's thread")]
    Thread(#[source] std::io::Error),
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
    Etcd(Remote<I>),
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
        let Config { place, history, segment, retry } = config;
        let (log, mut state, seen) = match place {
            Place::Memory => (None, State::new(1, []), 0),
            Place::Directory(path) => {
                let opened = blocking(move || log::open(&path, segment, retry)).await?;
                (Some(opened.log), opened.state, opened.time)
            }
            Place::Etcd(etcd) => {
                let (remote, shared) = Remote::open(&etcd, history).await?;
                return Ok(Store { shared, backend: Arc::new(Backend::Etcd(remote)) });
            }
        };
        let clock = Clock::start(seen);
        state.trim(&history, clock.now());
        let shared = Shared::new(state);
        let engine = Engine::start(shared.clone(), log, clock, history).map_err(Error::Thread)?;
        Ok(Store { shared, backend: Arc::new(Backend::Embedded(engine)) })
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
            Backend::Etcd(remote) => remote.current().await,
        }
    }

    /// Waits until a revision is visible. `false` when the time is over before.
    pub async fn wait_for(&self, revision: i64, timeout: Duration) -> bool {
        self.shared.reach(revision, timeout).await
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
            Backend::Etcd(remote) => remote.commit(txn).await,
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
        self.shared.compact(revision);
    }

    /// Writes everything that the store holds at this moment into a file, while it goes on working. Answers the
    /// revision of the backup.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub async fn backup(&self, path: &Path) -> Result<i64, Error> {
        let (revision, entries) = {
            let inner = self.shared.read();
            (inner.state.revision(), inner.state.all())
        };
        let path = path.to_owned();
        blocking(move || backup::write(&path, revision, Clock::start(0).now(), &entries)).await?;
        Ok(revision)
    }

    /// Why nothing can be written at present: the disk is full or refuses, or etcd does not answer. Found by the
    /// last attempt; reading goes on.
    pub fn trouble(&self) -> Option<String> {
        self.shared.troubled().clone()
    }

    /// Ends the store: what is queued is finished, watches end, the directory is free when this returns.
    pub async fn close(&self) {
        let backend = self.backend.clone();
        blocking(move || match &*backend {
            Backend::Embedded(engine) => engine.stop(),
            Backend::Etcd(remote) => remote.close(),
        })
        .await;
    }
}

/// Runs what waits for a disk or a thread where it holds up no other task.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends before the work began, and who waits for it ends with the runtime.
            Err(_) => std::future::pending().await,
        },
    }
}
