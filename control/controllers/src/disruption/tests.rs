//! How many may be evicted.

use super::*;
use crate::driven::Driven;
use crate::resources::{DEPLOYMENTS, REPLICA_SETS};

fn pod(name: &str, owner: Option<&str>, ready: bool) -> Value {
    let owners: Vec<Value> = owner
        .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid, "controller": true}))
        .into_iter()
        .collect();
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}, "ownerReferences": owners},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

fn driven(spec: Value) -> Driven {
    let mut driven = Driven::new(all());
    let deployment =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "d", "controller": true}]);
    driven.objects.put(
        DEPLOYMENTS,
        json!({"metadata": {"name": "d", "namespace": "ns", "uid": "d"}, "spec": {"replicas": 5}}),
    );
    for name in ["r1", "r2"] {
        driven.objects.put(
            REPLICA_SETS,
            json!({"metadata": {"name": name, "namespace": "ns", "uid": name,
            "ownerReferences": deployment}, "spec": {"replicas": 3}}),
        );
    }
    let mut budget = json!({"selector": {"matchLabels": {"app": "web"}}});
    budget.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    driven.objects.put(
        BUDGETS,
        json!({"kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "ns"}, "spec": budget}),
    );
    driven
}

fn numbers(driven: &mut Driven) -> [i64; 4] {
    driven.settle();
    let status = driven.get(BUDGETS, "ns", "b").unwrap()["status"].clone();
    ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
        .map(|m| status[m].as_i64().unwrap())
}

#[test]
fn each_form_of_a_budget_is_counted() {
    for (spec, expected) in [
        (json!({"minAvailable": 2}), [4, 2, 3, 1]),
        (json!({"minAvailable": "50%"}), [5, 3, 3, 0]),
        (json!({"maxUnavailable": 3}), [5, 2, 3, 1]),
        (json!({"maxUnavailable": "50%"}), [5, 2, 3, 1]),
        (json!({"maxUnavailable": 9}), [5, 0, 3, 3]),
    ] {
        let mut driven = driven(spec.clone());
        for (name, owner, ready) in
            [("a", "r1", true), ("b", "r1", true), ("c", "r2", true), ("d", "r2", false)]
        {
            driven.objects.put(PODS, pod(name, Some(owner), ready));
        }
        assert_eq!(numbers(&mut driven), expected, "{spec}");
        driven.restart();
        assert_eq!(driven.settle(), []);
    }
}

#[test]
fn what_nobody_makes_anew_and_whom_nobody_can_ask() {
    let mut driven = driven(json!({"maxUnavailable": 1}));
    driven.objects.put(PODS, pod("bare", None, true));
    assert_eq!(numbers(&mut driven), [0, 0, 1, 0]);
    assert!(driven.objects.told.iter().any(|(_, _, reason, _)| *reason == "UnmanagedPods"));
    driven.objects.put(PODS, pod("lost", Some("gone"), true));
    driven.settle();
    let mut failure = || {
        driven.settle();
        let status = driven.get(BUDGETS, "ns", "b").unwrap()["status"].clone();
        assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
        object::text(&status["conditions"][0], &["message"]).to_owned()
    };
    assert_eq!(failure(), "found no controllers for pod \"lost\"");
}

#[test]
fn an_eviction_counts_until_it_is_done_or_too_late() {
    let mut driven = driven(json!({"minAvailable": 1}));
    for name in ["a", "b", "c"] {
        driven.objects.put(PODS, pod(name, Some("r1"), true));
    }
    assert_eq!(numbers(&mut driven), [3, 1, 3, 2]);
    driven
        .objects
        .change(BUDGETS, "ns", "b", |b| b["status"]["disruptedPods"] = json!({"a": "2026-01-01T12:00:00Z"}));
    assert_eq!(numbers(&mut driven), [3, 1, 2, 1]);
    driven.pass(121);
    assert_eq!(numbers(&mut driven), [3, 1, 3, 2]);
    assert!(driven.objects.told.iter().any(|(_, _, reason, _)| *reason == "NotDeleted"));
    driven.objects.remove(PODS, "ns", "a");
    assert_eq!(numbers(&mut driven), [2, 1, 2, 1]);
}

#[test]
fn a_disruption_that_does_not_come_is_taken_back() {
    let mut driven = driven(json!({"minAvailable": 1}));
    let mut said = pod("a", Some("r1"), true);
    let more = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "lastTransitionTime": "2026-01-01T12:00:00Z"});
    said["status"]["conditions"].as_array_mut().unwrap().push(more);
    driven.objects.put(PODS, said);
    let is = |driven: &Driven| {
        let pod = driven.get(PODS, "ns", "a").unwrap();
        pod::condition(&pod, "DisruptionTarget").unwrap()["status"].clone()
    };
    driven.pass(100);
    assert_eq!(is(&driven), "True");
    driven.pass(30);
    driven.settle();
    assert_eq!(is(&driven), "False");
}
