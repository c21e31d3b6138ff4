//! Backup while the store works, restore, and what a restart keeps.

mod suite;

use std::{fs, path::Path, time::Duration};

use store::{Config, JUMP, Place, Store, Txn, Write, restore, verify};
use suite::{dump, put};

async fn directory(path: &Path) -> Store {
    Store::open(Config::new(Place::Directory(path.to_owned()))).await.expect("opens")
}

#[tokio::test]
async fn a_backup_of_a_working_store_is_restored_with_a_jump() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name);
    let store = directory(&path("data")).await;
    for number in 0..500 {
        put(&store, &format!("/registry/pods/{number}"), &"x".repeat(number * 10)).await;
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..500 {
                put(&store, &format!("/registry/pods/{number}"), "later").await;
            }
        }
    });
    let revision = store.backup(&path("saved")).await.expect("it is written");
    writer.await.expect("it goes on");
    let described = verify(&path("saved")).expect("it is whole");
    assert_eq!((described.revision, described.keys), (revision, 500));
    let expected = store.range("", store::Range { at: Some(revision), ..Default::default() }).expect("kept");
    let expected: Vec<_> =
        expected.entries.iter().map(|entry| (entry.key.to_string(), entry.mod_revision)).collect();
    store.close().await;

    restore(&path("saved"), &path("restored")).expect("into an empty directory");
    let restored = directory(&path("restored")).await;
    assert_eq!(restored.revision(), revision + JUMP);
    let held: Vec<_> = dump(&restored).into_iter().map(|(key, _, _, modified)| (key, modified)).collect();
    assert_eq!(held, expected);
    let told = restored.watch("/registry/", store.revision()).err().expect("an old watch is told 410");
    assert_eq!(told.oldest, revision + JUMP);
    let next = put(&restored, "/registry/pods/0", "new").await;
    assert_eq!(next, revision + JUMP + 1);
    restored.close().await;
    let again = directory(&path("restored")).await;
    assert_eq!(again.revision(), next);
    again.close().await;
}

#[tokio::test]
async fn a_backup_is_refused_where_it_would_destroy_something() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name);
    let store = directory(&path("data")).await;
    put(&store, "/registry/a", "1").await;
    store.backup(&path("saved")).await.expect("the name is free");
    let told = store.backup(&path("saved")).await.expect_err("the name is taken");
    assert!(told.to_string().contains("saved"), "{told}");
    let told = restore(&path("saved"), &path("data")).expect_err("the directory is not empty");
    assert!(told.to_string().contains("data"), "{told}");
    let whole = fs::read(path("saved")).expect("reads");
    for at in (0..whole.len()).step_by(5) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(path("damaged"), &damaged).expect("writes");
        let last = whole.len() - at <= 8;
        assert!(verify(&path("damaged")).is_err() || padding(&whole, at) || last, "byte {at}");
        fs::write(path("damaged"), &whole[..at]).expect("writes");
        assert!(verify(&path("damaged")).is_err(), "cut at {at}");
    }
    store.close().await;
}

/// Zeros between two frames, which hold nothing.
fn padding(whole: &[u8], at: usize) -> bool {
    whole[at] == 0 && whole[at..(at + 8).min(whole.len())].windows(4).any(|four| four == b"\xc1frm")
}

#[tokio::test]
async fn what_expired_while_the_store_was_down_gets_a_grace() {
    let folder = tempfile::tempdir().expect("a directory");
    let store = directory(folder.path()).await;
    let short = Write::create("/registry/events/old", "1").expiring(Duration::from_secs(1));
    store.commit(Txn::one(short)).await.expect("it is new");
    store.close().await;
    // Its time passes while nobody is there to delete it.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let store = directory(folder.path()).await;
    let mut watch = store.watch("/registry/events/", store.revision()).expect("kept");
    let short = Write::create("/registry/events/new", "1").expiring(Duration::from_millis(1));
    store.commit(Txn::one(short)).await.expect("it is new");
    let mut gone = Vec::new();
    while gone.is_empty() {
        let batch = watch.next().await.expect("open").expect("kept");
        gone.extend(batch.events.into_iter().filter(|event| event.entry.is_none()));
    }
    assert_eq!(gone[0].key(), "/registry/events/new", "the clock may have jumped: the old one stays a while");
    assert!(store.get("/registry/events/old").is_some());
    store.close().await;
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("reads").flatten();
    files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

#[tokio::test]
async fn the_directory_stays_small_and_a_watch_outlives_a_restart() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut config = Config::new(Place::Directory(folder.path().to_owned()));
    config.segment = 32 << 10;
    config.history.events = 20;
    let store: Store = Store::open(config.clone()).await.expect("opens");
    for number in 0..2000 {
        put(&store, &format!("/registry/pods/{}", number % 10), &"x".repeat(1000)).await;
    }
    // Live data, its snapshot and a part of the log of that size or of a segment's, the history, the current segment.
    let bound = 2 * 10 * 1100 + 20 * 1100 + 3 * (config.segment + config.segment / 8);
    let small = async {
        while size(folder.path()) > bound {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), small).await;
    assert!(waited.is_ok(), "{} bytes, {bound} expected, of 2 MB written", size(folder.path()));
    let revision = store.revision();
    store.close().await;
    let store: Store = Store::open(config).await.expect("opens");
    assert_eq!(store.revision(), revision);
    let mut watch = store.watch("/registry/", revision - 15).expect("the recent past is there");
    let batch = watch.try_next().expect("kept");
    assert_eq!(
        batch.events.iter().map(|event| event.revision).collect::<Vec<_>>(),
        Vec::from_iter(revision - 14..=revision)
    );
    assert!(batch.events.iter().all(|event| event.previous.is_some()));
    store.close().await;
}
