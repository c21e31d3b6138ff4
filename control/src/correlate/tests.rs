//! What becomes an event.

use super::*;

fn said(message: &str) -> Said {
    let regarding = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"namespace": "ns", "name": "web", "uid": "u", "resourceVersion": "7"}});
    Said {
        regarding: Arc::new(regarding),
        kind: "Normal",
        reason: "SuccessfulCreate",
        message: message.to_owned(),
        source: "replicaset-controller".to_owned(),
        action: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

#[test]
fn what_is_said_again_counts() {
    let mut correlator = Correlator::default();
    let Some(Write::Create(namespace, event)) = correlator.take(&said("Created pod: a"), at(0)) else {
        panic!()
    };
    assert_eq!(namespace, "ns");
    assert_eq!(event["source"]["component"], "replicaset-controller");
    assert_eq!(event["involvedObject"]["kind"], "ReplicaSet");
    assert_eq!((&event["count"], &event["firstTimestamp"]), (&1.into(), &"2027-01-15T08:00:00Z".into()));
    let Some(Write::Merge(_, name, patch, whole)) = correlator.take(&said("Created pod: a"), at(5)) else {
        panic!()
    };
    assert_eq!(name, object::name(&event));
    assert_eq!(
        patch,
        json!({"count": 2, "lastTimestamp": "2027-01-15T08:00:05Z", "message": "Created pod: a"})
    );
    assert_eq!(whole["firstTimestamp"], event["firstTimestamp"]);
    let other = correlator.take(&said("Created pod: b"), at(6));
    assert!(matches!(other, Some(Write::Create(..))));
}

#[test]
fn many_messages_of_a_reason_become_one() {
    let mut correlator = Correlator::default();
    let mut texts = Vec::new();
    for n in 0..12 {
        texts.push(match correlator.take(&said(&format!("Created pod: {n}")), at(n)) {
            Some(Write::Create(_, event)) => format!("new {}", object::text(&event, &["message"])),
            Some(Write::Merge(_, _, patch, _)) => format!("again {}", object::text(&patch, &["message"])),
            None => panic!(),
        });
    }
    assert_eq!(texts[8], "new Created pod: 8");
    assert_eq!(texts[9], "new (combined from similar events): Created pod: 9");
    assert_eq!(texts[10], "again (combined from similar events): Created pod: 10");
    let later = correlator.take(&said("Created pod: z"), at(2000));
    let Some(Write::Create(_, event)) = later else { panic!() };
    assert_eq!(event["message"], "Created pod: z");
}

#[test]
fn who_says_too_much_is_not_heard() {
    let mut correlator = Correlator::default();
    let heard = |correlator: &mut Correlator, second| correlator.take(&said("x"), at(second)).is_some();
    assert_eq!((0..40).filter(|_| heard(&mut correlator, 0)).count(), 25);
    assert!(!heard(&mut correlator, 299));
    assert!(heard(&mut correlator, 301));
    assert!(!heard(&mut correlator, 302));
    // A clock that jumps back takes nothing away.
    assert!(!heard(&mut correlator, -5000));
    assert!(heard(&mut correlator, 302));
}

#[test]
fn the_newer_form_has_series() {
    let mut correlator = Correlator::default();
    let failed = Said {
        reason: "FailedScheduling",
        source: "default-scheduler".to_owned(),
        action: Some(("Scheduling", "default-scheduler-here".to_owned())),
        ..said("0/1 nodes are available")
    };
    let Some(Write::Create(_, event)) = correlator.take(&failed, at(0)) else { panic!() };
    assert_eq!((&event["note"], &event["action"]), (&"0/1 nodes are available".into(), &"Scheduling".into()));
    assert_eq!(event["eventTime"], "2027-01-15T08:00:00.000000Z");
    assert!(event.get("series").is_none());
    let Some(Write::Merge(_, _, patch, _)) = correlator.take(&failed, at(5)) else { panic!() };
    assert_eq!(patch, json!({"series": {"count": 2, "lastObservedTime": "2027-01-15T08:00:05.000000Z"}}));
    assert!(matches!(correlator.take(&failed, at(1000)), Some(Write::Create(..))));
}

#[test]
fn what_is_remembered_has_a_bound() {
    let mut recent = Recent::default();
    for n in 0..REMEMBERED_MAX * 3 {
        recent.entry(n.to_string(), || n);
        recent.entry("0".to_owned(), || 0);
    }
    assert!(recent.values.len() <= REMEMBERED_MAX);
    assert_eq!(*recent.entry("0".to_owned(), || 1), 0);
}
