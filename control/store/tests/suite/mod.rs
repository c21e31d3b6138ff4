//! The contract of a store: plain functions over any backend. Each uses keys of its own, so that they may run side
//! by side on one store.
#![allow(dead_code)]

pub(crate) mod etcd;
pub(crate) mod random;

use std::{sync::Arc, time::Duration};

use store::{CommitError, Entry, Expect, Op, Range, Store, Txn, Write};

/// Runs every clause of the contract on one store.
pub(crate) async fn contract(store: &Store) {
    create_update_delete(store).await;
    conflicts(store).await;
    transactions_are_whole(store).await;
    pages_are_consistent(store).await;
    watches_see_everything_once(store).await;
    concurrent_updates_lose_nothing(store).await;
    what_expires_is_deleted(store).await;
    compaction_is_told(store).await;
}

pub(crate) async fn put(store: &Store, key: &str, value: &str) -> i64 {
    let op = Op::Put { value: value.to_owned().into(), ttl: None };
    commit(store, Write { key: key.to_owned(), expect: Expect::Any, op }).await
}

async fn commit(store: &Store, write: Write) -> i64 {
    store.commit(Txn::one(write)).await.expect("the write is fine")
}

fn names(store: &Store, prefix: &str, range: Range<'_>) -> Vec<String> {
    let page = store.range(prefix, range).expect("the revision is kept");
    page.entries
        .iter()
        .map(|entry| format!("{}={}", &entry.key[prefix.len()..], String::from_utf8_lossy(&entry.value)))
        .collect()
}

async fn create_update_delete(store: &Store) {
    let key = "/registry/life/a";
    let created = commit(store, Write::create(key, "1")).await;
    assert_eq!(store.revision().max(created), store.revision(), "what was acknowledged is visible");
    let entry = store.get(key).expect("was created");
    assert_eq!((entry.create_revision, entry.mod_revision, &entry.value[..]), (created, created, &b"1"[..]));
    let updated = commit(store, Write::update(key, "2", created)).await;
    let entry = store.get(key).expect("was updated");
    assert_eq!((entry.create_revision, entry.mod_revision, &entry.value[..]), (created, updated, &b"2"[..]));
    let deleted = commit(store, Write::delete(key, updated)).await;
    assert!(created < updated && updated < deleted);
    assert!(store.get(key).is_none());
    let then = store.get_at(key, created).expect("kept").expect("was there");
    assert_eq!(&then.value[..], b"1");
    assert!(store.get_at(key, created - 1).expect("kept").is_none());
    let again = commit(store, Write::create(key, "3")).await;
    assert_eq!(store.get(key).expect("is back").create_revision, again);
}

async fn conflicts(store: &Store) {
    let key = "/registry/conflict/a";
    let first = commit(store, Write::create(key, "1")).await;
    let second = commit(store, Write::update(key, "2", first)).await;
    for write in [
        Write::create(key, "x"),
        Write::update(key, "x", first),
        Write::delete(key, first),
        Write::check(key, Expect::Absent),
        Write::check(key, Expect::Revision(first)),
    ] {
        match store.commit(Txn::one(write)).await {
            Err(CommitError::Conflict { key: at, current: Some(current) }) => {
                assert_eq!((&*at, current.mod_revision, &current.value[..]), (key, second, &b"2"[..]));
            }
            other => panic!("expected a conflict: {other:?}"),
        }
    }
    let missing = Txn::one(Write::update("/registry/conflict/b", "x", first));
    assert!(matches!(store.commit(missing).await, Err(CommitError::Conflict { current: None, .. })));
    let nothing = commit(store, Write::check(key, Expect::Revision(second))).await;
    assert!(nothing >= second);
}

async fn transactions_are_whole(store: &Store) {
    let prefix = "/registry/whole/";
    let key = |name: &str| format!("{prefix}{name}");
    let both = vec![Write::create(key("a"), "1"), Write::create(key("b"), "1")];
    let revision = store.commit(Txn { writes: both }).await.expect("nothing stands against it");
    let held = store.range(prefix, Range::default()).expect("now is kept");
    assert!(held.entries.iter().all(|entry| entry.mod_revision == revision), "{:?}", held.entries);
    let half = vec![Write::create(key("c"), "1"), Write::create(key("a"), "2")];
    assert!(
        matches!(store.commit(Txn { writes: half }).await, Err(CommitError::Conflict { key: at, .. }) if at == key("a"))
    );
    assert_eq!(names(store, prefix, Range::default()), ["a=1", "b=1"]);
    let twice = vec![Write::create(key("d"), "1"), Write::check(key("d"), Expect::Absent)];
    assert!(matches!(store.commit(Txn { writes: twice }).await, Err(CommitError::Duplicate { .. })));
    let absent = Write { key: key("none"), expect: Expect::Any, op: Op::Delete };
    let mut watch = store.watch(prefix, revision).expect("kept");
    commit(store, absent).await;
    assert!(watch.try_next().expect("kept").events.is_empty(), "deleting nothing makes no event");
}

async fn pages_are_consistent(store: &Store) {
    let prefix = "/registry/pages/";
    for name in ["b", "d", "f", "h"] {
        put(store, &format!("{prefix}{name}"), "1").await;
    }
    put(store, "/registry/pages0", "outside").await;
    let first = store.range(prefix, Range { limit: Some(2), ..Range::default() }).expect("now is kept");
    assert_eq!((first.entries.len(), first.remaining), (2, 2));
    let last = first.entries[1].key.clone();
    for name in ["a", "e", "i"] {
        put(store, &format!("{prefix}{name}"), "2").await;
    }
    put(store, &format!("{prefix}f"), "2").await;
    let gone = store.get(&format!("{prefix}h")).expect("is there").mod_revision;
    commit(store, Write::delete(format!("{prefix}h"), gone)).await;
    let at = Some(first.revision);
    let rest = Range { after: Some(&last), limit: Some(2), at };
    assert_eq!(names(store, prefix, rest), ["f=1", "h=1"]);
    assert_eq!(names(store, prefix, Range { at, ..Range::default() }), ["b=1", "d=1", "f=1", "h=1"]);
    let now = ["a=2", "b=1", "d=1", "e=2", "f=2", "i=2"];
    assert_eq!(names(store, prefix, Range::default()), now);
}

