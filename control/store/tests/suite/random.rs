//! Random histories against a naive model: a whole map for every revision.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use store::{CommitError, Entry, Expect, Op, Range, Store, Txn, Write};

/// Value, create and mod revision by key.
type Map = BTreeMap<String, (Vec<u8>, i64, i64)>;

#[derive(Clone, Debug)]
enum Wanted {
    Any,
    Absent,
    Current,
    Stale,
}

#[derive(Clone, Debug)]
enum Change {
    Put(Vec<u8>),
    Delete,
    Check,
}

#[derive(Clone, Debug)]
enum Step {
    Txn(Vec<(u8, Wanted, Change)>),
    /// Reads in pages of this size, as of this many revisions ago, beginning behind this key.
    Read(usize, usize, Option<u8>),
    /// Watches from this many revisions ago.
    Watch(usize),
    /// Forgets what is older than this many revisions.
    Compact(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let wanted = prop_oneof![
        4 => Just(Wanted::Any),
        2 => Just(Wanted::Absent),
        4 => Just(Wanted::Current),
        1 => Just(Wanted::Stale)
    ];
    let change = prop_oneof![
        5 => vec(any::<u8>(), 0..20).prop_map(Change::Put),
        2 => Just(Change::Delete),
        1 => Just(Change::Check)
    ];
    prop_oneof![
        8 => vec((0..6_u8, wanted, change), 1..4).prop_map(Step::Txn),
        3 => (1..5_usize, 0..12_usize, proptest::option::of(0..6_u8)).prop_map(|(s, a, k)| Step::Read(s, a, k)),
        1 => (0..12_usize).prop_map(Step::Watch),
        1 => (0..8_usize).prop_map(Step::Compact),
    ]
}

/// Runs random histories on one store, each under a prefix of its own.
pub(crate) fn histories(runtime: &tokio::runtime::Runtime, store: &Store, cases: u32) {
    let mut runner =
        TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let number = AtomicUsize::new(0);
    let run = |steps: Vec<Step>| {
        let prefix = format!("/registry/random/{}/", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(History::new(store, prefix).run(steps));
        Ok(())
    };
    runner.run(&vec(step(), 1..40), run).unwrap_or_else(|failure| panic!("{failure}"));
}

struct History<'s> {
    store: &'s Store,
    prefix: String,
    /// What the prefix held since each revision.
    past: BTreeMap<i64, Map>,
    start: i64,
}

impl<'s> History<'s> {
    fn new(store: &'s Store, prefix: String) -> Self {
        let start = store.revision();
        History { store, prefix, past: BTreeMap::from([(start, Map::new())]), start }
    }

    fn now(&self) -> (i64, &Map) {
        self.past.last_key_value().map(|(revision, map)| (*revision, map)).expect("the start is there")
    }

    fn at(&self, revision: i64) -> &Map {
        self.past.range(..=revision).next_back().expect("not before the start").1
    }

    fn back(&self, ago: usize) -> i64 {
        self.past.keys().rev().nth(ago).copied().unwrap_or(self.start)
    }

