//! The content store: which images are here, and their layers.
//!
//! ```text
//! <root>/lock                 who holds it may change anything below
//! <root>/index.json           the images (version, id -> Image)
//! <root>/blobs/sha256/<hex>   manifests and configurations
//! <root>/layers/<name>/fs     an unpacked layer, an overlayfs lower directory; layer.json: what it is
//! <root>/holds/<owner>        layers that a snapshot uses
//! <root>/ingest/<unique>/     what a pull or load of a live process builds (its `lock` is held), or waste
//! ```
//! Several processes may use one store. The lock is held for the time of a few small writes, never during a
//! transfer. Readers take no lock: the index is replaced by rename.
//!
//! Compressed layers are not kept. They go through memory into the unpacker, which the layer's digests then
//! verify; nobody reads them again, since this node does not push, and a layer once lost is fetched again.
//! Keeping them would nearly double what an image takes on disk.

pub(crate) mod disk;
mod disk_use;
pub(crate) mod ingest;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, broadcast};

use crate::digest::Digest;
use crate::manifest::ImageConfig;
use crate::platform::Platform;
use crate::progress::Progress;
use crate::pull::{Joined, PullKey};
use crate::reference::{Reference, is_id};
pub use disk_use::{Usage, disk_use};

pub(crate) const VERSION: u32 = 1;
/// Layers fetched and unpacked at one time, over all pulls of this process.
const TRANSFERS_MAX: usize = 3;
/// Progress reports that a slow listener may lag behind.
const PROGRESS_BACKLOG: usize = 1024;

/// Why the store cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The kernel refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk (or the quota) is full. What was being written is removed.
    #[error("no space left for {}: free some, or remove unused images", path.display())]
    Full {
        /// What was written.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A record cannot be read.
    #[error("{} is damaged ({reason}): remove the image store and pull again", path.display())]
    Corrupt {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record of a later version of this program.
    #[error("{} has version {found}: this program reads up to {VERSION}", path.display())]
    Version {
        /// The record.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There is no such image.
    #[error("no image {0:?} here")]
    NotFound(String),
    /// A layer of an image is gone; a pull brings it back.
    #[error("layer {layer} of image {image} is missing: pull the image again")]
    Missing {
        /// The image's id.
        image: Digest,
        /// The layer's chain id.
        layer: Digest,
    },
    /// A shortened id that several images have.
    #[error("several images have an id that begins with {0:?}")]
    Ambiguous(String),
}

/// An image of this store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its configuration: the image id of the CRI.
    pub id: Digest,
    /// Fully qualified references by tag, e.g. `docker.io/library/nginx:latest`.
    pub tags: Vec<String>,
    /// `repository@digest`: where it was pulled from, by the digest its tag had there (of the index, if it is one).
    pub digests: Vec<String>,
    /// Bytes that its unpacked layers take.
    pub size: u64,
    /// What it says about the process to run.
    pub config: ImageConfig,
    /// What it was built for.
    pub platform: Platform,
    /// When it was built, RFC 3339; empty if it does not say.
    pub created: String,
    /// Whoever collects unused images shall leave it.
    pub pinned: bool,
    /// Chain ids of its layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Manifest and index, kept among the blobs.
    pub(crate) manifests: Vec<Digest>,
}

/// What `layer.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) version: u32,
    pub(crate) chain_id: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) version: u32,
    pub(crate) images: BTreeMap<Digest, Image>,
}

/// The images of one directory. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    cached: Mutex<Option<(Stamp, Arc<Index>)>>,
    pub(crate) joined: Mutex<HashMap<PullKey, Joined>>,
    pub(crate) transfers: Semaphore,
    /// Layers that a pull of this process is at.
    pub(crate) building: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    pub(crate) progress: broadcast::Sender<Progress>,
}

/// Tells one written index from the next.
type Stamp = (u64, i64, i64, u64);

