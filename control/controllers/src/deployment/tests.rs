//! Deployments: texts, steps and bounds.

use proptest::prelude::*;
use proto_kube::Status;
use serde_json::json;

use super::*;
use crate::model::Cluster;
use crate::replicaset::ReplicaSets;
use crate::{Mutation, conditions, pods};

fn cluster(replicas: i64) -> Cluster {
    let mut cluster =
        Cluster::new(vec![(Box::new(Deployments), DEPLOYMENTS), (Box::new(ReplicaSets), REPLICA_SETS)]);
    cluster.objects.put(
        DEPLOYMENTS,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "ns", "uid": "d", "annotations": {"note": "x"}},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "1"}]}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "revisionHistoryLimit": 10,
                "progressDeadlineSeconds": 600,
            },
        }),
    );
    cluster
}

fn edit(cluster: &mut Cluster, how: impl FnOnce(&mut Value)) {
    cluster.objects.change(DEPLOYMENTS, "ns", "web", |deployment| {
        how(&mut deployment["spec"]);
        let generation = deployment["metadata"]["generation"].as_i64().unwrap();
        deployment["metadata"]["generation"] = (generation + 1).into();
    });
}

fn image(cluster: &mut Cluster, image: &str) {
    edit(cluster, |spec| spec["template"]["spec"]["containers"][0]["image"] = image.into());
}

/// Nodes run what there is to run until nothing changes any more.
fn roll_out(cluster: &mut Cluster) {
    for _ in 0..100 {
        cluster.react();
        let before = cluster.objects.clone();
        cluster.run_all();
        cluster.bury();
        if cluster.objects.since(&before).is_empty() {
            assert!(!cluster.round().0, "a change was not understood");
            return;
        }
    }
    panic!("no end");
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(DEPLOYMENTS, "web")["status"].clone()
}

fn condition(cluster: &Cluster, kind: &str) -> (String, String, String) {
    let status = status(cluster);
    let condition = conditions::get(&status, kind).unwrap_or_else(|| panic!("no {kind}: {status}"));
    let [a, b, c] = ["status", "reason", "message"].map(|part| object::text(condition, &[part]).to_owned());
    (a, b, c)
}

/// (image, wanted, revision) by age.
fn sets(cluster: &Cluster) -> Vec<(String, i64, String)> {
    let mut sets = cluster.objects.list(REPLICA_SETS, "ns");
    sets.sort_by_key(|set| object::annotation(set, set::REVISION).map(|r| r.parse::<i64>().unwrap()));
    let one = |set: &std::sync::Arc<Value>| {
        let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        let revision = object::annotation(set, set::REVISION).unwrap().to_owned();
        (image, set["spec"]["replicas"].as_i64().unwrap(), revision)
    };
    sets.iter().map(one).collect()
}

fn set(image: &str, replicas: i64, revision: &str) -> (String, i64, String) {
    (image.to_owned(), replicas, revision.to_owned())
}

fn new_name(cluster: &Cluster, image: &str) -> String {
    let all = cluster.objects.list(REPLICA_SETS, "ns");
    let of = all.iter().find(|set| set["spec"]["template"]["spec"]["containers"][0]["image"] == image);
    object::name(of.unwrap()).to_owned()
}