    async fn run(mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Txn(writes) => self.txn(writes).await,
                Step::Read(size, ago, after) => self.read(size, self.back(ago), after),
                Step::Watch(ago) => self.watch(self.back(ago)),
                Step::Compact(ago) => self.compact(self.back(ago)).await,
            }
        }
        self.read(2, self.now().0, None);
        self.watch(self.start);
    }

    async fn txn(&mut self, writes: Vec<(u8, Wanted, Change)>) {
        let (_, now) = self.now();
        let key = |name: u8| format!("{}{name}", self.prefix);
        let write = |(name, wanted, change): &(u8, Wanted, Change)| {
            let held = now.get(&key(*name)).map_or(0, |(_, _, revision)| *revision);
            let expect = match wanted {
                Wanted::Any => Expect::Any,
                Wanted::Absent => Expect::Absent,
                Wanted::Current => Expect::Revision(held.max(1)),
                Wanted::Stale => Expect::Revision((held - 1).max(1)),
            };
            let op = match change {
                Change::Put(value) => Op::Put { value: value.clone().into(), ttl: None },
                Change::Delete => Op::Delete,
                Change::Check => Op::Check,
            };
            Write { key: key(*name), expect, op }
        };
        let txn = Txn { writes: writes.iter().map(write).collect() };
        let answer = self.store.commit(txn.clone()).await;
        let (last, now) = self.now();
        match decide(now, &txn) {
            Decision::Duplicate => {
                assert!(matches!(answer, Err(CommitError::Duplicate { .. })), "{txn:?}: {answer:?}")
            }
            Decision::Conflict(expected) => match answer {
                Err(CommitError::Conflict { key, current }) => {
                    assert_eq!(key, expected);
                    assert_eq!(current.as_deref().map(row), now.get(&key).cloned());
                }
                other => panic!("{txn:?}: {other:?}"),
            },
            Decision::Happens(changed) => {
                let revision = answer.unwrap_or_else(|error| panic!("{txn:?}: {error}"));
                if changed {
                    assert!(revision > last);
                    let map = apply(now, &txn, revision);
                    self.past.insert(revision, map);
                } else {
                    assert!(revision >= last);
                }
            }
        }
        for name in 0..6 {
            let key = format!("{}{name}", self.prefix);
            assert_eq!(self.store.get(&key).as_deref().map(row), self.now().1.get(&key).cloned(), "{key}");
        }
    }

    fn read(&self, size: usize, at: i64, after: Option<u8>) {
        let mut after = after.map(|name| format!("{}{name}", self.prefix));
        let keys =
            |(key, _): &(&String, &(Vec<u8>, i64, i64))| after.as_ref().is_none_or(|after| *key > after);
        let expected: Vec<_> =
            self.at(at).iter().filter(keys).map(|(key, row)| (key.clone(), row.clone())).collect();
        let mut found = Vec::new();
        loop {
            let range = Range { after: after.as_deref(), limit: Some(size), at: Some(at) };
            let page = match self.store.range(&self.prefix, range) {
                Ok(page) => page,
                Err(gone) => return assert!(at < gone.oldest && gone.oldest == self.store.compacted()),
            };
            assert_eq!(page.revision, at);
            found.extend(page.entries.iter().map(|entry| (entry.key.to_string(), row(entry))));
            assert_eq!(page.remaining, expected.len() - found.len());
            match page.entries.last().filter(|_| page.remaining > 0) {
                Some(last) => after = Some(last.key.to_string()),
                None => break,
            }
        }
        assert_eq!(found, expected, "at {at}");
        for (key, row_then) in self.at(at) {
            let then = self.store.get_at(key, at).expect("the range was readable");
            assert_eq!(then.as_deref().map(row), Some(row_then.clone()));
        }
    }

    fn watch(&self, after: i64) {
        let mut watch = match self.store.watch(&self.prefix, after) {
            Ok(watch) => watch,
            Err(gone) => return assert!(after < gone.oldest),
        };
        let mut map = self.at(after).clone();
        loop {
            let batch = watch.try_next().expect("nothing is compacted meanwhile");
            if batch.events.is_empty() {
                break;
            }
            for event in &batch.events {
                let key = event.key().to_owned();
                assert_eq!(event.previous.as_deref().map(row), map.get(&key).cloned(), "{event:?}");
                match &event.entry {
                    Some(entry) => drop(map.insert(key, row(entry))),
                    None => drop(map.remove(&key)),
                }
            }
            assert_eq!(&map, self.at(batch.revision), "after the events up to {}", batch.revision);
        }
        assert_eq!(&map, self.now().1);
    }

    async fn compact(&self, revision: i64) {
        self.store.compact(revision);
        // A write of its own: what was asked before it is done before it.
        let key = format!("/registry/compactions{}", self.prefix);
        let op = Op::Put { value: "x".into(), ttl: None };
        let write = Write { key, expect: Expect::Any, op };
        self.store.commit(Txn::one(write)).await.expect("nothing stands against it");
        assert!(self.store.compacted() >= revision);
    }
}

fn row(entry: &Entry) -> (Vec<u8>, i64, i64) {
    (entry.value.to_vec(), entry.create_revision, entry.mod_revision)
}

enum Decision {
    Duplicate,
    Conflict(String),
    Happens(bool),
}

fn decide(now: &Map, txn: &Txn) -> Decision {
    let mut keys: Vec<_> = txn.writes.iter().map(|write| &write.key).collect();
    keys.sort();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Decision::Duplicate;
    }
    let fails = |write: &&Write| match write.expect {
        Expect::Any => false,
        Expect::Absent => now.contains_key(&write.key),
        Expect::Revision(revision) => now.get(&write.key).is_none_or(|(_, _, held)| *held != revision),
    };
    if let Some(write) = txn.writes.iter().find(fails) {
        return Decision::Conflict(write.key.clone());
    }
    Decision::Happens(txn.writes.iter().any(|write| match write.op {
        Op::Put { .. } => true,
        Op::Delete => now.contains_key(&write.key),
        Op::Check => false,
    }))
}

fn apply(now: &Map, txn: &Txn, revision: i64) -> Map {
    let mut map = now.clone();
    for write in &txn.writes {
        match &write.op {
            Op::Put { value, .. } => {
                let created = map.get(&write.key).map_or(revision, |(_, created, _)| *created);
                map.insert(write.key.clone(), (value.to_vec(), created, revision));
            }
            Op::Delete => drop(map.remove(&write.key)),
            Op::Check => {}
        }
    }
    map
}
