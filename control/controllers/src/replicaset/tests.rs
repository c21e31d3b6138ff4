//! ReplicaSets and ReplicationControllers.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::conditions;
use crate::model::Cluster;
use crate::{Mutation, replicationcontroller::ReplicationControllers, resources::REPLICATION_CONTROLLERS};
use proto_kube::Status;

fn cluster() -> Cluster {
    Cluster::new(vec![
        (Box::new(ReplicaSets), REPLICA_SETS),
        (Box::new(ReplicationControllers), REPLICATION_CONTROLLERS),
    ])
}

fn set(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web", "tier": "a"}}, "spec": {"containers": [{"name": "c"}]}},
        },
        "status": {"replicas": 0},
    })
}

fn scale(cluster: &mut Cluster, replicas: i64) {
    cluster.objects.change(REPLICA_SETS, "ns", "web", |set| {
        set["spec"]["replicas"] = replicas.into();
        set["metadata"]["generation"] = (set["metadata"]["generation"].as_i64().unwrap() + 1).into();
    });
}

#[test]
fn pods_come_and_go_with_the_wish() {
    let mut cluster = cluster();
    cluster.objects.put(REPLICA_SETS, set(3));
    cluster.settle();
    let pods = cluster.pods();
    assert_eq!(pods.len(), 3);
    let pod = &pods[0];
    assert_eq!(pod["metadata"]["generateName"], "web-");
    assert_eq!(object::name(pod).len(), "web-12345".len());
    assert_eq!(pod["metadata"]["labels"], json!({"app": "web", "tier": "a"}));
    let owner = object::controller(pod).unwrap();
    assert_eq!((owner.api_version, owner.kind, owner.name), ("apps/v1", "ReplicaSet", "web"));
    assert_eq!(
        cluster.get(REPLICA_SETS, "web")["status"],
        json!({"replicas": 3, "fullyLabeledReplicas": 3, "observedGeneration": 1, "terminatingReplicas": 0})
    );
    let told = cluster.told();
    assert_eq!(told.len(), 3);
    assert_eq!(told[0].0, "SuccessfulCreate");
    assert!(told[0].1.starts_with("Created pod: web-"));

    cluster.run_all();
    scale(&mut cluster, 1);
    cluster.settle();
    assert_eq!(
        cluster.get(REPLICA_SETS, "web")["status"],
        json!({
            "replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
            "observedGeneration": 2, "terminatingReplicas": 2,
        })
    );
    let told = cluster.told();
    assert_eq!(told.len(), 2);
    assert!(told[0].1.starts_with("Deleted pod: web-"), "{told:?}");
    cluster.bury();
    cluster.settle();
    assert_eq!(cluster.get(REPLICA_SETS, "web")["status"]["terminatingReplicas"], 0);
}

#[test]
fn a_name_is_not_given_twice() {
    let mut cluster = cluster();
    cluster.objects.put(REPLICA_SETS, set(1));
    cluster.settle();
    let first = object::name(&cluster.pods()[0]).to_owned();
    cluster.objects.remove(PODS, "ns", &first);
    cluster.settle();
    assert_ne!(object::name(&cluster.pods()[0]), first);
}

#[test]
fn the_same_decision_makes_the_same_names() {
    let mut cluster = cluster();
    cluster.objects.put(REPLICA_SETS, set(5));
    let key = ("ns".to_owned(), "web".to_owned());
    let stale = cluster.ask(0, &key, None);
    cluster.apply(&stale.mutations, usize::MAX);
    let again = stale.mutations.iter().filter(|m| matches!(m, Mutation::Create(..)));
    for create in again {
        assert_eq!(cluster.objects.apply(create, cluster.now).unwrap_err().reason, "AlreadyExists");
    }
    assert_eq!(cluster.pods().len(), 5);
}

#[test]
fn orphans_are_taken_in_and_misfits_let_go() {
    let mut cluster = cluster();
    cluster.objects.put(REPLICA_SETS, set(2));
    let orphan = json!({"metadata": {"name": "lone", "namespace": "ns", "labels": {"app": "web"}}, "status": {"phase": "Running"}});
    cluster.objects.put(PODS, orphan);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 2);
    let lone = cluster.get(PODS, "lone");
    assert_eq!(object::controller(&lone).unwrap().name, "web");
    assert_eq!(cluster.get(REPLICA_SETS, "web")["status"]["fullyLabeledReplicas"], 1);

    cluster.objects.change(PODS, "ns", "lone", |pod| pod["metadata"]["labels"] = json!({"app": "debug"}));
    cluster.settle();
    assert!(object::controller(&cluster.get(PODS, "lone")).is_none());
    assert_eq!(cluster.pods().len(), 3);
    let keys = |old: &Value, new: &Value| ReplicaSets.keys(&cluster.objects, PODS, Some(old), Some(new));
    let before = json!({"metadata": {"namespace": "ns", "labels": {"app": "debug"}}});
    let after = json!({"metadata": {"namespace": "ns", "labels": {"app": "web"}}});
    assert_eq!(keys(&before, &after), [("ns".to_owned(), "web".to_owned())]);
    assert_eq!(keys(&after, &after), []);
}

