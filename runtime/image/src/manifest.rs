//! Manifests, indexes and image configurations, as registries and archives hold them.
//!
//! Both the image specification's and docker's schema 2 types are read; they differ in media types only. Unknown
//! fields are ignored, and `null` is the same as absent, since docker writes it so.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

/// What a manifest must not exceed, in bytes (distribution-spec: pushing manifests).
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// What an image configuration must not exceed, in bytes.
pub(crate) const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// overlayfs stacks no more lower layers.
pub(crate) const LAYERS_MAX: usize = 500;

/// Points at content by digest (image-spec: descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// One platform's image (image-spec: manifest.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Images of several platforms (image-spec: image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// What a reference leads to.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Why a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a field is missing or of a wrong type.
    #[error("not a manifest: {0}")]
    Malformed(String),
    /// Neither of the known kinds.
    #[error("media type {0:?} is no image manifest or index")]
    MediaType(String),
    /// The index has nothing for this machine.
    #[error("no image for {wanted}: offered are {offered}")]
    Platform {
        /// The machine's platform.
        wanted: String,
        /// What the index offers, comma-separated.
        offered: String,
    },
    /// The configuration does not fit the manifest.
    #[error("the image configuration lists {diff_ids} layers, the manifest {layers}")]
    LayerCount {
        /// Number of `rootfs.diff_ids`.
        diff_ids: usize,
        /// Number of `layers`.
        layers: usize,
    },
    /// More layers than overlayfs takes.
    #[error("{0} layers: overlayfs takes at most {LAYERS_MAX}")]
    TooManyLayers(usize),
}

impl Document {
    /// Reads a manifest or an index. `content_type` decides only where the document names no media type itself.
    pub(crate) fn parse(content: &[u8], content_type: &str) -> Result<Document, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            schema_version: u32,
            media_type: Option<String>,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            layers: Option<serde::de::IgnoredAny>,
        }
        let malformed = |e: serde_json::Error| ManifestError::Malformed(e.to_string());
        let kind: Kind = serde_json::from_slice(content).map_err(malformed)?;
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let media_type = kind.media_type.as_deref().unwrap_or(content_type);
        if kind.schema_version != 2 || media_type.starts_with(DOCKER_SCHEMA_1) {
            return Err(ManifestError::MediaType(format!("{media_type} (schema {})", kind.schema_version)));
        }
        // A document that could be read as both is refused: who signed one must not get the other (CVE-2021-41190).
        match (media_type, kind.manifests.is_some(), kind.layers.is_some()) {
            (_, true, true) => Err(ManifestError::Malformed("it has both manifests and layers".to_owned())),
            (OCI_INDEX | DOCKER_INDEX, _, _) | ("" | "application/json", true, false) => {
                serde_json::from_slice(content).map(Document::Index).map_err(malformed)
            }
            (OCI_MANIFEST | DOCKER_MANIFEST, _, _) | ("" | "application/json", false, true) => {
                serde_json::from_slice(content).map(Document::Manifest).map_err(malformed)
            }
            (other, _, _) => Err(ManifestError::MediaType(other.to_owned())),
        }
    }
}

impl Index {
    /// The entry that fits `platform` best: the nearest, and of equals the first.
    /// An entry without a platform fits only if it is the only one.
    pub(crate) fn select(&self, platform: &Platform) -> Result<&Descriptor, ManifestError> {
        if let [only] = self.manifests.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let images = || self.manifests.iter().filter_map(|entry| Some((entry, entry.platform.as_ref()?)));
        let fitting = images().filter_map(|(entry, offered)| Some((platform.distance(offered)?, entry)));
        fitting.min_by_key(|(distance, _)| *distance).map(|(_, entry)| entry).ok_or_else(|| {
            // Attestations are listed as unknown/unknown: nothing that a user could ask for.
            let offered = images().filter(|(_, offered)| offered.os != "unknown").map(|(_, p)| p.to_string());
            let offered = offered.collect::<Vec<_>>().join(", ");
            let offered = if offered.is_empty() { "none".to_owned() } else { offered };
            ManifestError::Platform { wanted: platform.to_string(), offered }
        })
    }
}

/// The image configuration document (image-spec: config.md).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct ConfigDocument {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) created: String,
    #[serde(flatten)]
    pub(crate) platform: Platform,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) config: ImageConfig,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) rootfs: RootFs,
}

/// The layers of an image, the lowest first, by the digest of their uncompressed tar.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) diff_ids: Vec<Digest>,
}

/// What an image says about the process to run (image-spec: config.md, `config`). Absent fields are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// `NAME=value`
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The command's first words.
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// The command's further words, or the whole of it without an entry point.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Working directory.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Paths that want a volume.
    #[serde(with = "set")]
    pub volumes: Vec<String>,
    /// `port[/protocol]`
    #[serde(with = "set")]
    pub exposed_ports: Vec<String>,
    /// Labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Signal that ends the container, e.g. `SIGTERM` or `15`; empty for the usual one.
    #[serde(deserialize_with = "null_is_default")]
    pub stop_signal: String,
}

/// A set, written as an object whose values are empty objects.
mod set {
    use super::{BTreeMap, Deserialize, Deserializer};
    use serde::Serializer;
    use serde::de::IgnoredAny;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
        let members: Option<BTreeMap<String, IgnoredAny>> = Option::deserialize(input)?;
        Ok(members.unwrap_or_default().into_keys().collect())
    }

    pub(super) fn serialize<S: Serializer>(members: &[String], output: S) -> Result<S::Ok, S::Error> {
        output.collect_map(members.iter().map(|member| (member, BTreeMap::<String, String>::new())))
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    input: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Names a stack of layers: the digest over the chain of their diff ids (image-spec: config.md#layer-chainid).
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests;
