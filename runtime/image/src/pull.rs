//! Pulling an image: manifest, configuration, then its layers side by side.

use std::sync::{Arc, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use tokio::task::{JoinError, spawn_blocking};

use crate::digest::Digest;
use crate::layer::{Fetch, Wanted, fetch_all};
use crate::manifest::{CONFIG_BYTES_MAX, ConfigDocument, Document, LAYERS_MAX, Manifest, ManifestError};
use crate::platform::Platform;
use crate::reference::{Reference, ReferenceError};
use crate::registry::{Credentials, Registries, RegistryError, Session};
use crate::store::{Image, Store, StoreError};
use crate::unpack::UnpackError;

/// An index may list indexes, to this depth.
const INDEX_DEPTH_MAX: usize = 3;

/// What makes two pulls the same.
pub(crate) type PullKey = (Reference, Platform, Option<Credentials>);
/// A pull that several callers wait for.
pub(crate) type Joined = WeakShared<BoxFuture<'static, Result<Image, Arc<PullError>>>>;

/// Why an image could not be pulled. Nothing of it is left but whole layers, which the next attempt finds; if the disk
/// is full, not even those.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The reference is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry, or the way to it.
    #[error("cannot pull {image}")]
    Registry {
        /// The image asked for, in full.
        image: String,
        /// What went wrong.
        source: RegistryError,
    },
    /// Manifest or configuration cannot be used.
    #[error("cannot pull {image}")]
    Manifest {
        /// The image asked for, in full.
        image: String,
        /// What went wrong.
        source: ManifestError,
    },
    /// A layer cannot be unpacked.
    #[error("cannot pull {image}: layer {layer}")]
    Unpack {
        /// The image asked for, in full.
        image: String,
        /// The layer's blob.
        layer: Digest,
        /// What went wrong.
        source: UnpackError,
    },
    /// A layer's content is not what the configuration says.
    #[error("cannot pull {image}: layer {layer} unpacks to {found}, the image configuration says {expected}")]
    DiffId {
        /// The image asked for, in full.
        image: String,
        /// The layer's blob.
        layer: Digest,
        /// `rootfs.diff_ids`
        expected: Digest,
        /// Digest of the uncompressed layer.
        found: Digest,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a caller can make of a [`PullError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullErrorKind {
    /// The reference or the configuration of registries is wrong.
    Invalid,
    /// The registry has no such image, or none for this platform.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// The registry does not answer, or not now: try later.
    Unavailable,
    /// What came is not what its digest or the specification says.
    Corrupt,
    /// The disk is full.
    Full,
    /// The local disk or kernel refused.
    Internal,
}

impl PullError {
    /// What the caller can make of it.
    pub fn kind(&self) -> PullErrorKind {
        use PullErrorKind as Kind;
        match self {
            PullError::Reference(_) => Kind::Invalid,
            PullError::Registry { source, .. } => match source {
                RegistryError::Config { .. } => Kind::Invalid,
                RegistryError::NotFound { .. } => Kind::NotFound,
                RegistryError::Unauthorized { .. } => Kind::Unauthorized,
                RegistryError::Length { .. }
                | RegistryError::Digest { .. }
                | RegistryError::TooLarge { .. } => Kind::Corrupt,
                _ => Kind::Unavailable,
            },
            PullError::Manifest { source: ManifestError::Platform { .. }, .. } => Kind::NotFound,
            PullError::Unpack { source: UnpackError::Full { .. }, .. }
            | PullError::Store(StoreError::Full { .. }) => Kind::Full,
            PullError::Unpack { source: UnpackError::Write { .. }, .. } | PullError::Store(_) => {
                Kind::Internal
            }
            PullError::Manifest { .. } | PullError::Unpack { .. } | PullError::DiffId { .. } => Kind::Corrupt,
        }
    }
}

impl Store {
    /// Pulls an image for `platform`, and returns it when it is whole and on the disk. Who asks for what is being
    /// pulled already waits for that. Dropping the future ends the pull and removes what it has not finished.
    /// Without `credentials` those of the docker configuration are used, if there are any.
    pub async fn pull(
        &self,
        registries: &Registries,
        reference: &str,
        credentials: Option<Credentials>,
        platform: &Platform,
    ) -> Result<Image, Arc<PullError>> {
        let reference: Reference = reference.parse().map_err(|e: ReferenceError| Arc::new(e.into()))?;
        let key = (reference.clone(), platform.normalized(), credentials.clone());
        let shared = {
            let mut joined = self.0.joined.lock().unwrap_or_else(PoisonError::into_inner);
            joined.retain(|_, pull| pull.upgrade().is_some_and(|pull| pull.peek().is_none()));
            match joined.get(&key).and_then(WeakShared::upgrade) {
                Some(running) => running,
                None => {
                    let pull = pull(self.clone(), registries.clone(), key.clone());
                    let pull = pull.map(|outcome| outcome.map_err(Arc::new)).boxed().shared();
                    joined.extend(pull.downgrade().map(|weak| (key, weak)));
                    pull
                }
            }
        };
        shared.await
    }
}

async fn pull(
    store: Store,
    registries: Registries,
    (reference, platform, credentials): PullKey,
) -> Result<Image, PullError> {
    let image = reference.to_string();
    let outcome = pull_image(&store, &registries, &reference, &platform, credentials).await;
    if outcome.as_ref().is_err_and(|error| error.kind() == PullErrorKind::Full) {
        let collected = run_blocking(move || store.collect()).await;
        collected.unwrap_or_else(
            |error| tracing::warn!(%error, image, "what was pulled stays until the next start"),
        );
    }
    outcome
}

async fn pull_image(
    store: &Store,
    registries: &Registries,
    reference: &Reference,
    platform: &Platform,
    credentials: Option<Credentials>,
) -> Result<Image, PullError> {
    let name = reference.to_string();
    let refused = |source| PullError::Registry { image: name.clone(), source };
    let unusable = |source| PullError::Manifest { image: name.clone(), source };
    let session = registries.session(reference, credentials).await.map_err(refused)?;
    let (manifest, mut documents) = manifest(store, &session, reference, platform, &name).await?;
    let content = match store.document(&manifest.config.digest) {
        Some(content) => content,
        None => session.blob(&manifest.config, CONFIG_BYTES_MAX).await.map_err(refused)?,
    };
    let config = read_config(&content, &manifest, platform).map_err(unusable)?;
    let layers = Wanted::all(&config.rootfs.diff_ids, &manifest.layers);
    let chain: Vec<Digest> = layers.iter().map(|layer| layer.chain_id.clone()).collect();
    let manifests: Vec<Digest> = documents.iter().map(|(digest, _)| digest.clone()).collect();
    let top = manifests.first().map(|top| format!("{}@{top}", reference.repository()));
    let image = Image {
        tags: reference.tagged().into_iter().collect(),
        digests: top.into_iter().collect(),
        manifests,
        ..config.image(manifest.config.digest.clone(), chain.clone())
    };
    if let Some(here) = store.index()?.images.get(&image.id).filter(|here| here.covers(&image))
        && store.complete(here).is_ok()
    {
        return Ok(here.clone());
    }
    let (own, claimed) = (store.clone(), chain.clone());
    let ingest =
        run_blocking(move || own.ingest().and_then(|ingest| ingest.claim(&claimed).map(|()| ingest))).await?;
    let fetch = Fetch { store: store.clone(), session, ingest: Arc::new(ingest), image: name.clone() };
    let fetch = Arc::new(fetch);
    fetch_all(&fetch, &layers).await?;
    documents.push((image.id.clone(), content));
    let (own, ingest) = (store.clone(), fetch.ingest.clone());
    Ok(run_blocking(move || ingest.commit_image(own.sized(image)?, &documents)).await?)
}

/// Follows a reference to this platform's manifest. Returns all documents on the way.
async fn manifest(
    store: &Store,
    session: &Session,
    reference: &Reference,
    platform: &Platform,
    image: &str,
) -> Result<(Manifest, Vec<(Digest, Vec<u8>)>), PullError> {
    let unusable = |source| PullError::Manifest { image: image.to_owned(), source };
    let (mut documents, mut target) = (Vec::new(), reference.target().to_owned());
    for _ in 0..=INDEX_DEPTH_MAX {
        let here = target.parse().ok().and_then(|digest| Some((store.document(&digest)?, digest)));
        let (content, content_type, digest) = match here {
            // Below an index, which was fetched: the registry has shown that it has the image.
            Some((content, digest)) if !documents.is_empty() => (content, String::new(), digest),
            _ => {
                let fetched = session.manifest(&target).await;
                let fetched =
                    fetched.map_err(|source| PullError::Registry { image: image.to_owned(), source })?;
                (fetched.content, fetched.content_type, fetched.digest)
            }
        };
        let document = Document::parse(&content, &content_type).map_err(unusable)?;
        documents.push((digest, content));
        match document {
            Document::Manifest(manifest) => return Ok((manifest, documents)),
            Document::Index(index) => target = index.select(platform).map_err(unusable)?.digest.to_string(),
        }
    }
    Err(unusable(ManifestError::Malformed("indexes within indexes".to_owned())))
}

/// Reads an image configuration, and checks that it belongs to the manifest and runs here.
pub(crate) fn read_config(
    content: &[u8],
    manifest: &Manifest,
    platform: &Platform,
) -> Result<ConfigDocument, ManifestError> {
    let config: ConfigDocument = serde_json::from_slice(content)
        .map_err(|e| ManifestError::Malformed(format!("the image configuration: {e}")))?;
    let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
    if diff_ids != layers {
        return Err(ManifestError::LayerCount { diff_ids, layers });
    }
    if layers > LAYERS_MAX {
        return Err(ManifestError::TooManyLayers(layers));
    }
    let named = !config.platform.os.is_empty() && !config.platform.architecture.is_empty();
    if named && platform.distance(&config.platform).is_none() {
        let (wanted, offered) = (platform.to_string(), config.platform.to_string());
        return Err(ManifestError::Platform { wanted, offered });
    }
    Ok(config)
}

impl ConfigDocument {
    /// The image of this configuration, without references, manifests and size.
    pub(crate) fn image(self, id: Digest, layers: Vec<Digest>) -> Image {
        Image {
            id,
            tags: Vec::new(),
            digests: Vec::new(),
            size: 0,
            config: self.config,
            platform: self.platform,
            created: self.created,
            pinned: false,
            layers,
            manifests: Vec::new(),
        }
    }
}

/// Runs what blocks on the disk.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    finished(spawn_blocking(work).await).await
}

/// What a task or thread returned; its panic goes on here. If the runtime is ending, so is whoever waits for this.
pub(crate) async fn finished<T>(joined: Result<T, JoinError>) -> T {
    match joined.map_err(JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => std::future::pending().await,
    }
}