impl Store {
    /// Opens the store in `root`, made if absent, and removes what dead processes left unfinished.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        for name in ["blobs/sha256", "blobs/sha512", "layers", "holds", "ingest"] {
            disk::make_directory(&root.join(name))?;
        }
        // Layers hold set-user-id programs, which nobody may reach but through a container.
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(disk::failed("protect", root))?;
        let store = Store(Arc::new(Shared {
            root: root.to_owned(),
            cached: Mutex::default(),
            joined: Mutex::default(),
            transfers: Semaphore::new(TRANSFERS_MAX),
            building: Mutex::default(),
            progress: broadcast::Sender::new(PROGRESS_BACKLOG),
        }));
        store.index()?;
        store.collect()?;
        Ok(store)
    }

    /// All images, by id.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        Ok(self.index()?.images.values().cloned().collect())
    }

    /// The image of an id (`sha256:…`, its bare digits, or their unique beginning) or of a reference, short forms
    /// included.
    pub fn get(&self, id_or_reference: &str) -> Result<Option<Image>, StoreError> {
        let index = self.index()?;
        Ok(index.find(id_or_reference)?.map(|found| found.image().clone()))
    }

    /// Removes a reference, or with an id the image and all its references. An image without references goes. Layers
    /// that a snapshot uses stay until it goes. Returns false if there was nothing to remove.
    pub fn remove(&self, id_or_reference: &str) -> Result<bool, StoreError> {
        let removed = self.change(|index| {
            let Some(found) = index.find(id_or_reference)?.map(Found::owned) else { return Ok(false) };
            let (id, reference) = found;
            let left = match (index.images.get_mut(&id), reference) {
                (Some(image), Some(reference)) => image.forget(&reference),
                _ => false,
            };
            if !left {
                index.images.remove(&id);
            }
            Ok(true)
        })?;
        if removed {
            linux::crash::point("image-removed");
            self.collect()?;
        }
        Ok(removed)
    }

    /// Sets [`Image::pinned`].
    pub fn set_pinned(&self, id_or_reference: &str, pinned: bool) -> Result<(), StoreError> {
        self.change(|index| {
            let found = index.find(id_or_reference)?.map(|found| found.image().id.clone());
            let image = found.and_then(|id| index.images.get_mut(&id));
            image.ok_or_else(|| StoreError::NotFound(id_or_reference.to_owned()))?.pinned = pinned;
            Ok(())
        })
    }

    /// Disk space that layers, manifests and configurations take.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        for name in disk::names(&self.0.root.join("layers"))? {
            if let Some(layer) = self.layer_record(&name)? {
                usage = usage + Usage { bytes: layer.bytes, inodes: layer.inodes };
            }
        }
        Ok(usage + disk_use(&self.0.root.join("blobs"))?)
    }

    /// The image's layers as overlayfs lower directories, the topmost first.
    pub fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>, StoreError> {
        let image = self.get(image_id)?.ok_or_else(|| StoreError::NotFound(image_id.to_owned()))?;
        Ok(image.layers.iter().rev().map(|chain_id| self.layer_path(chain_id).join("fs")).collect())
    }

    /// The image's configuration document as its maker wrote it.
    pub fn config_document(&self, image_id: &str) -> Result<Vec<u8>, StoreError> {
        let image = self.get(image_id)?.ok_or_else(|| StoreError::NotFound(image_id.to_owned()))?;
        let path = self.blob_path(&image.id);
        fs::read(&path).map_err(disk::failed("read", &path))
    }

    /// Reports of running transfers, from now on. A listener that is too slow loses the oldest.
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Where a layer of this chain id is, or would be. The name is shortened, since all paths of a mount must fit
    /// into a page on kernels before 6.5; `layer.json` has the whole id.
    pub(crate) fn layer_path(&self, chain_id: &Digest) -> PathBuf {
        self.0.root.join("layers").join(layer_name(chain_id))
    }

    pub(crate) fn layer_record(&self, name: &str) -> Result<Option<LayerRecord>, StoreError> {
        disk::read_json(&self.0.root.join("layers").join(name).join("layer.json"))
    }

    /// The image with its size, which its layers' records tell.
    pub(crate) fn sized(&self, image: Image) -> Result<Image, StoreError> {
        let mut size = 0;
        for chain_id in &image.layers {
            let record =
                self.layer_record(layer_name(chain_id))?.filter(|record| record.chain_id == *chain_id);
            let missing = || StoreError::Missing { image: image.id.clone(), layer: chain_id.clone() };
            size += record.ok_or_else(missing)?.bytes;
        }
        Ok(Image { size, ..image })
    }

    /// Whether all layers of an image are here.
    pub(crate) fn complete(&self, image: &Image) -> Result<(), StoreError> {
        match image.layers.iter().find(|chain_id| !self.layer_path(chain_id).exists()) {
            Some(layer) => Err(StoreError::Missing { image: image.id.clone(), layer: layer.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.root.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// A document that is here and undamaged.
    pub(crate) fn document(&self, digest: &Digest) -> Option<Vec<u8>> {
        fs::read(self.blob_path(digest)).ok().filter(|content| digest.of_same(content) == *digest)
    }

    pub(crate) fn lock(&self) -> Result<disk::Locked, StoreError> {
        disk::lock(&self.0.root.join("lock"))
    }

    /// The index as it is now; another process may have changed it since the last call.
    pub(crate) fn index(&self) -> Result<Arc<Index>, StoreError> {
        let path = self.0.root.join("index.json");
        let Some(metadata) = disk::present(fs::metadata(&path), "read", &path)? else {
            return Ok(Arc::default());
        };
        let stamp = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        let mut cached = self.0.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, index)) = cached.as_ref().filter(|(of, _)| *of == stamp) {
            return Ok(index.clone());
        }
        let index: Index = disk::read_json(&path)?.unwrap_or_default();
        if index.version > VERSION {
            return Err(StoreError::Version { path, found: index.version });
        }
        let index = Arc::new(index);
        *cached = Some((stamp, index.clone()));
        Ok(index)
    }

    /// Changes the index, under the lock; on return it is on the disk.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _locked = self.lock()?;
        let before = self.index()?;
        let mut index = Index { version: VERSION, images: before.images.clone() };
        let outcome = change(&mut index)?;
        if index.images != before.images {
            disk::write_json(&self.0.root.join("index.json"), &index)?;
        }
        Ok(outcome)
    }
}

