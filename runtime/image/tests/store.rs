//! References, removal, snapshots, and death between any two writes.

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use image::{Image, Snapshots, Store, StoreError};
use support::*;

/// Loads an image made of these layers under these names.
async fn add(home: &Home, names: &[&str], layers: &[Layer]) -> Image {
    let directory = tempfile::tempdir().expect("a temporary directory");
    layout(directory.path(), names, layers);
    home.store.load(directory.path(), &amd64()).await.unwrap_or_else(|e| panic!("{}", chain(&e))).remove(0)
}

fn layout(directory: &std::path::Path, names: &[&str], layers: &[Layer]) {
    let mut content = Content::default();
    let descriptor = content.image("amd64", layers);
    let named = names.iter().map(|name| {
        let mut descriptor = descriptor.clone();
        descriptor["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
        descriptor
    });
    content.layout(directory, &named.collect::<Vec<_>>());
}

fn layer(name: &str) -> Layer {
    Layer::gzip(&tar_of(&[(name, name.as_bytes())]))
}

#[tokio::test]
async fn references_come_and_go() {
    let home = Home::new();
    let store = &home.store;
    let first = add(&home, &["app:1", "app:2", "r.example/app:1"], &[layer("a")]).await;
    let id = first.id.to_string();
    let full = store.get(&id).unwrap().unwrap();
    assert_eq!(full.tags, ["docker.io/library/app:1", "docker.io/library/app:2", "r.example/app:1"]);
    assert_eq!(full.digests.len(), 2);
    for name in
        ["app:1", "library/app:2", "docker.io/library/app:2", &id, &id[7..], &id[7..19], &full.digests[0]]
    {
        assert_eq!(store.get(name).unwrap().map(|image| image.id), Some(first.id.clone()), "{name}");
    }
    for name in ["app", "app:3", "r.example/app", "0123456789", "", "No Such"] {
        assert_eq!(store.get(name).unwrap(), None, "{name}");
        assert!(!store.remove(name).unwrap(), "{name}");
    }
    // A tag goes to another image.
    let second = add(&home, &["app:2"], &[layer("a"), layer("b")]).await;
    assert_eq!(store.get("app:2").unwrap().unwrap().id, second.id);
    assert_eq!(store.get(&id).unwrap().unwrap().tags, ["docker.io/library/app:1", "r.example/app:1"]);
    assert!(store.remove("app:1").unwrap());
    // With the repository's last tag its digest goes.
    let left = store.get(&id).unwrap().unwrap();
    assert_eq!((left.tags.as_slice(), left.digests.len()), (["r.example/app:1".to_owned()].as_slice(), 1));
    assert!(store.remove("r.example/app:1").unwrap());
    assert_eq!(store.get(&id).unwrap(), None);
    assert_eq!(home.names("layers").len(), 2, "the second image has both");
    store.set_pinned("app:2", true).unwrap();
    assert!(Store::open(store.root()).unwrap().get("app:2").unwrap().unwrap().pinned);
    assert!(store.usage().unwrap().bytes > 0 && store.usage().unwrap().inodes >= 6);
    assert!(store.remove(second.id.as_str()).unwrap());
    home.assert_empty();
}

#[tokio::test]
async fn snapshots_hold_their_layers() {
    let home = Home::new();
    let image = add(&home, &["app:latest"], &[layer("a"), layer("b")]).await;
    let root = home.store.layers(image.id.as_str()).unwrap()[0].clone();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o751)).unwrap();
    let snapshot = home.snapshots.prepare("c1", "app").unwrap();
    assert_eq!(snapshot.lower, home.store.layers("app").unwrap());
    assert!(snapshot.lower[0].join("b").exists() && snapshot.lower[1].join("a").exists());
    assert_eq!(snapshot.upper.metadata().unwrap().mode() & 0o7777, 0o751);
    assert_eq!(snapshot.work.parent(), snapshot.upper.parent());
    std::fs::write(snapshot.upper.join("written"), [1; 10_000]).unwrap();
    assert!(home.snapshots.usage("c1").unwrap().bytes >= 10_000);
    let view = home.snapshots.view("v1", "app").unwrap();
    assert_eq!(view, snapshot.lower);
    assert_eq!(home.snapshots.list().unwrap(), ["c1", "v1"]);

    assert!(home.store.remove("app").unwrap());
    assert_eq!(home.store.list().unwrap(), []);
    assert!(snapshot.lower[0].join("b").exists(), "the snapshot still needs it");
    // Another process, and asking again.
    let again =
        Snapshots::open(&home.directory.path().join("snapshots"), &Store::open(home.store.root()).unwrap());
    assert_eq!(again.unwrap().prepare("c1", "app").unwrap(), snapshot);
    assert_eq!(home.snapshots.get("c1").unwrap(), Some(snapshot.clone()));

    home.snapshots.remove("c1").unwrap();
    assert!(snapshot.lower[0].join("b").exists(), "the view still needs it");
    home.snapshots.remove("v1").unwrap();
    home.snapshots.remove("v1").unwrap();
    home.assert_empty();
    assert!(matches!(home.snapshots.prepare("c2", "app"), Err(StoreError::NotFound(_))));
    assert_eq!(home.snapshots.list().unwrap(), Vec::<String>::new());
}

