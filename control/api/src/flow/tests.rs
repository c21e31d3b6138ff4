//! Fairness in virtual time: each request takes its cost on its seat, and the shares are counted.

use proptest::prelude::*;

use super::*;

fn client(name: &str) -> Client {
    Arc::from(name)
}

/// Clients that always have `wanted` requests in flight or waiting, each of `cost` microseconds, on `seats` seats for
/// `end` microseconds. Answers the seat time that each has used.
fn run(seats: usize, clients: &[(usize, u64)], end: u64) -> Vec<u64> {
    let names: Vec<Client> = (0..clients.len()).map(|i| client(&i.to_string())).collect();
    let mut fair: Fair<usize> = Fair::new(seats, 1000);
    // When each seated request ends, and whose it is.
    let mut ends: BTreeSet<(u64, usize, usize)> = BTreeSet::new();
    let mut serial = 0;
    let mut used = vec![0; clients.len()];
    for (i, (wanted, cost)) in clients.iter().enumerate() {
        for _ in 0..*wanted {
            serial += 1;
            if fair.arrive(&names[i], &names[i], || i) == Verdict::Go {
                ends.insert((*cost, serial, i));
            }
        }
    }
    while let Some((now, _, i)) = ends.pop_first() {
        if now > end {
            break;
        }
        used[i] += clients[i].1;
        let mut begin = |i: usize| {
            serial += 1;
            ends.insert((now + clients[i].1, serial, i));
        };
        if let Some((_, next)) = fair.finish(&names[i], clients[i].1) {
            begin(next);
        }
        if fair.arrive(&names[i], &names[i], || i) == Verdict::Go {
            begin(i);
        }
    }
    used
}

#[test]
fn the_noisy_gets_no_more_than_the_quiet() {
    for (seats, clients) in [
        (4, vec![(400, 1000), (4, 1000)]),
        (4, vec![(400, 1000), (8, 5000)]),
        (2, vec![(100, 300), (100, 300), (100, 300), (2, 3000)]),
    ] {
        let used = run(seats, &clients, 2_000_000);
        let (least, most) = (*used.iter().min().unwrap(), *used.iter().max().unwrap());
        assert!(most * 9 <= least * 10, "{seats} seats, {clients:?}: {used:?}");
    }
}

#[test]
fn who_needs_little_waits_for_one_seat_at_most() {
    let (noisy, quiet) = (client("noisy"), client("quiet"));
    let mut fair: Fair<&str> = Fair::new(1, 100);
    assert_eq!(fair.arrive(&noisy, &noisy, || "noisy"), Verdict::Go);
    for _ in 0..100 {
        assert_eq!(fair.arrive(&noisy, &noisy, || "noisy"), Verdict::Wait);
    }
    assert_eq!(fair.arrive(&noisy, &noisy, || "noisy"), Verdict::Full);
    assert_eq!(fair.finish(&noisy, 1000).map(|(_, t)| t), Some("noisy"));
    assert_eq!(fair.arrive(&quiet, &quiet, || "quiet"), Verdict::Wait);
    assert_eq!(fair.finish(&noisy, 1000).map(|(_, t)| t), Some("quiet"));
    assert_eq!(fair.waiting(), 99);
}

#[test]
fn a_pause_earns_no_credit() {
    let (a, b) = (client("a"), client("b"));
    let mut fair: Fair<&str> = Fair::new(1, 100);
    assert_eq!(fair.arrive(&b, &b, || "b"), Verdict::Go);
    assert!(fair.finish(&b, 10).is_none());
    assert_eq!(fair.arrive(&a, &a, || "a"), Verdict::Go);
    for _ in 0..50 {
        assert_eq!(fair.arrive(&a, &a, || "a"), Verdict::Wait);
        assert_eq!(fair.finish(&a, 10_000).map(|(_, t)| t), Some("a"));
    }
    for _ in 0..20 {
        fair.arrive(&a, &a, || "a");
        fair.arrive(&b, &b, || "b");
    }
    let mut turns = Vec::new();
    let mut last = a;
    for _ in 0..20 {
        let (client, ticket) = fair.finish(&last, 10_000).unwrap();
        turns.push(ticket);
        last = client;
    }
    let of_a = turns.iter().filter(|t| **t == "a").count();
    assert!((9..=11).contains(&of_a), "{turns:?}");
}