pub(crate) fn layer_name(chain_id: &Digest) -> &str {
    &chain_id.hex()[..32]
}

/// What a text names.
enum Found<'a> {
    /// An image.
    Image(&'a Image),
    /// One reference of an image.
    Reference(&'a Image, String),
}

impl<'a> Found<'a> {
    fn image(&self) -> &'a Image {
        match self {
            Found::Image(image) | Found::Reference(image, _) => image,
        }
    }

    fn owned(self) -> (Digest, Option<String>) {
        match self {
            Found::Image(image) => (image.id.clone(), None),
            Found::Reference(image, reference) => (image.id.clone(), Some(reference)),
        }
    }
}

impl Index {
    fn find(&self, text: &str) -> Result<Option<Found<'_>>, StoreError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if is_id(digits) {
            return Ok(self.images.values().find(|image| image.id.hex() == digits).map(Found::Image));
        }
        if let Ok(reference) = text.parse::<Reference>() {
            let name = reference
                .tagged()
                .unwrap_or_else(|| format!("{}@{}", reference.repository(), reference.target()));
            let has = |image: &&Image| image.tags.contains(&name) || image.digests.contains(&name);
            if let Some(image) = self.images.values().find(has) {
                return Ok(Some(Found::Reference(image, name)));
            }
        }
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let mut beginning = self.images.values().filter(|image| image.id.hex().starts_with(digits));
        match (beginning.next(), beginning.next()) {
            (Some(_), Some(_)) => Err(StoreError::Ambiguous(text.to_owned())),
            (only, _) => Ok(only.map(Found::Image)),
        }
    }

    /// Adds an image, or its references to the image that is here. A tag has one image: others lose it.
    pub(crate) fn add(&mut self, image: Image) {
        for other in self.images.values_mut() {
            other.tags.retain(|tag| !image.tags.contains(tag));
        }
        let Some(here) = self.images.get_mut(&image.id) else {
            self.images.insert(image.id.clone(), image);
            return;
        };
        let merge = |here: &mut Vec<String>, more: Vec<String>| {
            here.extend(more);
            here.sort_unstable();
            here.dedup();
        };
        merge(&mut here.tags, image.tags);
        merge(&mut here.digests, image.digests);
        here.manifests.extend(image.manifests);
        here.manifests.sort_unstable();
        here.manifests.dedup();
    }
}

impl Image {
    /// Whether a pull that found `other` has nothing to add.
    pub(crate) fn covers(&self, other: &Image) -> bool {
        let all = |own: &[String], others: &[String]| others.iter().all(|other| own.contains(other));
        all(&self.tags, &other.tags)
            && all(&self.digests, &other.digests)
            && other.manifests.iter().all(|manifest| self.manifests.contains(manifest))
    }

    /// Drops one reference; with a repository's last tag its digests go too. Returns whether any is left.
    fn forget(&mut self, reference: &str) -> bool {
        self.tags.retain(|tag| tag != reference);
        self.digests.retain(|digest| digest != reference);
        let repository = |reference: &str| reference.rsplit_once([':', '@']).map(|(name, _)| name.to_owned());
        if let Some(of) = repository(reference).filter(|_| !reference.contains('@'))
            && self.tags.iter().all(|tag| repository(tag).as_ref() != Some(&of))
        {
            self.digests.retain(|digest| !digest.starts_with(&format!("{of}@")));
        }
        !(self.tags.is_empty() && self.digests.is_empty())
    }
}
