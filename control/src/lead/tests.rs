//! Who may take a lease, and when.

use super::*;

const fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

fn lease(holder: &str, renewed: &str) -> Value {
    json!({
        "metadata": {"name": "kube-scheduler", "resourceVersion": "5"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed,
            "acquireTime": "then", "leaseTransitions": 3},
    })
}

fn candidate() -> Candidate {
    Candidate::new("kube-scheduler", "me".to_owned())
}

#[test]
fn what_nobody_has_is_taken() {
    let Move::Create(made) = candidate().decide(None, now(), at(0)) else { panic!() };
    assert_eq!(made["metadata"], json!({"namespace": "kube-system", "name": "kube-scheduler"}));
    assert_eq!(made["spec"]["holderIdentity"], "me");
    assert_eq!(made["spec"]["renewTime"], "2026-11-21T10:00:00.000000Z");
    let Move::Take(taken) = candidate().decide(Some(&lease("", "x")), now(), at(0)) else { panic!() };
    assert_eq!(
        (&taken["spec"]["leaseTransitions"], &taken["metadata"]["resourceVersion"]),
        (&4.into(), &"5".into())
    );
}

#[test]
fn ours_is_renewed() {
    let Move::Take(taken) = candidate().decide(Some(&lease("me", "x")), now(), at(0)) else { panic!() };
    assert_eq!(
        (&taken["spec"]["leaseTransitions"], &taken["spec"]["acquireTime"]),
        (&3.into(), &"then".into())
    );
}

#[test]
fn anothers_is_taken_when_it_has_stood_still() {
    let mut candidate = candidate();
    // Its times may be of another clock: they are not compared.
    assert_eq!(candidate.decide(Some(&lease("other", "1")), now(), at(100)), Move::Wait);
    assert_eq!(candidate.decide(Some(&lease("other", "1")), now(), at(114)), Move::Wait);
    assert_eq!(candidate.decide(Some(&lease("other", "2")), now(), at(116)), Move::Wait);
    assert_eq!(candidate.decide(Some(&lease("other", "2")), now(), at(130)), Move::Wait);
    assert!(matches!(candidate.decide(Some(&lease("other", "2")), now(), at(131)), Move::Take(_)));
}

#[test]
fn no_jump_of_the_clock_takes_a_lease_from_its_holder() {
    let mut candidate = candidate();
    for (now, second) in
        [("2026-11-21T10:00:00Z", 0), ("2027-11-21T10:00:00Z", 5), ("1970-01-01T00:00:00Z", 10)]
    {
        let now = now.parse().unwrap();
        assert_eq!(candidate.decide(Some(&lease("other", "1")), now, at(second)), Move::Wait);
    }
}

#[test]
fn only_ours_is_released() {
    assert_eq!(candidate().release(&lease("other", "1"), now()), None);
    let released = candidate().release(&lease("me", "1"), now()).unwrap();
    assert_eq!(
        (&released["spec"]["holderIdentity"], &released["spec"]["leaseTransitions"]),
        (&"".into(), &3.into())
    );
}
