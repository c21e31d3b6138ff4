//! Making images: a tree of files becomes a layer, layers and a configuration become an image, images become an OCI
//! layout, an OCI archive, a docker archive, or the storage of a registry. Same input, same digests.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Time of every file and image: 2023-11-14T22:13:20Z.
const TIME: u64 = 1_700_000_000;
const TIME_TEXT: &str = "2023-11-14T22:13:20Z";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a path of a tree is.
#[derive(Debug, Clone)]
enum Node {
    Folder,
    File(Vec<u8>),
    Link(String),
}

/// Files of one layer. Paths are relative to the image's root and taken as they are, bad ones included.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, (u32, Node)>,
}

impl Tree {
    /// A folder.
    pub fn folder(&mut self, path: &str, mode: u32) -> &mut Tree {
        self.put(path, mode, Node::Folder)
    }

    /// A regular file.
    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> &mut Tree {
        self.put(path, mode, Node::File(bytes.into()))
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Tree {
        self.put(path, 0o777, Node::Link(target.to_owned()))
    }

    fn put(&mut self, path: &str, mode: u32, node: Node) -> &mut Tree {
        self.nodes.insert(path.to_owned(), (mode, node));
        self
    }

    /// Whether a path is there.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path)
    }

    /// The tree as a tar archive.
    pub fn tar(&self) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, (mode, node)) in &self.nodes {
            let (kind, bytes): (_, &[u8]) = match node {
                Node::Folder => (EntryType::Directory, &[]),
                Node::File(bytes) => (EntryType::Regular, bytes),
                Node::Link(_) => (EntryType::Symlink, &[]),
            };
            let mut header = header(path, kind, *mode, bytes.len() as u64)?;
            if let Node::Link(target) = node {
                header.set_link_name_literal(target)?;
            }
            header.set_cksum();
            archive.append(&header, bytes)?;
        }
        archive.into_inner().context("tar")
    }
}

/// A header with the name as it is: `tar` itself refuses names such as `../x`, which tests need.
fn header(path: &str, kind: EntryType, mode: u32, size: u64) -> Result<Header> {
    let mut header = Header::new_gnu();
    let name = &mut header.as_old_mut().name;
    let field = name.get_mut(..path.len()).with_context(|| format!("{path}: longer than 100 bytes"))?;
    field.copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header.set_size(size);
    Ok(header)
}

/// Bytes known by their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Media type.
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// A blob of these bytes.
    #[must_use]
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Blob {
        Blob { media_type: media_type.to_owned(), digest: digest(&bytes), bytes }
    }

    fn json(media_type: &str, value: &Value) -> Blob {
        Blob::new(media_type, value.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// `sha256:…` of some bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// An image: what a manifest's digest stands for.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest.
    pub manifest: Blob,
    /// The configuration; its digest is the image's id.
    pub config: Blob,
    /// Layers, the lowest first.
    pub layers: Vec<Blob>,
}

impl Image {
    /// An image for this machine's platform. `run` is the `config` part of the image configuration: `Cmd`, `Env`, ….
    pub fn new(trees: &[&Tree], run: &Value) -> Result<Image> {
        Image::for_platform(trees, run, "linux", "amd64")
    }

    /// An image for any platform.
    pub fn for_platform(trees: &[&Tree], run: &Value, os: &str, architecture: &str) -> Result<Image> {
        let tars = trees.iter().map(|tree| tree.tar()).collect::<Result<Vec<_>>>()?;
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
        let layers = tars.iter().map(|tar| Ok(Blob::new(LAYER, gzip(tar)?))).collect::<Result<Vec<_>>>()?;
        let config = json!({
            "created": TIME_TEXT, "os": os, "architecture": architecture, "config": run,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": vec![json!({ "created": TIME_TEXT, "created_by": "lab" }); layers.len()],
        });
        let config = Blob::json(CONFIG, &config);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        Ok(Image { manifest: Blob::json(MANIFEST, &manifest), config, layers })
    }

    /// All blobs, the manifest first.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        [&self.manifest, &self.config].into_iter().chain(&self.layers)
    }
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish().context("gzip")
}

