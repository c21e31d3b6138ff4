//! The log against a model of a disk: a crash at any moment, failing writes, damaged files.

mod bytes;
mod damage;
mod model;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{Model, Random, Unsynced};

use super::{
    Damage, Log,
    recover::{Opened, recover},
};
use crate::{Event, Expect, History, Op, State, Txn, Write, state::Pending, watch::Shared};

/// Everything that a state holds: value, create and mod revision by key.
type Content = BTreeMap<String, (Vec<u8>, i64, i64)>;

/// Small enough that a short run has several segments and snapshots.
const SEGMENT: u64 = 4096;
const HISTORY: History = History { age: Duration::from_secs(60), events: 12, bytes: 1 << 20 };

fn open(disk: &Model) -> Result<Opened<()>, Damage> {
    recover(Arc::new(disk.clone()), SEGMENT, Duration::ZERO)
}

fn content(state: &State) -> Content {
    let row = |entry: &Arc<crate::Entry>| {
        (entry.key.to_string(), (entry.value.to_vec(), entry.create_revision, entry.mod_revision))
    };
    state.all().iter().map(row).collect()
}

/// A process that works with a disk, and what it may count on at each moment.
struct Run {
    disk: Model,
    log: Log,
    shared: Arc<Shared<()>>,
    /// After how many actions what was acknowledged, oldest first.
    acknowledged: Vec<(usize, i64, Content)>,
    /// From which action on what was being written, without an acknowledgement.
    attempted: Vec<(usize, i64, Content)>,
    history: History,
    time: u64,
}

impl Run {
    fn start(disk: &Model) -> Run {
        let opened = open(disk).expect("the disk is fine");
        let acknowledged = vec![(0, opened.state.revision(), content(&opened.state))];
        let (shared, time) = (Shared::new(opened.state), opened.time);
        Run {
            disk: disk.clone(),
            log: opened.log,
            shared,
            acknowledged,
            attempted: Vec::new(),
            history: HISTORY,
            time,
        }
    }

    /// One group of transactions, as the writer commits it.
    fn group(&mut self, txns: Vec<Txn>) -> bool {
        self.time += 1000;
        let (events, after) = {
            let inner = self.shared.read();
            let mut pending = Pending::new(&inner.state);
            for txn in txns {
                let _ = pending.decide(txn, self.time);
            }
            let mut after = content(&inner.state);
            apply(&mut after, &pending.events);
            (pending.events, after)
        };
        let Some(last) = events.last().map(|event| event.revision) else { return true };
        self.attempted.push((self.disk.actions(), last, after.clone()));
        if self.log.append(&events, self.time).is_err() {
            return false;
        }
        self.acknowledged.push((self.disk.actions(), last, after));
        self.shared.publish(&events, last, &self.history, self.time);
        self.log.shrink(&self.shared, self.time);
        self.log.settle();
        true
    }

    /// What a start after a crash behind `count` actions may find.
    fn allowed(&self, count: usize) -> Vec<(i64, &Content)> {
        let known = self.acknowledged.iter().rfind(|(at, ..)| *at <= count).expect("the start is known");
        let open = self.attempted.iter().filter(|(at, ..)| *at >= known.0 && *at <= count);
        [known].into_iter().chain(open).map(|(_, revision, content)| (*revision, content)).collect()
    }
}

fn apply(content: &mut Content, events: &[Event]) {
    for event in events {
        match &event.entry {
            Some(entry) => {
                let row = (entry.value.to_vec(), entry.create_revision, entry.mod_revision);
                content.insert(entry.key.to_string(), row);
            }
            None => drop(content.remove(event.key())),
        }
    }
}

fn put(key: &str, value: &[u8]) -> Write {
    Write {
        key: key.to_owned(),
        expect: Expect::Any,
        op: Op::Put { value: value.to_vec().into(), ttl: None },
    }
}

/// Some transactions of some writes each.
fn some(random: &mut Random) -> Vec<Txn> {
    let write = |random: &mut Random, at: usize| {
        let key = format!("/registry/pods/{}", at * 4 + random.below(4));
        if random.below(4) == 0 {
            return Write { key, expect: Expect::Any, op: Op::Delete };
        }
        let size = random.below(300);
        put(&key, &vec![u8::try_from(random.below(256)).expect("a byte"); size])
    };
    let txn =
        |random: &mut Random| Txn { writes: (0..=random.below(3)).map(|at| write(random, at)).collect() };
    (0..=random.below(3)).map(|_| txn(random)).collect()
}

