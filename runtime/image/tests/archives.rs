//! Archives made by skopeo, and damaged ones.

mod support;

use std::path::Path;

use image::{Image, LoadError};
use support::*;

async fn load(home: &Home, archive: &Path) -> Result<Vec<Image>, LoadError> {
    home.store.load(archive, &amd64()).await
}

fn content() -> Content {
    let base = Layer::gzip(&tar_of(&[("bin/hello", b"hello"), ("etc/gone", b"")]));
    Content::single(&[base, Layer::plain(&tar_of(&[("etc/.wh.gone", b""), ("large", &noise(700_000, 1))]))])
}

fn layout(directory: &Path) -> String {
    let content = content();
    let (media_type, manifest) = &content.manifests["latest"];
    let digest = image::Digest::of(manifest);
    let entry =
        serde_json::json!({"mediaType": media_type, "digest": digest.as_str(), "size": manifest.len()});
    content.layout(directory, &[entry]);
    format!("oci:{}", directory.display())
}

#[tokio::test]
async fn archives_of_every_kind() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    let source = layout(&path("layout"));
    let docker = format!("docker-archive:{}:team/app:v1", path("docker.tar").display());
    skopeo(&["copy", &source, &docker]);
    skopeo(&["copy", &source, &format!("oci-archive:{}:r.example/app:v2", path("oci.tar").display())]);
    skopeo(&["copy", &source, &format!("oci-archive:{}:v3", path("tagged.tar").display())]);
    for (name, compress) in [("docker.tar.gz", gzip as fn(&[u8]) -> Vec<u8>), ("docker.tar.zst", zstd)] {
        std::fs::write(path(name), compress(&std::fs::read(path("docker.tar")).unwrap())).unwrap();
    }
    let table: [(&str, &[&str], bool); 6] = [
        ("docker.tar", &["docker.io/team/app:v1"], false),
        ("docker.tar.gz", &["docker.io/team/app:v1"], false),
        ("docker.tar.zst", &["docker.io/team/app:v1"], false),
        ("oci.tar", &["r.example/app:v2"], true),
        ("tagged.tar", &[], false),
        ("layout", &[], false),
    ];
    for (name, tags, digest) in table {
        let home = Home::new();
        let images = load(&home, &path(name)).await.unwrap_or_else(|e| panic!("{name}: {}", chain(&e)));
        assert_eq!(images.len(), 1, "{name}");
        assert_eq!(
            (images[0].tags.as_slice(), !images[0].digests.is_empty()),
            (&tags.iter().map(|&t| t.to_owned()).collect::<Vec<_>>()[..], digest),
            "{name}"
        );
        let id = images[0].id.to_string();
        assert_eq!(read(&home.store, &id, "large"), Some(noise(700_000, 1)), "{name}");
        assert_eq!(home.names("ingest"), Vec::<String>::new());
        // Once more: nothing new.
        let again = load(&home, &path(name)).await.unwrap();
        assert_eq!((&again[0].id, home.store.list().unwrap().len()), (&images[0].id, 1));
        assert!(home.store.remove(&id).unwrap());
        home.assert_empty();
    }
}

#[tokio::test]
async fn a_pipe_will_do() {
    let files = tempfile::tempdir().unwrap();
    let (archive, pipe) = (files.path().join("a.tar"), files.path().join("pipe"));
    let source = layout(&files.path().join("layout"));
    skopeo(&["copy", &source, &format!("docker-archive:{}:app:1", archive.display())]);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || std::fs::write(pipe, std::fs::read(archive).unwrap()).unwrap())
    };
    let home = Home::new();
    let images = load(&home, &pipe).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    writer.join().unwrap();
    assert_eq!(images[0].tags, ["docker.io/library/app:1"]);
}

#[tokio::test]
async fn several_images_and_platforms_in_one_layout() {
    let directory = tempfile::tempdir().unwrap();
    let mut content = Content::default();
    let base = Layer::gzip(&tar_of(&[("bin/hello", b"hello")]));
    let named = |mut descriptor: serde_json::Value, name: &str| {
        descriptor["annotations"] = serde_json::json!({"io.containerd.image.name": name});
        descriptor
    };
    let platforms: Vec<_> = ["arm64", "amd64"]
        .map(|a| content.image(a, &[base.clone(), Layer::gzip(&tar_of(&[("arch", a.as_bytes())]))]))
        .to_vec();
    let index = content.index(&platforms);
    let size = content.manifests[index.as_str()].1.len();
    let both = serde_json::json!({"mediaType": INDEX, "digest": index.as_str(), "size": size});
    let single = content.image("amd64", &[base]);
    content.layout(directory.path(), &[named(both, "r.example/both:1"), named(single, "r.example/single:1")]);
    let home = Home::new();
    let images = load(&home, directory.path()).await.unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(images.len(), 2);
    assert_eq!(read(&home.store, "r.example/both:1", "arch").as_deref(), Some(b"amd64".as_slice()));
    assert_eq!(home.names("layers").len(), 2, "the base is shared");
    // An index of platforms without names is one image.
    let plain = tempfile::tempdir().unwrap();
    content.layout(plain.path(), &platforms);
    assert_eq!(load(&home, plain.path()).await.unwrap()[0].id, images[0].id);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    layout(&path("layout"));
    let large = Layer::plain(&tar_of(&[("etc/.wh.gone", b""), ("large", &noise(700_000, 1))])).digest();
    let blob = path("layout/blobs/sha256").join(large.hex());
    let mut damaged = std::fs::read(&blob).unwrap();
    damaged[5000] ^= 1;
    std::fs::write(&blob, &damaged).unwrap();
    std::fs::write(path("text"), b"hello").unwrap();
    std::fs::write(path("other.tar"), tar_of(&[("hello", b"x")])).unwrap();
    let docker = br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l.tar"]}]"#;
    std::fs::write(path("lacking.tar"), tar_of(&[("manifest.json", docker)])).unwrap();
    let config = br#"{"os":"linux","architecture":"arm64","rootfs":{"diff_ids":[]}}"#;
    let empty = br#"[{"Config":"c.json","RepoTags":null,"Layers":[]}]"#;
    std::fs::write(path("arm.tar"), tar_of(&[("manifest.json", empty), ("c.json", config)])).unwrap();
    let table = [
        ("layout", "is damaged: its digest is"),
        ("text", "is no tar archive"),
        ("other.tar", "is no image archive"),
        ("lacking.tar", "c.json is missing"),
        ("arm.tar", "no image for linux/amd64: offered are linux/arm64"),
        ("absent.tar", "cannot read"),
    ];
    let home = Home::new();
    for (name, text) in table {
        let error = load(&home, &path(name)).await.unwrap_err();
        assert!(chain(&error).contains(text), "{name}: {}", chain(&error));
        assert!(chain(&error).contains(&path(name).display().to_string()), "{}", chain(&error));
        home.assert_empty();
    }
}