#[test]
fn the_first_rollout() {
    let mut cluster = cluster(3);
    cluster.settle();
    let name = new_name(&cluster, "1");
    let set = cluster.get(REPLICA_SETS, &name);
    let hash = object::label(&set, "pod-template-hash").unwrap();
    assert_eq!(name, format!("web-{hash}"));
    assert_eq!(set["spec"]["selector"], json!({"matchLabels": {"app": "web", "pod-template-hash": hash}}));
    assert_eq!(set["spec"]["template"]["metadata"]["labels"], set["metadata"]["labels"]);
    assert_eq!(
        set["metadata"]["annotations"],
        json!({
            "note": "x",
            "deployment.kubernetes.io/revision": "1",
            "deployment.kubernetes.io/desired-replicas": "3",
            "deployment.kubernetes.io/max-replicas": "4",
        })
    );
    let deployment = cluster.get(DEPLOYMENTS, "web");
    assert_eq!(object::annotation(&deployment, "deployment.kubernetes.io/revision"), Some("1"));
    let told = cluster.told();
    assert_eq!(
        told[0],
        ("ScalingReplicaSet".to_owned(), format!("Scaled up replica set {name} from 0 to 3"))
    );
    let is = |a: &str, b: &str, c: String| (a.to_owned(), b.to_owned(), c);
    assert_eq!(
        condition(&cluster, "Progressing"),
        is("True", "ReplicaSetUpdated", format!("ReplicaSet \"{name}\" is progressing."))
    );
    assert_eq!(
        condition(&cluster, "Available"),
        is(
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".to_owned()
        )
    );
    let mut now = status(&cluster);
    now.as_object_mut().unwrap().remove("conditions");
    assert_eq!(
        now,
        json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "unavailableReplicas": 3, "terminatingReplicas": 0})
    );
    roll_out(&mut cluster);
    assert_eq!(
        condition(&cluster, "Progressing"),
        is("True", "NewReplicaSetAvailable", format!("ReplicaSet \"{name}\" has successfully progressed."))
    );
    assert_eq!(
        condition(&cluster, "Available"),
        is("True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
    );
    let mut now = status(&cluster);
    now.as_object_mut().unwrap().remove("conditions");
    assert_eq!(
        now,
        json!({
            "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3,
            "availableReplicas": 3, "terminatingReplicas": 0,
        })
    );
}

#[test]
fn an_update_in_steps_and_back_again() {
    let mut cluster = cluster(3);
    roll_out(&mut cluster);
    cluster.told();
    image(&mut cluster, "2");
    roll_out(&mut cluster);
    assert_eq!(sets(&cluster), [set("1", 0, "1"), set("2", 3, "2")]);
    let (old, new) = (new_name(&cluster, "1"), new_name(&cluster, "2"));
    let told: Vec<String> = cluster
        .told()
        .into_iter()
        .filter_map(|(reason, text)| (reason == "ScalingReplicaSet").then_some(text))
        .collect();
    let line = |way: &str, name: &str, from: i64, to: i64| {
        format!("Scaled {way} replica set {name} from {from} to {to}")
    };
    assert_eq!(
        told,
        [
            line("up", &new, 0, 1),
            line("down", &old, 3, 2),
            line("up", &new, 1, 2),
            line("down", &old, 2, 1),
            line("up", &new, 2, 3),
            line("down", &old, 1, 0)
        ]
    );
    image(&mut cluster, "1");
    roll_out(&mut cluster);
    assert_eq!(sets(&cluster), [set("2", 0, "2"), set("1", 3, "3")]);
    let back = cluster.get(REPLICA_SETS, &old);
    assert_eq!(object::annotation(&back, "deployment.kubernetes.io/revision-history"), Some("1"));
    let deployment = cluster.get(DEPLOYMENTS, "web");
    assert_eq!(object::annotation(&deployment, "deployment.kubernetes.io/revision"), Some("3"));
}

#[test]
fn only_so_many_old_sets_are_kept() {
    let mut cluster = cluster(1);
    edit(&mut cluster, |spec| spec["revisionHistoryLimit"] = 2.into());
    for n in 1..=5 {
        image(&mut cluster, &n.to_string());
        roll_out(&mut cluster);
    }
    assert_eq!(sets(&cluster), [set("3", 0, "3"), set("4", 0, "4"), set("5", 1, "5")]);
}

#[test]
fn recreate_waits_until_all_old_pods_are_gone() {
    let mut cluster = cluster(2);
    edit(&mut cluster, |spec| spec["strategy"] = json!({"type": "Recreate"}));
    roll_out(&mut cluster);
    image(&mut cluster, "2");
    cluster.settle();
    assert_eq!(sets(&cluster), [set("1", 0, "1")]);
    let pod = cluster.pods()[0].clone();
    let key = ("ns".to_owned(), "web".to_owned());
    assert_eq!(Deployments.keys(&cluster.objects, PODS, Some(&pod), None), std::slice::from_ref(&key));
    cluster.bury();
    cluster.settle();
    assert_eq!(sets(&cluster), [set("1", 0, "1"), set("2", 2, "2")]);
    roll_out(&mut cluster);
    assert_eq!(condition(&cluster, "Progressing").1, "NewReplicaSetAvailable");
}

