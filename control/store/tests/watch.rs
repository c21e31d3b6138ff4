//! Many watchers, idle and slow ones.

mod suite;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use store::{Config, Entry, History, Index, Place, Store, Txn, Write};
use suite::put;

async fn memory(history: History) -> Store {
    let mut config = Config::new(Place::Memory);
    config.history = history;
    Store::open(config).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_watchers_sleep_through_what_does_not_concern_them() {
    const IDLE: usize = 10_000;
    let store = memory(History::default()).await;
    let (woken, start) = (Arc::new(AtomicUsize::new(0)), store.revision());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..IDLE {
        let mut watch = store.watch(&format!("/registry/leases/node-{number:05}/"), start).expect("kept");
        let woken = woken.clone();
        tasks.spawn(async move {
            let first = watch.next().await.expect("open").expect("kept");
            woken.fetch_add(1, Ordering::SeqCst);
            (number, first.events.len())
        });
    }
    let mut all = store.watch("/registry/", start).expect("kept");
    for number in 0..1000 {
        put(&store, &format!("/registry/pods/default/{number}"), "1").await;
    }
    put(&store, "/registry/leases/node-04321/lease", "1").await;
    assert_eq!(tasks.join_next().await.expect("10,000").expect("fine"), (4321, 1));
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    let mut seen = 0;
    while seen < 1001 {
        seen += all.next().await.expect("open").expect("kept").events.len();
    }
    // None of the others has missed anything, however much was forgotten meanwhile.
    store.compact(store.revision());
    put(&store, "/registry/leases/node-09999/lease", "1").await;
    assert_eq!(tasks.join_next().await.expect("9,999").expect("fine"), (9999, 1));
    tasks.shutdown().await;
}

#[tokio::test]
async fn a_slow_reader_holds_nobody_up_and_is_told_in_the_end() {
    let store = memory(History { events: 500, ..History::default() }).await;
    let start = store.revision();
    let (mut slow, mut quick) = (store.watch("/registry/", start), store.watch("/registry/", start));
    let (slow, quick) = (slow.as_mut().expect("kept"), quick.as_mut().expect("kept"));
    let mut seen = 0;
    for number in 0..2000 {
        put(&store, &format!("/registry/pods/{}", number % 10), "1").await;
        seen += quick.try_next().expect("kept").events.len();
    }
    assert_eq!(seen, 2000);
    let gone = slow.try_next().err().expect("1,500 events are forgotten");
    assert_eq!((gone.asked, gone.oldest), (start, store.compacted()));
    assert!(slow.next().await.expect("open").is_err(), "and told again");
    assert_eq!(store.revision() - store.compacted(), 500);
}

#[tokio::test]
async fn a_reader_some_way_behind_catches_up_in_batches() {
    let store = memory(History::default()).await;
    let start = store.revision();
    let mut behind = store.watch("/registry/pods/", start).expect("kept");
    for number in 0..700 {
        let writes =
            (0..3).map(|part| Write::create(format!("/registry/pods/{number}-{part}"), "1")).collect();
        store.commit(Txn { writes }).await.expect("all are new");
    }
    let mut late = store.watch("/registry/pods/", start).expect("kept");
    for watch in [&mut behind, &mut late] {
        let (mut seen, mut batches) = (Vec::new(), 0);
        while seen.len() < 2100 {
            let batch = watch.next().await.expect("open").expect("kept");
            assert_eq!(batch.events.len() % 3, 0, "a transaction is handed out whole");
            seen.extend(batch.events.iter().map(|event| event.revision));
            batches += 1;
        }
        assert!(batches > 3, "nobody is handed 2,100 events at once");
        let expected: Vec<i64> = (0..2100).map(|at| start + 1 + at / 3).collect();
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn closing_ends_watches_and_refuses_writes() {
    let store = memory(History::default()).await;
    let mut watch = store.watch("/registry/", store.revision()).expect("kept");
    let waiting = tokio::spawn(async move { watch.next().await.is_none() });
    store.close().await;
    assert!(waiting.await.expect("fine"));
    let late = store.commit(Txn::one(Write::create("/registry/late", "1"))).await;
    assert!(matches!(late, Err(store::CommitError::Closed)));
    assert!(!store.wait_for(i64::MAX, Duration::from_millis(1)).await);
}

/// Counts how often it is computed.
struct Counted(usize);

static COMPUTED: AtomicUsize = AtomicUsize::new(0);

impl Index for Counted {
    fn of(_: &str, value: &[u8]) -> Self {
        COMPUTED.fetch_add(1, Ordering::SeqCst);
        Counted(value.len())
    }
}

#[tokio::test]
async fn an_index_is_computed_once_for_each_version() {
    let store: Store<Counted> = Store::open(Config::new(Place::Memory)).await.expect("opens");
    let mut watch = store.watch("/", 1).expect("kept");
    let first = store.commit(Txn::one(Write::create("/a", "12345"))).await.expect("new");
    let entry: Arc<Entry<Counted>> = store.get("/a").expect("is there");
    assert_eq!((entry.index().0, entry.index().0, COMPUTED.load(Ordering::SeqCst)), (5, 5, 1));
    store.commit(Txn::one(Write::update("/a", "1", first))).await.expect("current");
    let batch = watch.try_next().expect("kept");
    let change = &batch.events[1];
    let indexes = [&change.entry, &change.previous].map(|entry| entry.as_ref().expect("an update").index().0);
    assert_eq!((indexes, COMPUTED.load(Ordering::SeqCst)), ([1, 5], 2));
}