/// The owner was deleted with `--cascade=orphan`, but the view does not show it yet.
#[test]
fn an_owner_that_leaves_its_pods_does_not_take_them_back() {
    let mut cluster = cluster();
    cluster.objects.put(REPLICA_SETS, set(1));
    let orphan = json!({"metadata": {"name": "lone", "namespace": "ns", "labels": {"app": "web"}}, "status": {"phase": "Running"}});
    cluster.objects.put(PODS, orphan);
    let stale = cluster.ask(0, &("ns".to_owned(), "web".to_owned()), None);
    cluster.objects.change(REPLICA_SETS, "ns", "web", |set| {
        set["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    });
    cluster.apply(&stale.mutations, usize::MAX);
    assert!(object::controller(&cluster.get(PODS, "lone")).is_none());
}

#[test]
fn a_refused_creation_is_told_and_forgotten_when_it_succeeds() {
    let mut cluster = cluster();
    cluster.objects.put(REPLICA_SETS, set(3));
    cluster.veto = |objects, mutation| match mutation {
        Mutation::Create(resource, _) if objects.list(PODS, "ns").len() == 2 => Some(Status::forbidden(
            resource.group_resource(),
            "web-x",
            "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2",
        )),
        _ => None,
    };
    cluster.round();
    cluster.round();
    let status = &cluster.get(REPLICA_SETS, "web")["status"];
    assert_eq!(status["replicas"], 2);
    let message =
        "pods \"web-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
    assert_eq!(
        conditions::get(status, "ReplicaFailure"),
        Some(&json!({
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "lastTransitionTime": "2026-01-01T12:00:00Z", "message": message,
        }))
    );
    let told = cluster.told();
    assert_eq!(told.last().unwrap(), &("FailedCreate".to_owned(), format!("Error creating: {message}")));
    cluster.veto = |_, _| None;
    cluster.settle();
    assert_eq!(conditions::get(&cluster.get(REPLICA_SETS, "web")["status"], "ReplicaFailure"), None);
    assert_eq!(cluster.pods().len(), 3);
}

#[test]
fn pods_become_available_as_time_goes_by() {
    let mut cluster = cluster();
    let mut set = set(1);
    set["spec"]["minReadySeconds"] = 10.into();
    cluster.objects.put(REPLICA_SETS, set);
    cluster.settle();
    cluster.run_all();
    let again = cluster.settle().expect("it becomes available");
    assert_eq!(again.duration_since(cluster.now).as_secs(), 10);
    assert_eq!(cluster.get(REPLICA_SETS, "web")["status"].get("availableReplicas"), None);
    cluster.pass(10);
    assert_eq!(cluster.settle(), None);
    assert_eq!(cluster.get(REPLICA_SETS, "web")["status"]["availableReplicas"], 1);
}

#[test]
fn no_more_than_a_burst_at_once_and_nothing_for_one_that_goes() {
    let mut cluster = cluster();
    cluster.objects.put(REPLICA_SETS, set(700));
    let key = ("ns".to_owned(), "web".to_owned());
    let creates =
        |outcome: &Outcome| outcome.mutations.iter().filter(|m| matches!(m, Mutation::Create(..))).count();
    assert_eq!(creates(&cluster.ask(0, &key, None)), 500);
    cluster.settle();
    assert_eq!(cluster.pods().len(), 700);
    cluster.objects.change(REPLICA_SETS, "ns", "web", |set| {
        set["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        set["spec"]["replicas"] = 800.into();
    });
    assert_eq!(creates(&cluster.ask(0, &key, None)), 0);
}

#[test]
fn a_replication_controller_does_the_same() {
    let mut cluster = cluster();
    let mut old = set(2);
    old["spec"]["selector"] = json!({"app": "web"});
    cluster.objects.put(REPLICATION_CONTROLLERS, old);
    cluster.settle();
    let pods = cluster.pods();
    assert_eq!(pods.len(), 2);
    let owner = object::controller(&pods[0]).unwrap();
    assert_eq!((owner.api_version, owner.kind), ("v1", "ReplicationController"));
    assert_eq!(
        cluster.get(REPLICATION_CONTROLLERS, "web")["status"],
        json!({"replicas": 2, "fullyLabeledReplicas": 2, "observedGeneration": 1})
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    /// Pods are killed, decisions are carried out in part and again: there are never too many, and in the end there are
    /// as many as wanted.
    #[test]
    fn never_too_many(
        replicas in 1i64..8,
        steps in proptest::collection::vec((0usize..6, any::<prop::sample::Index>(), 0usize..9), 1..80),
    ) {
        let mut cluster = cluster();
        cluster.objects.put(REPLICA_SETS, set(replicas));
        let key = ("ns".to_owned(), "web".to_owned());
        let mut last = None;
        for (act, which, most) in steps {
            let pods = cluster.pods();
            let pod = (!pods.is_empty()).then(|| pods[which.index(pods.len())].clone());
            match (act, pod) {
                (0 | 1, _) => {
                    let outcome = cluster.ask(0, &key, None);
                    cluster.apply(&outcome.mutations, most);
                    last = Some(outcome);
                }
                (2, _) => {
                    if let Some(outcome) = last.take() {
                        cluster.apply(&outcome.mutations, usize::MAX);
                    }
                }
                (3, Some(pod)) => {
                    cluster.objects.remove(PODS, "ns", object::name(&pod));
                    last = None;
                }
                (4, Some(pod)) => cluster.run(object::name(&pod), true),
                (5, Some(pod)) => {
                    let delete = crate::owner::delete(PODS, &pod);
                    let _ = cluster.objects.apply(&delete, cluster.now);
                    last = None;
                }
                _ => cluster.bury(),
            }
            let active = cluster.pods().iter().filter(|pod| crate::pods::is_active(pod)).count();
            prop_assert!(active <= usize::try_from(replicas).unwrap());
        }
        cluster.react();
        prop_assert!(!cluster.round().0);
        let active = cluster.pods().iter().filter(|pod| crate::pods::is_active(pod)).count();
        prop_assert_eq!(active, usize::try_from(replicas).unwrap());
    }
}
