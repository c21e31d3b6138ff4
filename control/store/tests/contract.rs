//! The contract suite on every backend.

mod suite;

use std::path::Path;

use store::{Config, Place, Store};
use suite::{etcd::Server, random::histories};
use tokio::runtime::Runtime;

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

#[tokio::test]
async fn etcd_keeps_the_contract() {
    let server = Server::start(&[]).await;
    let store = server.store().await;
    suite::contract(&store).await;
    store.close().await;
}

#[test]
fn random_histories_in_memory() {
    let runtime = Runtime::new().expect("a runtime");
    let store = runtime.block_on(open(Place::Memory));
    histories(&runtime, &store, 300);
}

#[test]
fn random_histories_in_a_directory() {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a directory");
    let store = runtime.block_on(directory(folder.path()));
    histories(&runtime, &store, 40);
    let before = suite::dump(&store);
    runtime.block_on(store.close());
    let again = runtime.block_on(directory(folder.path()));
    assert_eq!(suite::dump(&again), before);
}

#[test]
fn random_histories_in_etcd() {
    let runtime = Runtime::new().expect("a runtime");
    let server = runtime.block_on(Server::start(&[]));
    let store = runtime.block_on(server.store());
    histories(&runtime, &store, 25);
    let late = runtime.block_on(server.store());
    assert_eq!(suite::dump(&late), suite::dump(&store));
}
