//! Tables and laws of the queue.

use proptest::prelude::*;

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_key_is_worked_on_once_at_a_time() {
    let mut queue = Queue::default();
    queue.add("a");
    queue.add("a");
    queue.add("b");
    assert_eq!(queue.depth(), 2);
    assert_eq!(queue.take(ms(0)), Some("a"));
    queue.add("a");
    queue.add("a");
    assert_eq!(queue.take(ms(0)), Some("b"));
    assert_eq!(queue.take(ms(0)), None, "a is busy");
    queue.done(&"a");
    assert_eq!(queue.take(ms(0)), Some("a"));
    queue.done(&"a");
    queue.done(&"b");
    assert_eq!(queue.take(ms(0)), None);
}

#[test]
fn failures_wait_longer_and_longer() {
    let waits: Vec<u128> = (1..=16).map(|n| backoff(n).as_millis()).collect();
    assert_eq!(&waits[..5], [5, 10, 20, 40, 80]);
    assert_eq!(&waits[13..], [40_960, 60_000, 60_000]);
    assert_eq!(backoff(u32::MAX), BACKOFF_MAX);

    let mut queue = Queue::default();
    queue.failed("a", ms(0), ms(0));
    queue.failed("b", ms(0), ms(700));
    assert_eq!((queue.wake_at(), queue.take(ms(4))), (Some(ms(5)), None));
    assert_eq!(queue.take(ms(5)), Some("a"));
    queue.failed("a", ms(5), ms(0));
    queue.done(&"a");
    assert_eq!(queue.wake_at(), Some(ms(15)));
    // What has changed does not wait.
    queue.add("a");
    assert_eq!(queue.take(ms(6)), Some("a"));
    queue.succeeded(&"a");
    queue.done(&"a");
    queue.failed("a", ms(20), ms(0));
    assert_eq!(queue.take(ms(25)), Some("a"));
    assert_eq!(queue.wake_at(), Some(ms(700)));
}

#[test]
fn the_earlier_moment_counts() {
    let mut queue = Queue::default();
    queue.add_at("a", ms(50));
    queue.add_at("a", ms(20));
    queue.add_at("a", ms(70));
    assert_eq!(queue.take(ms(20)), Some("a"));
    queue.done(&"a");
    assert_eq!((queue.wake_at(), queue.take(ms(100))), (None, None));
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    AddAt(u8, u64),
    Take,
    Done(u8),
    Failed(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_u8).prop_map(Step::Add),
        (0..4_u8, 0..50_u64).prop_map(|(key, at)| Step::AddAt(key, at)),
        Just(Step::Take),
        (0..4_u8).prop_map(Step::Done),
        (0..4_u8).prop_map(Step::Failed),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// No key is handed out twice without being done in between, and what was added is handed out at last.
    #[test]
    fn nothing_is_lost_and_nothing_is_doubled(steps in steps()) {
        let (mut queue, mut busy, mut owed) = (Queue::default(), HashSet::new(), HashSet::new());
        let mut now = ms(0);
        for step in steps {
            now += ms(1);
            match step {
                Step::Add(key) => { queue.add(key); owed.insert(key); }
                Step::AddAt(key, at) => { queue.add_at(key, now + ms(at)); owed.insert(key); }
                Step::Take => if let Some(key) = queue.take(now) {
                    prop_assert!(busy.insert(key), "{} is busy", key);
                    owed.remove(&key);
                },
                Step::Done(key) => { busy.remove(&key); queue.done(&key); }
                Step::Failed(key) => { queue.failed(key, now, ms(0)); owed.insert(key); }
            }
        }
        for key in busy.drain() {
            queue.done(&key);
        }
        while let Some(at) = queue.wake_at().or((queue.depth() > 0).then_some(now)) {
            now = now.max(at);
            while let Some(key) = queue.take(now) {
                owed.remove(&key);
                queue.done(&key);
            }
        }
        prop_assert!(owed.is_empty(), "{:?}", owed);
    }
}