#[test]
fn a_damaged_index_is_named() {
    let home = Home::new();
    std::fs::write(home.store.root().join("index.json"), "{").unwrap();
    let error = home.store.list().unwrap_err();
    assert!(error.to_string().contains("index.json is damaged"), "{error}");
    std::fs::write(home.store.root().join("index.json"), r#"{"version":9,"images":{}}"#).unwrap();
    assert!(matches!(home.store.list(), Err(StoreError::Version { found: 9, .. })));
}

const VICTIM: &str = "CLEAT_TEST_VICTIM";

/// Runs in a process of its own, which a crash point kills: load, snapshot, removal.
#[tokio::test]
async fn victim() {
    let Some(root) = std::env::var_os(VICTIM) else { return };
    let root = std::path::PathBuf::from(root);
    let store = Store::open(&root.join("images")).unwrap();
    let snapshots = Snapshots::open(&root.join("snapshots"), &store).unwrap();
    store.load(&root.join("layout"), &amd64()).await.unwrap();
    snapshots.prepare("c1", "app").unwrap();
    store.remove("app").unwrap();
    snapshots.remove("c1").unwrap();
}

#[tokio::test]
async fn death_at_any_point_is_repaired() {
    let points = [
        "layer-built",
        "layer-committed",
        "documents-written",
        "image-committed",
        "snapshot-held",
        "image-removed",
        "snapshot-removed",
        "snapshot-released",
    ];
    for point in points {
        let home = Home::new();
        let root = home.directory.path();
        let layers = [layer("a"), layer("b")];
        layout(&root.join("layout"), &["app:latest"], &layers);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim"])
            .env(VICTIM, root)
            .env(linux::crash::VARIABLE, point)
            .output()
            .unwrap()
            .status;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(9), "{point} is reached: {status}");
        // The next start sees all or nothing of each step.
        let store = Store::open(&root.join("images")).unwrap();
        assert_eq!(home.names("ingest"), Vec::<String>::new(), "{point}");
        for image in store.list().unwrap() {
            assert_eq!(read(&store, image.id.as_str(), "a").as_deref(), Some(b"a".as_slice()), "{point}");
        }
        if let Some(snapshot) = home.snapshots.get("c1").unwrap() {
            assert!(snapshot.lower[0].join("b").exists(), "{point}");
        }
        // And goes on from there.
        store.load(&root.join("layout"), &amd64()).await.unwrap_or_else(|e| panic!("{point}: {}", chain(&e)));
        home.snapshots.prepare("c1", "app").unwrap();
        store.remove("app").unwrap();
        for owner in home.snapshots.list().unwrap() {
            home.snapshots.remove(&owner).unwrap();
        }
        home.assert_empty();
        assert_eq!(std::fs::read_dir(root.join("snapshots")).unwrap().count(), 0, "{point}");
    }
}

/// A full disk is a small tmpfs, in a mount namespace of this thread.
#[test]
fn a_full_disk_is_named_and_left_as_it_was() {
    let outcome = std::thread::spawn(|| {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        linux::fork::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        let big = Layer::gzip(&tar_of(&[("big", &noise(3 << 20, 5))]));
        layout(&directory.path().join("layout"), &["app:latest"], &[layer("small"), big]);
        let store = Store::open(&disk.join("images")).unwrap();
        // Its threads are made here, and so in this namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(store.load(&directory.path().join("layout"), &amd64())).unwrap_err();
        assert!(chain(&error).contains("no space left for entry \"big\""), "{}", chain(&error));
        drop(runtime);
        Store::open(store.root()).unwrap();
        for empty in ["ingest", "layers", "blobs/sha256"] {
            assert_eq!(std::fs::read_dir(store.root().join(empty)).unwrap().count(), 0, "{empty}");
        }
        rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
    outcome.join().unwrap();
}