/// Writes images, by reference, as an OCI layout folder.
pub fn write_layout(images: &[(&str, &Image)], folder: &Path) -> Result<()> {
    for (path, bytes) in layout(images) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Writes images, by reference, as one OCI archive.
pub fn write_archive(images: &[(&str, &Image)], file: &Path) -> Result<()> {
    let mut tree = Tree::default();
    for (path, bytes) in layout(images) {
        tree.file(&path, 0o644, bytes);
    }
    fs::write(file, tree.tar()?).with_context(|| file.display().to_string())
}

/// Writes images, by reference, as `docker save` does.
pub fn write_docker_archive(images: &[(&str, &Image)], file: &Path) -> Result<()> {
    let mut tree = Tree::default();
    let mut manifest = Vec::new();
    for (reference, image) in images {
        let hex = |blob: &Blob| blob.digest.trim_start_matches("sha256:").to_owned();
        let config = format!("{}.json", hex(&image.config));
        let layers: Vec<String> = image.layers.iter().map(|l| format!("{}.tar.gz", hex(l))).collect();
        tree.file(&config, 0o644, image.config.bytes.clone());
        for (path, layer) in layers.iter().zip(&image.layers) {
            tree.file(path, 0o644, layer.bytes.clone());
        }
        manifest.push(json!({ "Config": config, "RepoTags": [reference], "Layers": layers }));
    }
    tree.file("manifest.json", 0o644, Value::from(manifest).to_string());
    fs::write(file, tree.tar()?).with_context(|| file.display().to_string())
}

fn layout(images: &[(&str, &Image)]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut manifests = Vec::new();
    for (reference, image) in images {
        for blob in image.blobs() {
            files.insert(format!("blobs/{}", blob.digest.replace(':', "/")), blob.bytes.clone());
        }
        let mut descriptor = image.manifest.descriptor();
        let tag = reference.rsplit(':').next().unwrap_or_default();
        descriptor["annotations"] =
            json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag });
        manifests.push(descriptor);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    files
}

/// Writes images, by `repository:tag`, the way Debian's docker-registry stores what was pushed to it.
pub fn write_registry_storage(images: &[(&str, &Image)], folder: &Path) -> Result<()> {
    let root = folder.join("docker/registry/v2");
    let write = |path: String, bytes: &[u8]| -> Result<()> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&root))?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    };
    for (reference, image) in images {
        let (repository, tag) = reference.rsplit_once(':').with_context(|| format!("{reference}: no tag"))?;
        let home = format!("repositories/{repository}");
        for blob in image.blobs() {
            let hex = blob.digest.trim_start_matches("sha256:");
            write(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), &blob.bytes)?;
            write(format!("{home}/_layers/sha256/{hex}/link"), blob.digest.as_bytes())?;
        }
        let digest = &image.manifest.digest;
        let hex = digest.trim_start_matches("sha256:");
        write(format!("{home}/_manifests/revisions/sha256/{hex}/link"), digest.as_bytes())?;
        write(format!("{home}/_manifests/tags/{tag}/current/link"), digest.as_bytes())?;
        write(format!("{home}/_manifests/tags/{tag}/index/sha256/{hex}/link"), digest.as_bytes())?;
    }
    Ok(())
}

/// A manifest list of images for several platforms.
#[must_use]
pub fn index(images: &[(&str, &str, &Image)]) -> Blob {
    let entry = |(os, architecture, image): &(&str, &str, &Image)| {
        let mut descriptor = image.manifest.descriptor();
        descriptor["platform"] = json!({ "os": os, "architecture": architecture });
        descriptor
    };
    let manifests: Vec<Value> = images.iter().map(entry).collect();
    Blob::json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tree_is_the_same_image() {
        let mut tree = Tree::default();
        tree.folder("etc", 0o755).file("etc/motd", 0o644, "hello").link("motd", "etc/motd");
        let image = || Image::new(&[&tree], &json!({ "Cmd": ["sh"] })).unwrap();
        assert_eq!(image().manifest, image().manifest);
        assert_eq!(image().blobs().count(), 3);
    }

    #[test]
    fn bad_names_reach_the_archive() {
        let mut tree = Tree::default();
        tree.file("../escape", 0o644, "x");
        let bytes = tree.tar().unwrap();
        assert!(bytes.starts_with(b"../escape\0"));
    }
}