async fn watches_see_everything_once(store: &Store) {
    let prefix = "/registry/watch/";
    let start = store.revision();
    let mut late = store.watch(prefix, start).expect("kept");
    let mut seen = Vec::new();
    let writes = async {
        for round in 0..50 {
            put(store, &format!("{prefix}{}", round % 7), &round.to_string()).await;
            put(store, "/registry/elsewhere/x", "1").await;
        }
        let held = store.get(&format!("{prefix}3")).expect("is there");
        commit(store, Write::delete(&*held.key, held.mod_revision)).await
    };
    let mut early = store.watch(prefix, start).expect("kept");
    let watched = async {
        while seen.len() < 51 {
            let batch = early.next().await.expect("open").expect("kept");
            seen.extend(batch.events.iter().map(|event| (event.revision, event.key().to_owned())));
        }
    };
    let (end, ()) = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(writes, watched) })
        .await
        .expect("51 events come");
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]));
    let batch = late.try_next().expect("kept");
    let again: Vec<_> = batch.events.iter().map(|event| (event.revision, event.key().to_owned())).collect();
    assert_eq!(again, seen);
    let last = batch.events.last().expect("51 of them");
    assert!(last.entry.is_none() && last.revision == end);
    assert_eq!(&last.previous.as_ref().expect("was there").value[..], b"45");
    assert!(batch.revision >= end && late.revision() >= end);
}

async fn concurrent_updates_lose_nothing(store: &Store) {
    let key = "/registry/counter/a";
    put(store, key, "0").await;
    let mut watch = store.watch(key, store.revision()).expect("kept");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut done = 0;
            while done < 20 {
                let held = store.get(key).expect("is there");
                let count: u32 = String::from_utf8_lossy(&held.value).parse().expect("a number");
                let update = Write::update(key, (count + 1).to_string(), held.mod_revision);
                match store.commit(Txn::one(update)).await {
                    Ok(revision) => {
                        assert!(
                            store.get(key).expect("is there").mod_revision >= revision,
                            "own writes are read"
                        );
                        done += 1;
                    }
                    Err(CommitError::Conflict { current, .. }) => {
                        let current = current.expect("is there").mod_revision;
                        assert!(current > held.mod_revision, "a conflict comes from a newer version");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    tasks.join_all().await;
    let mut next = 1;
    while next <= 160 {
        for event in watch.next().await.expect("open").expect("kept").events {
            assert_eq!(event.entry.expect("an update").value, next.to_string());
            next += 1;
        }
    }
}

async fn what_expires_is_deleted(store: &Store) {
    let prefix = "/registry/expires/";
    let key = |name: &str| format!("{prefix}{name}");
    let mut watch = store.watch(prefix, store.revision()).expect("kept");
    let second = Duration::from_secs(1);
    let short = commit(store, Write::create(key("a"), "1").expiring(second)).await;
    commit(store, Write::create(key("b"), "1").expiring(1000 * second)).await;
    let renewed = commit(store, Write::create(key("c"), "1").expiring(second)).await;
    commit(store, Write::update(key("c"), "2", renewed)).await;
    let mut gone = Vec::new();
    while gone.is_empty() {
        let next = tokio::time::timeout(60 * second, watch.next()).await.expect("it expires");
        let batch = next.expect("open").expect("kept");
        gone.extend(batch.events.into_iter().filter(|event| event.entry.is_none()));
    }
    let previous = gone[0].previous.as_ref().map(|entry| (&*entry.key, entry.mod_revision));
    assert_eq!(previous, Some((&*key("a"), short)));
    assert!(gone[0].revision > short && gone.len() == 1);
    assert_eq!(names(store, prefix, Range::default()), ["b=1", "c=2"]);
}

async fn compaction_is_told(store: &Store) {
    let prefix = "/registry/compact/";
    let before = put(store, &format!("{prefix}a"), "1").await;
    let after = put(store, &format!("{prefix}a"), "2").await;
    let mut behind = store.watch(prefix, before).expect("kept");
    let mut idle = store.watch("/registry/nothing/", before).expect("kept");
    idle.try_next().expect("kept");
    store.compact(after);
    put(store, &format!("{prefix}b"), "1").await;
    assert_eq!(store.compacted(), after);
    assert!(store.watch(prefix, before).is_err());
    assert!(store.get_at(&format!("{prefix}a"), before).is_err());
    let told = store.range(prefix, Range { at: Some(before), ..Range::default() });
    assert_eq!(told.err().map(|gone| (gone.asked, gone.oldest)), Some((before, after)));
    assert!(behind.try_next().is_err());
    assert!(idle.try_next().is_ok(), "who has missed nothing is not sent away");
    assert_eq!(names(store, prefix, Range { at: Some(after), ..Range::default() }), ["a=2"]);
}

/// Everything that a store holds.
pub(crate) fn dump(store: &Store) -> Vec<(String, Vec<u8>, i64, i64)> {
    let page = store.range("", Range::default()).expect("now is kept");
    let row = |entry: &Arc<Entry>| {
        (entry.key.to_string(), entry.value.to_vec(), entry.create_revision, entry.mod_revision)
    };
    page.entries.iter().map(row).collect()
}
