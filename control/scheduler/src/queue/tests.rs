//! Who is next, and what wakes whom.

use serde_json::{Value, json};

use super::*;

const fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn pod(name: &str, merge: Value) -> Arc<Pod> {
    let mut pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": "2"}}},
    ]}});
    for (key, value) in merge.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    Arc::new(Pod::new(Arc::new(pod)))
}

fn next(queue: &mut Queue, now: Duration) -> Option<String> {
    queue.next(now).map(|pod| pod.name.clone())
}

fn node(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "pods": "9"}}})
}

#[test]
fn the_important_comes_first_then_the_older() {
    let mut queue = Queue::default();
    for (name, priority) in [("a", 0), ("b", 0), ("c", 5)] {
        queue.set(pod(name, json!({"priority": priority})), at(0));
    }
    queue.set(pod("gated", json!({"schedulingGates": [{"name": "g"}], "priority": 9})), at(0));
    assert_eq!(queue.depths().map(|(_, depth)| depth), [3, 0, 0, 1]);
    for name in ["c", "a", "b"] {
        assert_eq!(next(&mut queue, at(0)).as_deref(), Some(name));
    }
    assert_eq!(next(&mut queue, at(0)), None);
    queue.set(pod("gated", json!({"schedulingGates": []})), at(1));
    assert_eq!(next(&mut queue, at(1)).as_deref(), Some("gated"));
    queue.remove("gated");
    assert_eq!(queue.get("gated").map(|pod| pod.name.clone()), None);
}

#[test]
fn a_refused_pod_rests_until_something_helps() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(&node("small", "1"));
    let mut queue = Queue::default();
    queue.set(pod("a", json!({})), at(0));
    let refuse = |queue: &mut Queue, filter, now| {
        assert_eq!(next(queue, now).as_deref(), Some("a"));
        queue.refused("a", BTreeSet::from([filter]), now);
    };
    refuse(&mut queue, Filter::NodeResourcesFit, at(0));
    queue.heed(Change::Node("small"), &snapshot, at(20));
    queue.heed(Change::Volumes, &snapshot, at(20));
    queue.heed(Change::NodeGone, &snapshot, at(20));
    assert_eq!(next(&mut queue, at(20)), None);
    snapshot.set_node(&node("large", "4"));
    queue.heed(Change::Node("large"), &snapshot, at(20));
    refuse(&mut queue, Filter::VolumeBinding, at(20));
    queue.heed(Change::Node("small"), &snapshot, at(40));
    assert_eq!(next(&mut queue, at(40)), None);
    queue.heed(Change::Volumes, &snapshot, at(40));
    refuse(&mut queue, Filter::InterPodAffinity, at(40));
    queue.heed(Change::Placed(&pod("b", json!({}))), &snapshot, at(60));
    refuse(&mut queue, Filter::NodeResourcesFit, at(60));
    let left = pod("b", json!({"nodeName": "large"}));
    queue.heed(Change::Left(&left), &snapshot, at(80));
    refuse(&mut queue, Filter::NodeResourcesFit, at(80));
    assert_eq!(queue.wake_at(), Some(at(380)));
    refuse(&mut queue, Filter::NodeResourcesFit, at(380));
    // Its own change helps; that of its status alone does not.
    queue.set(pod("a", json!({})), at(400));
    assert_eq!(next(&mut queue, at(400)), None);
    queue.set(pod("a", json!({"nodeSelector": {"a": "b"}})), at(400));
    assert_eq!(next(&mut queue, at(400)).as_deref(), Some("a"));
}

#[test]
fn who_may_send_others_away_looks_again_when_one_leaves() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(&node("full", "2"));
    snapshot.set_pod(pod("lesser", json!({"nodeName": "full"})), "full");
    let left = pod("left", json!({"nodeName": "full"}));
    for (priority, wakes) in [(0, None), (5, Some("a"))] {
        let mut queue = Queue::default();
        queue.set(pod("a", json!({"priority": priority})), at(0));
        assert_eq!(next(&mut queue, at(0)).as_deref(), Some("a"));
        queue.refused("a", BTreeSet::from([Filter::NodeResourcesFit]), at(0));
        queue.heed(Change::Left(&left), &snapshot, at(20));
        assert_eq!(next(&mut queue, at(20)).as_deref(), wakes);
    }
}

#[test]
fn what_changes_during_an_attempt_counts() {
    let snapshot = Snapshot::default();
    let mut queue = Queue::default();
    queue.set(pod("a", json!({})), at(0));
    queue.set(pod("b", json!({})), at(0));
    assert_eq!(next(&mut queue, at(0)).as_deref(), Some("a"));
    queue.heed(Change::Volumes, &snapshot, at(0));
    queue.refused("a", BTreeSet::from([Filter::NodeResourcesFit]), at(0));
    assert_eq!(queue.depths()[1].1, 1, "it backs off");
    assert_eq!(next(&mut queue, at(0)).as_deref(), Some("b"));
    assert_eq!(next(&mut queue, at(0)).as_deref(), Some("a"), "nobody else is there");
}

#[test]
fn faults_back_off_longer_and_longer() {
    let mut queue = Queue::default();
    queue.set(pod("a", json!({})), at(0));
    let mut now = at(0);
    for wait in [1, 2, 4, 8, 10, 10] {
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
        queue.failed("a");
        assert_eq!(next(&mut queue, now), None);
        now += at(wait);
        assert_eq!(queue.wake_at(), Some(now));
    }
    assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
}

#[test]
fn room_that_could_not_be_made_is_no_reason_to_hurry() {
    let mut queue = Queue::default();
    queue.set(pod("a", json!({})), at(0));
    let mut now = at(0);
    for wait in [1, 2, 4] {
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
        queue.refused("a", BTreeSet::from([Filter::NodeResourcesFit]), now);
        queue.retry("a");
        assert_eq!(next(&mut queue, now), None, "nobody else is there, but nothing has changed either");
        now += at(wait);
        assert_eq!(queue.wake_at(), Some(now));
    }
    assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
}