#[test]
fn a_pause_holds_the_rollout_but_not_the_scaling() {
    let mut cluster = cluster(4);
    roll_out(&mut cluster);
    edit(&mut cluster, |spec| spec["paused"] = true.into());
    image(&mut cluster, "2");
    roll_out(&mut cluster);
    assert_eq!(sets(&cluster), [set("1", 4, "1")]);
    assert_eq!(
        condition(&cluster, "Progressing"),
        ("Unknown".to_owned(), "DeploymentPaused".to_owned(), "Deployment is paused".to_owned())
    );
    edit(&mut cluster, |spec| spec["replicas"] = 6.into());
    roll_out(&mut cluster);
    assert_eq!(sets(&cluster), [set("1", 6, "1")]);
    edit(&mut cluster, |spec| drop(spec.as_object_mut().unwrap().remove("paused")));
    cluster.round();
    assert!(
        ["DeploymentResumed", "NewReplicaSetCreated"]
            .contains(&condition(&cluster, "Progressing").1.as_str())
    );
    roll_out(&mut cluster);
    assert_eq!(sets(&cluster), [set("1", 0, "1"), set("2", 6, "2")]);
}

#[test]
fn a_new_size_in_the_middle_of_a_rollout_is_shared_out() {
    let mut cluster = cluster(10);
    edit(&mut cluster, |spec| {
        spec["strategy"]["rollingUpdate"] = json!({"maxSurge": 3, "maxUnavailable": 2});
    });
    roll_out(&mut cluster);
    image(&mut cluster, "2");
    // The new pods never become ready.
    cluster.settle();
    assert_eq!(sets(&cluster), [set("1", 8, "1"), set("2", 5, "2")]);
    edit(&mut cluster, |spec| spec["replicas"] = 15.into());
    cluster.round();
    // As in upstream's documentation of proportional scaling.
    assert_eq!(sets(&cluster), [set("1", 11, "1"), set("2", 7, "2")]);
}

#[test]
fn no_progress_is_told_in_time_and_then_progress_again() {
    let mut cluster = cluster(1);
    let again = cluster.settle().unwrap();
    assert_eq!(again.duration_since(cluster.now).as_secs(), 601);
    cluster.pass(601);
    cluster.settle();
    let name = new_name(&cluster, "1");
    assert_eq!(
        condition(&cluster, "Progressing"),
        (
            "False".to_owned(),
            "ProgressDeadlineExceeded".to_owned(),
            format!("ReplicaSet \"{name}\" has timed out progressing.")
        )
    );
    assert_eq!(cluster.settle(), None);
    roll_out(&mut cluster);
    assert_eq!(condition(&cluster, "Progressing").1, "NewReplicaSetAvailable");
}

#[test]
fn broken_old_pods_go_first() {
    let mut cluster = cluster(4);
    roll_out(&mut cluster);
    image(&mut cluster, "bad");
    cluster.settle();
    assert_eq!(sets(&cluster), [set("1", 3, "1"), set("bad", 2, "2")]);
    image(&mut cluster, "good");
    // The broken pods make room at once; three of the first kind stay until new ones are ready.
    cluster.settle();
    assert_eq!(sets(&cluster), [set("1", 3, "1"), set("bad", 0, "2"), set("good", 2, "3")]);
}

#[test]
fn a_set_that_cannot_be_created_is_told() {
    let mut cluster = cluster(1);
    cluster.veto = |_, mutation| match mutation {
        Mutation::Create(resource, _) if resource.plural == "replicasets" => {
            Some(Status::forbidden(resource.group_resource(), "", "no room"))
        }
        _ => None,
    };
    cluster.round();
    let (value, reason, message) = condition(&cluster, "Progressing");
    assert_eq!((value.as_str(), reason.as_str()), ("False", "ReplicaSetCreateError"));
    assert!(message.starts_with("Failed to create new replica set \"web-"), "{message}");
    assert!(message.ends_with(": replicasets.apps is forbidden: no room"), "{message}");
    assert_eq!(cluster.told().last().unwrap(), &(reason, message));
    cluster.veto = |_, _| None;
    roll_out(&mut cluster);
    assert_eq!(condition(&cluster, "Progressing").1, "NewReplicaSetAvailable");
}

