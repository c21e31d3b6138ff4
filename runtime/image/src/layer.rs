//! Bringing one layer into the store: transfer, unpacking and verification at once; then all of an image in order.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};

use crate::digest::Digest;
use crate::manifest::{Descriptor, chain_ids};
use crate::progress::{Phase, Progress};
use crate::pull::{PullError, finished, run_blocking};
use crate::registry::{RegistryError, Session};
use crate::store::ingest::Ingest;
use crate::store::{LayerRecord, Store, StoreError};
use crate::unpack::{UnpackError, Verified, inherit, unpack};

/// Pieces of a blob between the network and the unpacker; each is a read of the connection, 64 KiB at most.
const PIECES_MAX: usize = 16;
/// Progress is reported at steps of so many bytes.
const REPORT_BYTES: u64 = 256 << 10;

/// A layer to be had.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) chain_id: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) blob: Descriptor,
}

impl Wanted {
    /// The layers of an image, the lowest first.
    pub(crate) fn all(diff_ids: &[Digest], blobs: &[Descriptor]) -> Vec<Wanted> {
        let layers = chain_ids(diff_ids).into_iter().zip(diff_ids).zip(blobs);
        layers
            .map(|((chain_id, diff_id), blob)| Wanted {
                chain_id,
                diff_id: diff_id.clone(),
                blob: blob.clone(),
            })
            .collect()
    }
}

/// A layer unpacked and verified, not yet visible.
struct Built {
    verified: Verified,
    /// Keeps other pulls from building the same one.
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

/// Who pulls.
pub(crate) struct Fetch {
    pub(crate) store: Store,
    pub(crate) session: Session,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) image: String,
}

/// Brings in those of the layers that are missing, side by side, and makes them visible from the lowest up.
pub(crate) async fn fetch_all(fetch: &Arc<Fetch>, layers: &[Wanted]) -> Result<(), PullError> {
    let mut tasks = JoinSet::new();
    for (number, wanted) in layers.iter().cloned().enumerate() {
        fetch.report(&wanted, Phase::Waiting, 0);
        let fetch = fetch.clone();
        tasks.spawn(async move { (number, fetch.layer(&wanted).await) });
    }
    let mut built: Vec<Option<Option<Built>>> = layers.iter().map(|_| None).collect();
    let mut visible = 0;
    while let Some(joined) = tasks.join_next().await {
        let (number, outcome) = finished(joined).await;
        built[number] = Some(outcome?);
        while let Some(next) = built.get_mut(visible).and_then(Option::take) {
            if let Some(next) = next {
                fetch.commit(layers, visible, next).await?;
            }
            fetch.report(&layers[visible], Phase::Done, layers[visible].blob.size);
            visible += 1;
        }
    }
    Ok(())
}

impl Fetch {
    fn report(&self, wanted: &Wanted, phase: Phase, done: u64) {
        let (image, layer) = (self.image.clone(), wanted.blob.digest.clone());
        // Nobody may be listening.
        let _ = self.store.0.progress.send(Progress { image, layer, phase, done, total: wanted.blob.size });
    }

    /// Fetches and unpacks a layer, unless it is in the store.
    async fn layer(&self, wanted: &Wanted) -> Result<Option<Built>, PullError> {
        let turn = self.store.turn(&wanted.chain_id).lock_owned().await;
        if self.store.layer_path(&wanted.chain_id).exists() {
            return Ok(None);
        }
        let _permit = self.store.0.transfers.acquire().await;
        let mut from = 0;
        let verified = loop {
            match self.attempt(wanted, from).await {
                Err(PullError::Registry { source: error @ RegistryError::Digest { .. }, .. })
                    if from + 1 < self.session.place_count() =>
                {
                    tracing::info!(%error, image = self.image, "the next host is asked");
                    from += 1;
                    let (ingest, chain_id) = (self.ingest.clone(), wanted.chain_id.clone());
                    run_blocking(move || ingest.discard(&chain_id)).await?;
                }
                outcome => break outcome?,
            }
        };
        Ok(Some(Built { verified, _turn: turn }))
    }

