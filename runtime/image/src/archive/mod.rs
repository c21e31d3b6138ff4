//! Loading images from archives: `docker save`'s, and the image specification's layout as tar or directory.

mod source;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::digest::{Digest, Hasher};
use crate::layer::{CommitError, Wanted, commit_layer};
use crate::manifest::{
    CONFIG_BYTES_MAX, Descriptor, Document, Index, MANIFEST_BYTES_MAX, Manifest, ManifestError,
};
use crate::platform::Platform;
use crate::progress::{Phase, Progress};
use crate::pull::{read_config, run_blocking};
use crate::reference::{Reference, ReferenceError};
use crate::store::ingest::Ingest;
use crate::store::{Image, Store, StoreError};
use crate::unpack::{UnpackError, Verified, unpack};
use source::{Source, Stream};

/// Layers unpacked at one time.
const UNPACKERS_MAX: usize = 3;
const INDEX_DEPTH_MAX: usize = 3;
/// An image's full name, or its tag or full name, in the annotations of an index.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Why an archive could not be loaded. Images loaded before the error stay.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The archive cannot be read.
    #[error("cannot read {}", archive.display())]
    Read {
        /// The archive.
        archive: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The archive is no tar.
    #[error("{} is no tar archive", archive.display())]
    Malformed {
        /// The archive.
        archive: PathBuf,
        /// Why not.
        source: UnpackError,
    },
    /// It has neither `manifest.json` nor `index.json`, or no image in them.
    #[error("{} is no image archive: there is no image in manifest.json or index.json", archive.display())]
    NoImage {
        /// The archive.
        archive: PathBuf,
    },
    /// Something that the archive speaks of is not in it.
    #[error("{}: {member} is missing", archive.display())]
    Missing {
        /// The archive.
        archive: PathBuf,
        /// The member's name.
        member: String,
    },
    /// A document cannot be used.
    #[error("{}: {member}", archive.display())]
    Document {
        /// The archive.
        archive: PathBuf,
        /// The member's name.
        member: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// A tag is no image reference.
    #[error("{}", archive.display())]
    Reference {
        /// The archive.
        archive: PathBuf,
        /// What is wrong.
        source: ReferenceError,
    },
    /// A layer cannot be unpacked.
    #[error("{}: layer {member}", archive.display())]
    Unpack {
        /// The archive.
        archive: PathBuf,
        /// The member's name.
        member: String,
        /// What is wrong.
        source: UnpackError,
    },
    /// Content is not what its name or the image configuration says.
    #[error("{}: {member} is damaged: its digest is {found} instead of {expected}", archive.display())]
    Digest {
        /// The archive.
        archive: PathBuf,
        /// The member's name.
        member: String,
        /// By its name or the configuration.
        expected: Digest,
        /// Of the content.
        found: Digest,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image of an archive, ready to be unpacked.
struct Found {
    image: Image,
    documents: Vec<(Digest, Vec<u8>)>,
    layers: Vec<Wanted>,
    /// The layers' members.
    members: Vec<String>,
    /// Blobs are named by their digests (not in docker's archives).
    by_digest: bool,
}

impl Store {
    /// Loads the images of an archive, with their tags: `docker save`'s or the image specification's layout, as tar,
    /// compressed (gzip, zstd) or not, or as a directory. A pipe will do (`/dev/stdin`). Of several platforms the one
    /// that fits `platform` best is taken.
    pub async fn load(&self, archive: &Path, platform: &Platform) -> Result<Vec<Image>, LoadError> {
        let (store, archive, platform) = (self.clone(), archive.to_owned(), platform.clone());
        run_blocking(move || {
            let outcome = load(&store, archive, &platform);
            if outcome.as_ref().is_err_and(LoadError::is_full) {
                store.collect()?;
            }
            outcome
        })
        .await
    }
}

fn load(store: &Store, archive: PathBuf, platform: &Platform) -> Result<Vec<Image>, LoadError> {
    let ingest = store.ingest()?;
    let source = Source::open(&archive, &ingest.path)?;
    let loading = Loading { store: store.clone(), ingest, source, archive };
    let found = loading.images(platform)?;
    if found.is_empty() {
        return Err(LoadError::NoImage { archive: loading.archive });
    }
    found.into_iter().map(|found| loading.load(found)).collect()
}

impl LoadError {
    fn is_full(&self) -> bool {
        matches!(
            self,
            LoadError::Store(StoreError::Full { .. })
                | LoadError::Unpack { source: UnpackError::Full { .. }, .. }
        )
    }
}

struct Loading {
    store: Store,
    ingest: Ingest,
    source: Source,
    archive: PathBuf,
}

impl Loading {
    fn images(&self, platform: &Platform) -> Result<Vec<Found>, LoadError> {
        // Newer docker writes both; its own manifest knows all tags.
        if let Some(content) = self.content("manifest.json", MANIFEST_BYTES_MAX)? {
            let images: Vec<DockerImage> = self.parse("manifest.json", &content)?;
            return images.into_iter().map(|image| self.docker_image(image, platform)).collect();
        }
        let Some(content) = self.content("index.json", MANIFEST_BYTES_MAX)? else { return Ok(Vec::new()) };
        let index: Index = self.parse("index.json", &content)?;
        // An index with names lists images; one without lists the platforms of an image.
        if index.manifests.iter().all(|entry| entry.platform.is_some() && name(entry).is_none())
            && !index.manifests.is_empty()
        {
            let entry = index.select(platform).map_err(|e| self.unusable("index.json", e))?;
            return Ok(vec![self.oci_image(entry, platform)?]);
        }
        let mut found: Vec<Found> = Vec::new();
        for entry in &index.manifests {
            let next = self.oci_image(entry, platform)?;
            found.push(next);
        }
        Ok(found)
    }

    fn docker_image(&self, docker: DockerImage, platform: &Platform) -> Result<Found, LoadError> {
        let content = self.required(&docker.config, CONFIG_BYTES_MAX)?;
        let id = Digest::of(&content);
        // Docker's manifest names no digests: the configuration's verify the layers.
        let blob = |digest: Digest| Descriptor {
            media_type: String::new(),
            digest,
            size: 0,
            platform: None,
            annotations: Default::default(),
        };
        let parsed: crate::manifest::ConfigDocument = self.parse(&docker.config, &content)?;
        let mut blobs: Vec<_> = parsed.rootfs.diff_ids.iter().cloned().map(blob).collect();
        blobs.truncate(docker.layers.len());
        let manifest = Manifest { config: blob(id.clone()), layers: blobs };
        let config =
            read_config(&content, &manifest, platform).map_err(|e| self.unusable(&docker.config, e))?;
        let tags = docker.repo_tags.unwrap_or_default();
        let tags = tags.iter().map(|tag| self.reference(tag)).collect::<Result<Vec<_>, _>>()?;
        let layers = Wanted::all(&config.rootfs.diff_ids, &manifest.layers);
        let image = config.image(id.clone(), chain(&layers));
        let tags = tags.iter().filter_map(Reference::tagged).collect();
        let documents = vec![(id, content)];
        let image = Image { tags, ..image };
        Ok(Found { image, documents, layers, members: docker.layers, by_digest: false })
    }

    fn oci_image(&self, entry: &Descriptor, platform: &Platform) -> Result<Found, LoadError> {
        let (mut documents, mut next) = (Vec::new(), entry.clone());
        let manifest = loop {
            let (member, content) = self.blob(&next, MANIFEST_BYTES_MAX)?;
            let document =
                Document::parse(&content, &next.media_type).map_err(|e| self.unusable(&member, e))?;
            documents.push((next.digest.clone(), content));
            match document {
                Document::Manifest(manifest) => break manifest,
                Document::Index(index) if documents.len() <= INDEX_DEPTH_MAX => {
                    next = index.select(platform).map_err(|e| self.unusable(&member, e))?.clone();
                }
                Document::Index(_) => {
                    let reason = "indexes within indexes".to_owned();
                    return Err(self.unusable(&member, ManifestError::Malformed(reason)));
                }
            }
        };
        let (member, content) = self.blob(&manifest.config, CONFIG_BYTES_MAX)?;
        let config = read_config(&content, &manifest, platform).map_err(|e| self.unusable(&member, e))?;
        let layers = Wanted::all(&config.rootfs.diff_ids, &manifest.layers);
        let reference = name(entry).map(|name| self.reference(name)).transpose()?;
        let (tag, digest) = match &reference {
            Some(reference) => {
                (reference.tagged(), Some(format!("{}@{}", reference.repository(), entry.digest)))
            }
            None => (None, None),
        };
        let image = Image {
            tags: tag.into_iter().collect(),
            digests: digest.into_iter().collect(),
            manifests: documents.iter().map(|(digest, _)| digest.clone()).collect(),
            ..config.image(manifest.config.digest.clone(), chain(&layers))
        };
        documents.push((image.id.clone(), content));
        let members = manifest.layers.iter().map(|layer| member_of(&layer.digest)).collect();
        Ok(Found { image, documents, layers, members, by_digest: true })
    }

    fn load(&self, found: Found) -> Result<Image, LoadError> {
        let chain = found.image.layers.clone();
        self.ingest.claim(&chain)?;
        let unpacked = self.unpack_all(&found)?;
        for (number, verified) in unpacked.into_iter().enumerate() {
            let Some(verified) = verified else { continue };
            let diff_id = found.layers[number].diff_id.clone();
            let committed = commit_layer(&self.store, &self.ingest, &chain[..=number], diff_id, &verified);
            committed.map_err(|e| match e {
                CommitError::Store(e) => e.into(),
                CommitError::Unpack(source) => self.not_unpacked(&found.members[number], source),
            })?;
        }
        Ok(self.ingest.commit_image(self.store.sized(found.image)?, &found.documents)?)
    }

    /// Unpacks the layers that are missing, side by side.
    fn unpack_all(&self, found: &Found) -> Result<Vec<Option<Verified>>, LoadError> {
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(found.layers.iter().map(|_| Ok(None)).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for _ in 0..UNPACKERS_MAX.min(found.layers.len()) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(wanted) = found.layers.get(number) else { return };
                        let outcome = self.unpack(wanted, &found.members[number], found.by_digest);
                        if outcome.is_err() {
                            next.store(found.layers.len(), Ordering::Relaxed);
                        }
                        outcomes.lock().unwrap_or_else(PoisonError::into_inner)[number] = outcome;
                    }
                });
            }
        });
        outcomes.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
    }

    fn unpack(&self, wanted: &Wanted, member: &str, by_digest: bool) -> Result<Option<Verified>, LoadError> {
        if self.store.layer_path(&wanted.chain_id).exists() {
            return Ok(None);
        }
        let (blob, total) = self.member(member)?.ok_or_else(|| self.missing(member))?;
        let report = |phase, done| {
            let (image, layer) = (self.archive.display().to_string(), wanted.blob.digest.clone());
            // Nobody may be listening.
            let _ = self.store.0.progress.send(Progress { image, layer, phase, done, total });
        };
        report(Phase::Unpacking, 0);
        let directory = self.ingest.layer(&wanted.chain_id)?;
        let hashers =
            (if by_digest { wanted.blob.digest.hasher() } else { Hasher::sha256() }, wanted.diff_id.hasher());
        let (digest, outcome) = unpack(blob, hashers, &directory);
        let damaged = |expected: &Digest, found: Digest| {
            let (archive, member, expected) = (self.archive.clone(), member.to_owned(), expected.clone());
            LoadError::Digest { archive, member, expected, found }
        };
        if let Some(found) = digest.filter(|found| by_digest && *found != wanted.blob.digest) {
            return Err(damaged(&wanted.blob.digest, found));
        }
        let verified = outcome.map_err(|source| self.not_unpacked(member, source))?;
        if verified.diff_id != wanted.diff_id {
            return Err(damaged(&wanted.diff_id, verified.diff_id));
        }
        report(Phase::Done, total);
        Ok(Some(verified))
    }

    /// A blob of a layout, verified; and the name of its member.
    fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<(String, Vec<u8>), LoadError> {
        let member = member_of(&descriptor.digest);
        let content = self.required(&member, limit)?;
        let (expected, found) = (descriptor.digest.clone(), descriptor.digest.of_same(&content));
        if found != expected {
            return Err(LoadError::Digest { archive: self.archive.clone(), member, expected, found });
        }
        Ok((member, content))
    }

    fn required(&self, member: &str, limit: u64) -> Result<Vec<u8>, LoadError> {
        self.content(member, limit)?.ok_or_else(|| self.missing(member))
    }

    fn content(&self, member: &str, limit: u64) -> Result<Option<Vec<u8>>, LoadError> {
        let Some((input, size)) = self.member(member)? else { return Ok(None) };
        if size > limit {
            return Err(self.unusable(member, ManifestError::Malformed(format!("larger than {limit} bytes"))));
        }
        let mut content = Vec::new();
        input.take(limit).read_to_end(&mut content).map_err(|e| self.unreadable(e))?;
        Ok(Some(content))
    }

    fn member(&self, name: &str) -> Result<Option<Stream>, LoadError> {
        self.source.member(name).map_err(|e| self.unreadable(e))
    }

    fn parse<T: DeserializeOwned>(&self, member: &str, content: &[u8]) -> Result<T, LoadError> {
        serde_json::from_slice(content)
            .map_err(|e| self.unusable(member, ManifestError::Malformed(e.to_string())))
    }

    fn reference(&self, text: &str) -> Result<Reference, LoadError> {
        text.parse().map_err(|source| LoadError::Reference { archive: self.archive.clone(), source })
    }

    fn unusable(&self, member: &str, source: ManifestError) -> LoadError {
        LoadError::Document { archive: self.archive.clone(), member: member.to_owned(), source }
    }

    fn not_unpacked(&self, member: &str, source: UnpackError) -> LoadError {
        LoadError::Unpack { archive: self.archive.clone(), member: member.to_owned(), source }
    }

    fn missing(&self, member: &str) -> LoadError {
        LoadError::Missing { archive: self.archive.clone(), member: member.to_owned() }
    }

    fn unreadable(&self, source: io::Error) -> LoadError {
        LoadError::Read { archive: self.archive.clone(), source }
    }
}

/// The name an index gives an image. A bare tag, as skopeo writes it, names none: the repository is not known.
fn name(entry: &Descriptor) -> Option<&str> {
    let named = NAME_ANNOTATIONS.iter().find_map(|annotation| entry.annotations.get(*annotation));
    named.map(String::as_str).filter(|name| name.contains(['/', ':', '@']))
}

fn chain(layers: &[Wanted]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.chain_id.clone()).collect()
}

fn member_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
