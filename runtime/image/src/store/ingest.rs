//! What a pull or load builds before it becomes visible, and the removal of what nobody uses.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::{self, Locked, failed};
use super::{Image, LayerRecord, Store, StoreError, VERSION, layer_name};
use crate::digest::Digest;

/// Layers that must stay although no image may have them: of a snapshot, or of a running pull.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) version: u32,
    pub(crate) layers: Vec<Digest>,
}

impl Hold {
    pub(crate) fn of(layers: &[Digest]) -> Hold {
        Hold { version: VERSION, layers: layers.to_vec() }
    }
}

/// A directory of a live process, removed with everything in it when it is dropped; if the process dies, by the next
/// [`Store::collect`].
#[derive(Debug)]
pub(crate) struct Ingest {
    store: Store,
    pub(crate) path: PathBuf,
    _alive: Locked,
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if let Err(error) = disk::remove(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "an ingest directory stays until the next start");
        }
    }
}

impl Ingest {
    /// Keeps these layers, where they are in the store already, from being collected while this lives.
    pub(crate) fn claim(&self, layers: &[Digest]) -> Result<(), StoreError> {
        let _locked = self.store.lock()?;
        disk::write_json(&self.path.join("hold"), &Hold::of(layers))
    }

    /// Makes the directory that a layer is unpacked into.
    pub(crate) fn layer(&self, chain_id: &Digest) -> Result<PathBuf, StoreError> {
        let path = self.path.join(layer_name(chain_id)).join("fs");
        disk::make_directory(&path)?;
        Ok(path)
    }

    /// Removes what of a layer has been unpacked.
    pub(crate) fn discard(&self, chain_id: &Digest) -> Result<(), StoreError> {
        disk::remove(&self.path.join(layer_name(chain_id)))
    }

    /// Makes a verified layer visible; it is on the disk then. Harmless if somebody else was faster.
    pub(crate) fn commit_layer(&self, record: &LayerRecord) -> Result<(), StoreError> {
        let built = self.path.join(layer_name(&record.chain_id));
        let note = built.join("layer.json");
        fs::write(&note, disk::json(&note, record)?).map_err(failed("write", &note))?;
        disk::sync_file_system(File::open(&built).map_err(failed("open", &built))?, &built)?;
        linux::crash::point("layer-built");
        let _locked = self.store.lock()?;
        let place = self.store.layer_path(&record.chain_id);
        if place.exists() {
            return Ok(());
        }
        fs::rename(&built, &place).map_err(failed("rename", &built))?;
        let layers = self.store.0.root.join("layers");
        disk::sync_directory(&layers).map_err(failed("sync", &layers))?;
        linux::crash::point("layer-committed");
        Ok(())
    }

    /// Makes an image visible, whose layers are in the store, with the documents it came with.
    pub(crate) fn commit_image(
        &self,
        image: Image,
        documents: &[(Digest, Vec<u8>)],
    ) -> Result<Image, StoreError> {
        let id = image.id.clone();
        self.store.change(|index| {
            for (digest, content) in documents {
                let path = self.store.blob_path(digest);
                if !path.exists() {
                    disk::write(&path, content)?;
                }
            }
            linux::crash::point("documents-written");
            index.add(image);
            Ok(())
        })?;
        linux::crash::point("image-committed");
        self.store.get(id.as_str())?.ok_or_else(|| StoreError::NotFound(id.to_string()))
    }
}

impl Store {
    /// A new ingest directory.
    pub(crate) fn ingest(&self) -> Result<Ingest, StoreError> {
        let locked = self.lock()?;
        self.ingest_under(&locked)
    }

    /// Made under the lock, so that nobody sees it before its own lock is held and takes it for waste.
    fn ingest_under(&self, _locked: &Locked) -> Result<Ingest, StoreError> {
        let path = self.0.root.join("ingest").join(disk::unique());
        disk::make_directory(&path)?;
        let alive = disk::lock(&path.join("lock"))?;
        Ok(Ingest { store: self.clone(), path, _alive: alive })
    }

