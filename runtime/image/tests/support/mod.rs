//! Images made on the spot, and registries to serve them.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod server;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use image::{Digest, Patience, Platform, Registries, Snapshots, Store};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A store of its own, removed at the end.
pub struct Home {
    pub directory: tempfile::TempDir,
    pub store: Store,
    pub snapshots: Snapshots,
}

impl Home {
    pub fn new() -> Home {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(&directory.path().join("images")).expect("a new store");
        let snapshots = Snapshots::open(&directory.path().join("snapshots"), &store).expect("new snapshots");
        Home { directory, store, snapshots }
    }

    /// Names in a directory of the store.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.store.root().join(directory)).expect("a store's directory");
        let mut names: Vec<_> =
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Nothing is under way, and no image or layer is here, once whole layers without an image are collected.
    pub fn assert_empty(&self) {
        Store::open(self.store.root()).expect("the store");
        for directory in ["ingest", "layers", "blobs/sha256", "holds"] {
            assert_eq!(self.names(directory), Vec::<String>::new(), "{directory}");
        }
    }
}

/// Short times, for tests that wait for them.
pub fn impatient() -> Patience {
    use std::time::Duration;
    Patience {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(600),
        attempts: 3,
        pause: Duration::from_millis(10),
    }
}

pub fn registries() -> Registries {
    Registries::patient(Vec::new(), None, impatient())
}

pub fn amd64() -> Platform {
    "linux/amd64".parse().unwrap_or_else(|never| match never {})
}

/// The whole chain of an error's causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A tar of plain files.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        builder.append_data(&mut header, path, *content).expect("an entry");
    }
    builder.into_inner().expect("a tar")
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

pub fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Bytes that do not compress.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

/// A layer: its blob, and the digest of its tar.
#[derive(Clone)]
pub struct Layer {
    pub blob: Vec<u8>,
    pub diff_id: Digest,
    pub media_type: &'static str,
}

impl Layer {
    pub fn gzip(tar: &[u8]) -> Layer {
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        Layer { blob: gzip(tar), diff_id: Digest::of(tar), media_type }
    }

    pub fn zstd(tar: &[u8]) -> Layer {
        let media_type = "application/vnd.oci.image.layer.v1.tar+zstd";
        Layer { blob: zstd(tar), diff_id: Digest::of(tar), media_type }
    }

    pub fn plain(tar: &[u8]) -> Layer {
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        Layer { blob: tar.to_vec(), diff_id: Digest::of(tar), media_type }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.blob)
    }
}

/// What a registry or a layout holds.
#[derive(Default, Clone)]
pub struct Content {
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    /// Media type and manifest, by tag and by digest.
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
}

impl Content {
    /// Adds an image for a platform; returns its descriptor.
    pub fn image(&mut self, architecture: &str, layers: &[Layer]) -> serde_json::Value {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/hello"], "User": "1000"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(config.to_string().into_bytes());
        let descriptors: Vec<_> = layers
            .iter()
            .map(|layer| {
                let (digest, size) = self.blob(layer.blob.clone());
                serde_json::json!({"mediaType": layer.media_type, "digest": digest.as_str(), "size": size})
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0.as_str(), "size": config.1},
        });
        let bytes = manifest.to_string().into_bytes();
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        self.manifests.insert(digest.to_string(), (MANIFEST.to_owned(), bytes));
        let platform = serde_json::json!({"os": "linux", "architecture": architecture});
        serde_json::json!({"mediaType": MANIFEST, "digest": digest.as_str(), "size": size, "platform": platform})
    }

    /// Adds an index of images; returns its digest.
    pub fn index(&mut self, images: &[serde_json::Value]) -> Digest {
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        let bytes = index.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        self.manifests.insert(digest.to_string(), (INDEX.to_owned(), bytes));
        digest
    }

    pub fn tag(&mut self, tag: &str, digest: &str) {
        let manifest = self.manifests[digest].clone();
        self.manifests.insert(tag.to_owned(), manifest);
    }

    fn blob(&mut self, blob: Vec<u8>) -> (Digest, usize) {
        let (digest, size) = (Digest::of(&blob), blob.len());
        self.blobs.insert(digest.clone(), blob);
        (digest, size)
    }

    /// One image under the tag `latest`.
    pub fn single(layers: &[Layer]) -> Content {
        let mut content = Content::default();
        let descriptor = content.image("amd64", layers);
        content.tag("latest", descriptor["digest"].as_str().expect("a digest"));
        content
    }

    /// Writes the image specification's layout, whose index lists `entries`.
    pub fn layout(&self, directory: &Path, entries: &[serde_json::Value]) {
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a directory");
        for (digest, blob) in &self.blobs {
            std::fs::write(blobs.join(digest.hex()), blob).expect("a blob");
        }
        for (name, (_, manifest)) in &self.manifests {
            if let Ok(digest) = name.parse::<Digest>() {
                std::fs::write(blobs.join(digest.hex()), manifest).expect("a manifest");
            }
        }
        std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        std::fs::write(directory.join("index.json"), index.to_string()).expect("an index");
    }
}

/// Debian's `docker-registry`, for as long as this lives.
pub struct DockerRegistry {
    child: Child,
    pub port: u16,
    pub directory: tempfile::TempDir,
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl DockerRegistry {
    /// Starts one; `extra` goes into its configuration below `http:` or beside it.
    pub fn start(http: &str, beside: &str) -> DockerRegistry {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let storage = directory.path().join("storage");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}\n{beside}\n",
            storage.display(),
        );
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).expect("a configuration");
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        let child = Command::new("docker-registry")
            .args(["serve".as_ref(), file.as_os_str()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry runs (apt-get install docker-registry)");
        let mut registry = DockerRegistry { child, port, directory };
        registry.wait();
        registry
    }

    fn wait(&mut self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().expect("a child");
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && std::time::Instant::now() < deadline, "docker-registry: {log}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

pub fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy"])
        .args(arguments)
        .output()
        .expect("skopeo runs (apt-get install skopeo)");
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Reads a file as a container would see it.
pub fn read(store: &Store, image: &str, path: &str) -> Option<Vec<u8>> {
    let layers: Vec<PathBuf> = store.layers(image).expect("layers");
    layers.iter().find_map(|layer| std::fs::read(layer.join(path)).ok())
}