/// Starts on what a crash has left, and once more after a further write.
fn check(run: &Run, count: usize, unsynced: Unsynced, names: u64) {
    let what = format!("crash after action {count}, {unsynced:?}, names {names:b}");
    let image = run.disk.crashed(count, unsynced, names);
    let opened = open(&image).unwrap_or_else(|damage| panic!("{what}: {damage}"));
    let found = (opened.state.revision(), content(&opened.state));
    let allowed = run.allowed(count);
    assert!(
        allowed.iter().any(|(revision, content)| (*revision, *content) == (found.0, &found.1)),
        "{what}: found revision {}, expected one of {:?}",
        found.0,
        allowed.iter().map(|(revision, _)| *revision).collect::<Vec<_>>()
    );
    drop(opened);
    let mut next = Run::start(&image);
    assert!(next.group(vec![Txn::one(put("/registry/next", b"1"))]), "{what}");
    let again = open(&image).unwrap_or_else(|damage| panic!("{what}, next start: {damage}"));
    assert_eq!(again.state.revision(), found.0 + 1, "{what}, next start");
    assert!(again.state.get("/registry/next").is_some());
}

#[test]
fn a_crash_at_any_action_loses_nothing_acknowledged() {
    let (mut random, mut names) = (Random(0x5eed), Vec::new());
    let mut run = Run::start(&Model::default());
    for _ in 0..60 {
        let txns = some(&mut random);
        assert!(run.group(txns));
        names.extend(super::disk::Disk::names(&run.disk).expect("names"));
    }
    let seen = |start: &str| names.iter().filter(|name| name.starts_with(start)).max().cloned();
    assert!(seen("log-") > Some("log-0000000003".into()), "several segments: {:?}", seen("log-"));
    assert!(seen("snapshot-").is_some_and(|name| !name.ends_with(".tmp")), "and a snapshot");
    for count in 0..=run.disk.actions() {
        for seed in 0..4 {
            random.below(2);
            check(&run, count, Unsynced::Sectors(random.0 ^ seed), random.0);
        }
        check(&run, count, Unsynced::Prefix(usize::MAX), u64::MAX);
        check(&run, count, Unsynced::Prefix(0), 0);
    }
}

#[test]
fn a_write_cut_at_any_byte_is_left_out_or_whole() {
    let mut random = Random(7);
    let mut run = Run::start(&Model::default());
    for _ in 0..4 {
        let txns = some(&mut random);
        run.group(txns);
    }
    for count in 0..=run.disk.actions() {
        for cut in 0..run.disk.unsynced(count) {
            check(&run, count, Unsynced::Prefix(cut), u64::MAX);
        }
    }
}

#[test]
fn failing_writes_are_refused_and_later_ones_are_kept() {
    for seed in 1..13 {
        let mut random = Random(seed * 7919);
        let mut run = Run::start(&Model::default());
        let mut refused = 0;
        for round in 0..30 {
            if round % 6 == 3 {
                run.disk.fail(
                    random.below(5),
                    [rustix::io::Errno::NOSPC, rustix::io::Errno::IO][random.below(2)].raw_os_error(),
                );
            }
            if round % 6 == 5 {
                run.disk.heal();
            }
            run.log.probe(run.time);
            let txns = some(&mut random);
            if !run.group(txns) {
                refused += 1;
                let answer = run.log.failure().expect("it has failed").answer::<()>();
                assert!(matches!(
                    answer,
                    crate::CommitError::Full { .. } | crate::CommitError::ReadOnly { .. }
                ));
            }
        }
        assert!(refused > 0, "seed {seed}: nothing failed");
        run.disk.heal();
        assert!(run.group(vec![Txn::one(put("/registry/last", b"1"))]), "seed {seed}: it works again");
        for count in 0..=run.disk.actions() {
            random.below(2);
            check(&run, count, Unsynced::Sectors(random.0), random.0);
            check(&run, count, Unsynced::Prefix(usize::MAX), u64::MAX);
        }
    }
}