    /// Removes layers and documents that no image, snapshot or running pull uses, and what dead processes left.
    pub(crate) fn collect(&self) -> Result<(), StoreError> {
        let locked = self.lock()?;
        let mut waste = Waste { store: self, locked: &locked, bin: None };
        let index = self.index()?;
        let mut layers: HashSet<String> = HashSet::new();
        let mut keep = |used: &[Digest]| layers.extend(used.iter().map(|id| layer_name(id).to_owned()));
        index.images.values().for_each(|image| keep(&image.layers));
        for hold in self.holds()? {
            keep(&hold.layers);
        }
        let ingests = self.0.root.join("ingest");
        for name in disk::names(&ingests)? {
            let path = ingests.join(name);
            match disk::try_lock(&path.join("lock")) {
                Ok(None) => {
                    disk::read_json::<Hold>(&path.join("hold"))?.iter().for_each(|hold| keep(&hold.layers))
                }
                _ => waste.take(&path)?,
            }
        }
        for name in disk::names(&self.0.root.join("layers"))?.iter().filter(|name| !layers.contains(*name)) {
            waste.take(&self.0.root.join("layers").join(name))?;
        }
        let documents: HashSet<&str> = index
            .images
            .values()
            .flat_map(|image| image.manifests.iter().chain([&image.id]))
            .map(Digest::hex)
            .collect();
        for directory in ["blobs/sha256", "blobs/sha512"].map(|name| self.0.root.join(name)) {
            for name in disk::names(&directory)?.iter().filter(|name| !documents.contains(name.as_str())) {
                disk::remove(&directory.join(name))?;
            }
        }
        for directory in [&self.0.root, &self.0.root.join("holds")] {
            for name in disk::names(directory)?.iter().filter(|name| name.ends_with(".tmp")) {
                disk::remove(&directory.join(name))?;
            }
        }
        let bin = waste.bin.take();
        drop(locked);
        drop(bin);
        Ok(())
    }

    /// Keeps an image's layers for `owner` until [`Store::release`], whatever becomes of the image; returns their
    /// chain ids, the lowest first. Not synced: after a power failure no container runs that would need it.
    pub(crate) fn hold(&self, owner: &str, image_id: &str) -> Result<Vec<Digest>, StoreError> {
        let _locked = self.lock()?;
        let image = self.get(image_id)?.ok_or_else(|| StoreError::NotFound(image_id.to_owned()))?;
        self.complete(&image)?;
        let path = self.hold_path(owner);
        let beside = path.with_extension("tmp");
        fs::write(&beside, disk::json(&path, &Hold::of(&image.layers))?).map_err(failed("write", &beside))?;
        fs::rename(&beside, &path).map_err(failed("rename", &beside))?;
        Ok(image.layers)
    }

    /// What `owner` holds.
    pub(crate) fn held(&self, owner: &str) -> Result<Option<Vec<Digest>>, StoreError> {
        Ok(disk::read_json::<Hold>(&self.hold_path(owner))?.map(|hold| hold.layers))
    }

    /// Ends a [`Store::hold`], and removes those of its layers that nobody else uses.
    pub(crate) fn release(&self, owner: &str) -> Result<(), StoreError> {
        let Some(layers) = self.held(owner)? else { return Ok(()) };
        disk::remove(&self.hold_path(owner))?;
        linux::crash::point("snapshot-released");
        let index = self.index()?;
        if layers.iter().all(|layer| index.images.values().any(|image| image.layers.contains(layer))) {
            return Ok(());
        }
        self.collect()
    }

    fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        let directory = self.0.root.join("holds");
        let names = disk::names(&directory)?.into_iter().filter(|name| !name.ends_with(".tmp"));
        names.filter_map(|name| disk::read_json(&directory.join(name)).transpose()).collect()
    }

    fn hold_path(&self, owner: &str) -> PathBuf {
        self.0.root.join("holds").join(owner)
    }
}

/// Gathers what is to be removed: renamed away under the lock, which is quick, and removed after it.
struct Waste<'a> {
    store: &'a Store,
    locked: &'a Locked,
    bin: Option<Ingest>,
}

impl Waste<'_> {
    fn take(&mut self, path: &Path) -> Result<(), StoreError> {
        let bin = match &mut self.bin {
            Some(bin) => bin,
            None => self.bin.insert(self.store.ingest_under(self.locked)?),
        };
        let moved = fs::rename(path, bin.path.join(disk::unique()));
        disk::present(moved, "rename", path).map(|_| ())
    }
}
