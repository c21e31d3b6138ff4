//! The contract suite on every backend.

mod suite;

use std::path::Path;

use store::{Config, Place, Store};

async fn open(place: Place) -> Store {
    Store::open(Config::new(place)).await.expect("opens")
}

async fn directory(path: &Path) -> Store {
    open(Place::Directory(path.to_owned())).await
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let store = open(Place::Memory).await;
    suite::contract(&store).await;
    store.close().await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = directory(folder.path()).await;
    suite::contract(&store).await;
    let (revision, everything) = (store.revision(), suite::dump(&store));
    store.close().await;
    let store = directory(folder.path()).await;
    assert_eq!((store.revision(), suite::dump(&store)), (revision, everything), "a restart changes nothing");
    suite::put(&store, "/registry/after/restart", "1").await;
    store.close().await;
}