#[test]
fn what_was_used_while_nobody_waited_is_soon_forgotten() {
    let (old, new) = (client("old"), client("new"));
    let mut fair: Fair<&str> = Fair::new(1, 1000);
    for _ in 0..1000 {
        assert_eq!(fair.arrive(&old, &old, || "old"), Verdict::Go);
        assert!(fair.finish(&old, 100_000).is_none());
    }
    assert_eq!(fair.arrive(&new, &new, || "new"), Verdict::Go);
    for _ in 0..100 {
        fair.arrive(&old, &old, || "old");
        fair.arrive(&new, &new, || "new");
    }
    let mut last = new;
    let turn = (0..100).position(|_| {
        let (client, ticket) = fair.finish(&last, 100_000).unwrap();
        last = client;
        ticket == "old"
    });
    assert!(turn.is_some_and(|turn| turn <= 11), "{turn:?}");
}

#[test]
fn flows_of_a_client_take_turns() {
    let (user, script, shell) = (client("user"), client("script"), client("shell"));
    let mut fair: Fair<&str> = Fair::new(1, 3);
    fair.arrive(&user, &script, || "script");
    for _ in 0..3 {
        assert_eq!(fair.arrive(&user, &script, || "script"), Verdict::Wait);
    }
    assert_eq!(fair.arrive(&user, &script, || "script"), Verdict::Full);
    for _ in 0..2 {
        assert_eq!(fair.arrive(&user, &shell, || "shell"), Verdict::Wait);
    }
    let turns: Vec<_> = (0..5).filter_map(|_| fair.finish(&user, 1000)).map(|(_, t)| t).collect();
    assert_eq!(turns, ["script", "shell", "script", "shell", "script"]);
    // Flows are cheap to make up, and no way to a longer queue.
    for i in 0..20 {
        fair.arrive(&user, &client(&i.to_string()), || "made up");
    }
    assert_eq!(fair.waiting(), 3 * FLOWS);
}

#[test]
fn withdrawn_tickets_are_never_called() {
    let (a, b) = (client("a"), client("b"));
    let mut fair: Fair<u32> = Fair::new(1, 10);
    fair.arrive(&a, &a, || 0);
    fair.arrive(&a, &a, || 1);
    fair.arrive(&b, &b, || 2);
    fair.withdraw(&a, |t| *t == 1);
    assert_eq!(fair.finish(&a, 5).map(|(_, t)| t), Some(2));
    assert_eq!(fair.finish(&b, 5).map(|(_, t)| t), None);
    assert_eq!(fair.arrive(&a, &a, || 3), Verdict::Go);
}

proptest! {
    /// Seats are neither lost nor made up, whatever the order of events.
    #[test]
    fn seats_are_kept(steps in prop::collection::vec((0..3_u8, 0..4_usize, 0..5000_u64), 0..300)) {
        let names: Vec<Client> = (0..4).map(|i| client(&i.to_string())).collect();
        let mut fair: Fair<usize> = Fair::new(3, 5);
        let (mut seated, mut waiting) = (Vec::new(), 0);
        for (what, who, micros) in steps {
            match what {
                0 | 1 => match fair.arrive(&names[who], &names[who], || who) {
                    Verdict::Go => seated.push(who),
                    Verdict::Wait => { prop_assert_eq!(seated.len(), 3); waiting += 1 }
                    Verdict::Full => prop_assert!(waiting >= 5),
                },
                _ if seated.is_empty() => {}
                _ => {
                    let done = seated.remove(who % seated.len());
                    if let Some((_, next)) = fair.finish(&names[done], micros) {
                        seated.push(next);
                        waiting -= 1;
                    } else {
                        prop_assert_eq!(waiting, 0);
                    }
                }
            }
            prop_assert!(seated.len() <= 3);
            prop_assert_eq!(fair.waiting(), waiting);
        }
    }
}

#[tokio::test]
async fn a_seat_goes_to_who_waits_and_not_to_who_left() {
    let gate = Gate::new(1, 10);
    let (a, b) = (client("a"), client("b"));
    let most = Duration::from_secs(60);
    let first = gate.enter(&a, &a, most).await.expect("a free seat");
    let mut left = Box::pin(gate.enter(&a, &a, most));
    let mut stays = Box::pin(gate.enter(&b, &b, most));
    assert!(futures_util::poll!(&mut left).is_pending());
    assert!(futures_util::poll!(&mut stays).is_pending());
    assert_eq!(gate.waiting(), 2);
    drop(left);
    assert_eq!(gate.waiting(), 1);
    drop(first);
    let seat = stays.await.expect("the seat of the first");
    // Given a seat, but gone before it could sit down: the seat is free for the next.
    let mut gone = Box::pin(gate.enter(&a, &a, most));
    assert!(futures_util::poll!(&mut gone).is_pending());
    drop(seat);
    drop(gone);
    assert!(gate.enter(&b, &b, most).await.is_some());
}