    /// Fetches and unpacks a layer, without asking the first `from` places.
    async fn attempt(&self, wanted: &Wanted, from: usize) -> Result<Verified, PullError> {
        let directory = self.ingest.layer(&wanted.chain_id)?;
        let (sender, receiver) = mpsc::channel::<Bytes>(PIECES_MAX);
        let hashers = (wanted.blob.digest.hasher(), wanted.diff_id.hasher());
        // The thread keeps the ingest directory as long as it writes into it.
        let ingest = self.ingest.clone();
        let unpacker = spawn_blocking(move || {
            let outcome = unpack(Pieces { receiver, piece: Bytes::new() }, hashers, &directory);
            drop(ingest);
            outcome
        });
        let reported = AtomicU64::new(0);
        let progress = |done: u64| {
            if done == wanted.blob.size || done >= reported.load(Ordering::Relaxed) + REPORT_BYTES {
                reported.store(done, Ordering::Relaxed);
                let phase = if done == wanted.blob.size { Phase::Unpacking } else { Phase::Downloading };
                self.report(wanted, phase, done);
            }
        };
        let transferred = self.session.layer(&wanted.blob, &sender, from, &progress).await;
        drop(sender);
        self.verify(wanted, from, transferred, finished(unpacker.await).await)
    }

    /// Of everything that may have gone wrong, names the cause.
    fn verify(
        &self,
        wanted: &Wanted,
        from: usize,
        transferred: Result<(), RegistryError>,
        (blob, outcome): (Option<Digest>, Result<Verified, UnpackError>),
    ) -> Result<Verified, PullError> {
        let image = || self.image.clone();
        let layer = wanted.blob.digest.clone();
        match transferred {
            // The unpacker says why.
            Ok(()) | Err(RegistryError::Stopped { .. }) => {}
            Err(source) => return Err(PullError::Registry { image: image(), source }),
        }
        if let Some(found) = blob {
            let verified = self.session.verify(&format!("layer {layer}"), &layer, found, from);
            verified.map_err(|source| PullError::Registry { image: image(), source })?;
        }
        let verified =
            outcome.map_err(|source| PullError::Unpack { image: image(), layer: layer.clone(), source })?;
        if verified.diff_id != wanted.diff_id {
            let (expected, found) = (wanted.diff_id.clone(), verified.diff_id);
            return Err(PullError::DiffId { image: image(), layer, expected, found });
        }
        Ok(verified)
    }

    async fn commit(&self, layers: &[Wanted], number: usize, built: Built) -> Result<(), PullError> {
        let (store, ingest) = (self.store.clone(), self.ingest.clone());
        let chain: Vec<Digest> = layers[..=number].iter().map(|layer| layer.chain_id.clone()).collect();
        let (diff_id, Built { verified, _turn }) = (layers[number].diff_id.clone(), built);
        let committed = run_blocking(move || commit_layer(&store, &ingest, &chain, diff_id, &verified)).await;
        let layer = layers[number].blob.digest.clone();
        match committed {
            Ok(()) => Ok(()),
            Err(CommitError::Store(e)) => Err(e.into()),
            Err(CommitError::Unpack(source)) => {
                Err(PullError::Unpack { image: self.image.clone(), layer, source })
            }
        }
    }
}

/// Why a layer could not be made visible.
pub(crate) enum CommitError {
    Store(StoreError),
    Unpack(UnpackError),
}

/// Makes the last layer of `chain` visible; those below are.
pub(crate) fn commit_layer(
    store: &Store,
    ingest: &Ingest,
    chain: &[Digest],
    diff_id: Digest,
    verified: &Verified,
) -> Result<(), CommitError> {
    let Some((chain_id, below)) = chain.split_last() else { return Ok(()) };
    let below: Vec<_> = below.iter().rev().map(|id| store.layer_path(id).join("fs")).collect();
    let own = ingest.layer(chain_id).map_err(CommitError::Store)?;
    inherit(&own, &below, verified).map_err(CommitError::Unpack)?;
    let record = LayerRecord {
        version: crate::store::VERSION,
        chain_id: chain_id.clone(),
        diff_id,
        bytes: verified.usage.bytes,
        inodes: verified.usage.inodes,
    };
    ingest.commit_layer(&record).map_err(CommitError::Store)
}

impl Store {
    /// The lock of those in this process who want to build a layer.
    fn turn(&self, chain_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut building = self.0.building.lock().unwrap_or_else(PoisonError::into_inner);
        building.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = building.get(chain_id).and_then(std::sync::Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        building.insert(chain_id.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// The network's end of a channel as a stream; for the unpacker's thread.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let taken = self.piece.split_to(buffer.len().min(self.piece.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
