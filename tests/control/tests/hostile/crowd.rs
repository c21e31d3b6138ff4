//! A large store: lists in pages while it changes, and one client that wants everything at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use client::{Client, Query};
use futures_util::future::join_all;
use lab::Control;
use proto_kube::object;
use serde_json::Value;
use store::{Config, Place, Store, Txn, Write};

use crate::raw::Raw;
use crate::{MAPS, assert_no_panic, blocking, client, config_map, kind, pss};

const OBJECTS: usize = 100_000;

fn name(number: usize) -> String {
    format!("o{number:06}")
}

/// A control plane whose store has held the objects since before its start.
async fn crowded() -> Control {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("data/control/store");
    let store = Store::<()>::open(Config::new(Place::Directory(directory))).await.unwrap();
    let numbers: Vec<usize> = (0..OBJECTS).collect();
    let commits = numbers.chunks(128).map(|numbers| {
        let writes = numbers.iter().map(|number| {
            let name = name(*number);
            let value = format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"default","uid":"{number}","creationTimestamp":"2026-01-01T00:00:00Z"}},"data":{{"k":"0"}}}}"#
            );
            Write::create(kind("configmaps").key("default", &name).unwrap(), value)
        });
        store.commit(Txn { writes: writes.collect() })
    });
    for committed in join_all(commits).await {
        committed.unwrap();
    }
    store.close().await;
    drop(store);
    // The server alone: what controllers keep in mind of so many objects is no question of its lists.
    blocking(|| Control::start_in(folder, &["--controllers="]).unwrap()).await
}

/// Changes, deletes and creates until it is told to stop; gives how often it did.
async fn unrest(client: Client, stop: Arc<AtomicBool>) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let query = Query::default;
        let late = OBJECTS - 1 - number;
        client.delete(kind("configmaps"), "default", &name(late), &Value::Null).await.unwrap();
        let changed = config_map(&name(late - OBJECTS / 2), "1");
        let mut changed = changed;
        changed["metadata"]["namespace"] = "default".into();
        client.update(kind("configmaps"), None, &changed, query()).await.unwrap();
        let new = config_map(&format!("{}x", name(late)), "1");
        client.create(kind("configmaps"), "default", &new, query()).await.unwrap();
        number += 1;
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_large_list_are_of_one_moment_and_the_quiet_are_served() {
    let control = crowded().await;
    println!("{OBJECTS} objects: {} MiB", pss(&control));
    let (lister, stop) = (client(&control, "lister"), Arc::new(AtomicBool::new(false)));
    let writing = tokio::spawn(unrest(client(&control, "writer"), stop.clone()));
    let (mut token, mut names, mut revisions) = (String::new(), Vec::new(), BTreeSet::new());
    loop {
        let query = Query::default().with("limit", "5000").with("continue", &token);
        let page = lister.list(kind("configmaps"), "default", query).await.unwrap();
        revisions.insert(object::text(&page, &["metadata", "resourceVersion"]).to_owned());
        let ours = object::items(&page, &["items"]).filter(|o| object::name(o).starts_with('o'));
        names.extend(ours.map(|o| (object::name(o).to_owned(), o["data"]["k"] == "1")));
        token = object::text(&page, &["metadata", "continue"]).to_owned();
        if token.is_empty() {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let writes = writing.await.unwrap();
    println!("{} objects in pages during {} writes: {} MiB", names.len(), 3 * writes, pss(&control));
    assert!(writes > 0, "nothing was written meanwhile");
    assert_eq!(revisions.len(), 1, "{revisions:?}");
    // As many were made as were deleted before any moment, one of either more or less; none is there twice.
    assert!((OBJECTS - 1..=OBJECTS).contains(&names.len()), "{}", names.len());
    assert!(names.windows(2).all(|pair| pair[0].0 < pair[1].0), "out of order, or twice");
    let state = names.iter().fold((0, 0), |(new, changed), (name, one)| {
        (new + usize::from(name.ends_with('x')), changed + usize::from(*one && !name.ends_with('x')))
    });
    assert!(state.1.abs_diff(state.0) <= 1, "new and changed: {state:?}, which was never so");
    assert!(pss(&control) < 250, "{} MiB", pss(&control));
    fair(&control).await;
    assert_no_panic(&control);
}

/// One client lists all there is, hundreds of times at once, again and again; another asks for a little thing.
async fn fair(control: &Control) {
    let (noisy, stop) = (client(control, "noisy"), Arc::new(AtomicBool::new(false)));
    let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let noise: Vec<_> = (0..300)
        .map(|_| {
            let (noisy, stop, served, refused) =
                (noisy.clone(), stop.clone(), served.clone(), refused.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let query = Query::default().with("limit", "2000").with("labelSelector", "!nope");
                    match noisy.list(kind("configmaps"), "default", query).await {
                        Ok(_) => served.fetch_add(1, Ordering::Relaxed),
                        Err(error) if error.code() == Some(429) => refused.fetch_add(1, Ordering::Relaxed),
                        Err(error) => panic!("{error:?}"),
                    };
                }
            })
        })
        .collect();
    while served.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let raw = Raw::admin(control);
    blocking(move || {
        let quiet = [("impersonate-user", "quiet"), ("impersonate-group", "system:masters")];
        for _ in 0..20 {
            let answer = raw.ask("GET", &format!("{MAPS}/{}", name(0)), &quiet, b"");
            assert_eq!(answer.code, 200, "{}", answer.text());
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    noise.iter().for_each(tokio::task::JoinHandle::abort);
    for task in noise {
        assert!(
            task.await.map_or_else(|error| error.is_cancelled(), |()| true),
            "a list was refused otherwise"
        );
    }
    let (served, refused) = (served.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    println!("noisy lists served {served}, told to come back {refused}: {} MiB", pss(control));
    assert!(pss(control) < 400, "{} MiB", pss(control));
}