#[test]
fn pods_that_cannot_be_created_are_told_by_the_deployment() {
    let mut cluster = cluster(1);
    cluster.veto = |_, mutation| match mutation {
        Mutation::Create(resource, _) if resource.plural == "pods" => {
            Some(Status::forbidden(resource.group_resource(), "p", "no room"))
        }
        _ => None,
    };
    for _ in 0..3 {
        cluster.round();
    }
    assert_eq!(
        condition(&cluster, "ReplicaFailure"),
        ("True".to_owned(), "FailedCreate".to_owned(), "pods \"p\" is forbidden: no room".to_owned())
    );
    cluster.veto = |_, _| None;
    roll_out(&mut cluster);
    assert_eq!(conditions::get(&status(&cluster), "ReplicaFailure"), None);
}

#[test]
fn a_name_that_is_taken_makes_another_hash() {
    let mut cluster = cluster(1);
    cluster.settle();
    let taken = new_name(&cluster, "1");
    cluster.objects.change(REPLICA_SETS, "ns", &taken, |set| {
        set["metadata"]["ownerReferences"] =
            json!([{"kind": "Other", "apiVersion": "x/v1", "uid": "o", "controller": true}]);
    });
    cluster.settle();
    assert_eq!(status(&cluster)["collisionCount"], 1);
    let own = |set: &std::sync::Arc<Value>| owner::controls(DEPLOYMENTS, set).is_some();
    assert_eq!(cluster.objects.list(REPLICA_SETS, "ns").iter().filter(|set| own(set)).count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// Whoever acts next, and whichever pods are ready soon or late: there are never more pods than the surge allows,
    /// never fewer available ones than must be, and the rollout ends.
    #[test]
    fn a_rollout_keeps_its_bounds(
        replicas in 1i64..9, surge in 0i64..4, missing in 0i64..4, min_ready in 0i64..4,
        steps in proptest::collection::vec((0usize..8, any::<prop::sample::Index>()), 10..150),
    ) {
        let missing = if surge == 0 && missing == 0 { 1 } else { missing };
        let mut cluster = cluster(replicas);
        edit(&mut cluster, |spec| {
            spec["strategy"]["rollingUpdate"] = json!({"maxSurge": surge, "maxUnavailable": missing});
            spec["minReadySeconds"] = min_ready.into();
        });
        roll_out(&mut cluster);
        cluster.pass(10);
        cluster.settle();
        image(&mut cluster, "2");
        let mut images = 2;
        for (act, which) in steps {
            match act {
                0 | 1 => {
                    cluster.round();
                }
                2 => cluster.pass(1),
                3 => cluster.bury(),
                4 if images < 4 => {
                    images += 1;
                    image(&mut cluster, &images.to_string());
                }
                5 => {
                    // One controller gets only so far with what it wants.
                    let at = which.index(2);
                    for object in cluster.objects.list(cluster.controllers[at].1, "") {
                        let outcome = cluster.ask(at, &owner::key(&object), None);
                        cluster.apply(&outcome.mutations, which.index(4));
                    }
                }
                _ => {
                    let waiting: Vec<_> = cluster
                        .pods()
                        .into_iter()
                        .filter(|pod| pods::is_active(pod) && !pod::is_ready(pod))
                        .collect();
                    if !waiting.is_empty() {
                        let name = object::name(&waiting[which.index(waiting.len())]).to_owned();
                        cluster.run(&name, true);
                    }
                }
            }
            let pods = cluster.pods();
            let active: Vec<_> = pods.iter().filter(|pod| pods::is_active(pod)).collect();
            let available = active
                .iter()
                .filter(|pod| pods::available_from(pod, min_ready).is_some_and(|from| from <= cluster.now))
                .count();
            prop_assert!(active.len() <= usize::try_from(replicas + surge).unwrap(), "too many: {}", active.len());
            prop_assert!(
                available >= usize::try_from((replicas - missing).max(0)).unwrap(), "too few: {available}"
            );
        }
        for _ in 0..40 {
            roll_out(&mut cluster);
            cluster.pass(min_ready);
        }
        let (image, wanted, _) = sets(&cluster).pop().unwrap();
        prop_assert_eq!((image, wanted), (images.to_string(), replicas));
        prop_assert_eq!(condition(&cluster, "Progressing").1, "NewReplicaSetAvailable");
    }
}
