//! Snapshots: what overlayfs needs to give a container its root file system.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::store::{Store, StoreError, Usage, disk, disk_use};

/// The writable layers of containers, `<root>/<container id>/{upper,work}`, each on top of an image of the store.
/// While a snapshot is here, the layers of its image stay, even if the image is removed.
#[derive(Debug, Clone)]
pub struct Snapshots {
    root: PathBuf,
    store: Store,
}

/// The directories of an overlayfs mount. Mounting is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Read-only layers, the topmost first; never empty.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// overlayfs' own, on the file system of `upper`.
    pub work: PathBuf,
}

impl Snapshots {
    /// The snapshots in `root` (made if absent) of the images in `store`.
    pub fn open(root: &Path, store: &Store) -> Result<Snapshots, StoreError> {
        disk::make_directory(root)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))
            .map_err(disk::failed("protect", root))?;
        Ok(Snapshots { root: root.to_owned(), store: store.clone() })
    }

    /// Makes a writable snapshot of an image (by id or reference) for a container. A container that has one gets it
    /// as it is.
    pub fn prepare(&self, container_id: &str, image: &str) -> Result<Snapshot, StoreError> {
        let layers = match self.store.held(container_id)? {
            Some(layers) => layers,
            None => self.store.hold(container_id, image)?,
        };
        linux::crash::point("snapshot-held");
        let snapshot = self.directories(container_id, &layers);
        disk::make_directory(&snapshot.work)?;
        disk::make_directory(&snapshot.upper)?;
        match layers.last() {
            // The mount shows the upper directory's owner and mode as those of `/`.
            Some(_) => copy_attributes(&snapshot.lower[0], &snapshot.upper)?,
            None => disk::make_directory(&snapshot.lower[0])?,
        }
        Ok(snapshot)
    }

    /// Keeps an image's layers for `owner`, and returns them as overlayfs lower directories, the topmost first: a
    /// read-only view, for image volumes. [`Snapshots::remove`] ends it.
    pub fn view(&self, owner: &str, image: &str) -> Result<Vec<PathBuf>, StoreError> {
        let layers = match self.store.held(owner)? {
            Some(layers) => layers,
            None => self.store.hold(owner, image)?,
        };
        let lower = self.directories(owner, &layers).lower;
        if layers.is_empty() {
            disk::make_directory(&lower[0])?;
        }
        Ok(lower)
    }

    /// The snapshot of a container.
    pub fn get(&self, container_id: &str) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.store.held(container_id)?.map(|layers| self.directories(container_id, &layers)))
    }

    /// Removes a snapshot or view, and layers that only it used. Its absence is no error. It must not be mounted.
    pub fn remove(&self, owner: &str) -> Result<(), StoreError> {
        disk::remove(&self.root.join(owner))?;
        linux::crash::point("snapshot-removed");
        self.store.release(owner)
    }

    /// What the container has written.
    pub fn usage(&self, container_id: &str) -> Result<Usage, StoreError> {
        disk_use(&self.root.join(container_id).join("upper"))
    }

    /// Owners of all snapshots and views, also of those that a crash left half-made.
    pub fn list(&self) -> Result<Vec<String>, StoreError> {
        let mut owners = disk::names(&self.root)?;
        owners.extend(
            disk::names(&self.store.root().join("holds"))?.into_iter().filter(|n| !n.ends_with(".tmp")),
        );
        owners.sort_unstable();
        owners.dedup();
        Ok(owners)
    }

    fn directories(&self, owner: &str, layers: &[Digest]) -> Snapshot {
        let own = self.root.join(owner);
        let mut lower: Vec<_> = layers.iter().rev().map(|id| self.store.layer_path(id).join("fs")).collect();
        if lower.is_empty() {
            lower.push(own.join("empty"));
        }
        Snapshot { lower, upper: own.join("upper"), work: own.join("work") }
    }
}

fn copy_attributes(from: &Path, to: &Path) -> Result<(), StoreError> {
    let attributes = fs::metadata(from).map_err(disk::failed("read", from))?;
    chown(to, Some(attributes.uid()), Some(attributes.gid()))
        .map_err(disk::failed("change the owner of", to))?;
    fs::set_permissions(to, attributes.permissions()).map_err(disk::failed("change the mode of", to))
}
