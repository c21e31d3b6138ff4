//! The bounds of the history and the deadlines of keys; what a state answers is tested by the suite on every store.

use proptest::prelude::*;

use super::*;
use crate::Write;

fn put(key: &str, size: usize, ttl: Option<u64>) -> Txn {
    let op = Op::Put { value: vec![b'x'; size].into(), ttl: ttl.map(Duration::from_millis) };
    Txn::one(Write { key: key.into(), expect: Expect::Any, op })
}

fn apply(state: &mut State, txn: Txn, now: u64) -> i64 {
    state.apply(txn, now).expect("nothing stands against it").0
}

#[test]
fn the_history_is_bounded_by_age_events_and_bytes() {
    let bounds = History { age: Duration::from_millis(100), events: 10, bytes: 1 << 20 };
    let cases = [
        ("young and few", bounds, 0, 21),
        ("half too old", bounds, 110, 27),
        ("all too old", bounds, 1000, 31),
        ("too many", History { events: 4, ..bounds }, 0, 27),
        ("too heavy", History { bytes: 3 * (64 + 2 * 14), ..bounds }, 0, 28),
    ];
    for (name, bounds, later, oldest) in cases {
        let mut state = State::<()>::new(1, []);
        for at in 0..20 {
            apply(&mut state, put("/key", 10, None), at);
        }
        state.compact(21);
        for at in 0..10 {
            apply(&mut state, put("/key", 10, None), at * 2);
        }
        state.trim(&bounds, later);
        assert_eq!(state.compacted(), oldest, "{name}");
        assert_eq!(
            state.since(oldest).expect("kept").count(),
            usize::try_from(31 - oldest).expect("few"),
            "{name}"
        );
        assert_eq!(state.since(oldest - 1).err().map(|gone| gone.oldest), Some(oldest), "{name}");
        assert_eq!(state.held == 0, oldest == 31, "{name}");
    }
}

#[test]
fn a_deadline_goes_with_its_version() {
    let mut state = State::<()>::new(1, []);
    let keys = |state: &State, now| state.expired(now).map(|entry| entry.key.to_string()).collect::<Vec<_>>();
    apply(&mut state, put("/b", 1, Some(50)), 0);
    apply(&mut state, put("/a", 1, Some(30)), 0);
    apply(&mut state, put("/c", 1, None), 0);
    assert_eq!(
        (state.next_deadline(), keys(&state, 29), keys(&state, 50)),
        (Some(30), vec![], vec!["/a".into(), "/b".into()])
    );
    apply(&mut state, put("/a", 1, Some(30)), 25);
    assert_eq!((state.next_deadline(), keys(&state, 50)), (Some(50), vec!["/b".to_owned()]), "renewed");
    apply(&mut state, put("/a", 1, None), 30);
    apply(&mut state, Txn::one(Write { key: "/b".into(), expect: Expect::Any, op: Op::Delete }), 30);
    assert_eq!((state.next_deadline(), state.deadlines.len()), (None, 0));
    apply(&mut state, put("/d", 1, Some(u64::MAX)), 30);
    assert_eq!(state.next_deadline(), None, "beyond the end of time is never");
}

#[test]
fn a_value_is_kept_in_its_own_size() {
    let mut state = State::<()>::new(1, []);
    let request = Bytes::from(vec![b'x'; 100_000]);
    let op = Op::Put { value: request.slice(..10), ttl: None };
    apply(&mut state, Txn::one(Write { key: "/a".into(), expect: Expect::Absent, op }), 0);
    assert!(request.is_unique(), "the request's buffer is not held");
}

proptest! {
    #[test]
    fn the_weights_are_those_of_what_is_there(steps in proptest::collection::vec((0..5_u8, 0..50_usize, 0..4_u8), 0..60)) {
        let mut state = State::<()>::new(1, []);
        for (at, (key, size, what)) in steps.into_iter().enumerate() {
            let key = format!("/{key}");
            match what {
                0 => drop(state.apply(Txn::one(Write { key, expect: Expect::Any, op: Op::Delete }), 0)),
                1 => state.compact(i64::try_from(at / 2).expect("few")),
                _ => drop(state.apply(put(&key, size, Some(1000)), 0)),
            }
            prop_assert_eq!(state.live(), state.all().iter().map(|entry| entry.weight()).sum::<usize>());
            prop_assert_eq!(state.held, state.history.iter().map(Event::weight).sum::<usize>());
            prop_assert_eq!(state.deadlines.len(), state.keys());
            prop_assert!(state.history.iter().all(|event| event.revision > state.compacted()));
        }
    }
}
