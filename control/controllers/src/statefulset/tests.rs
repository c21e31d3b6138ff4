//! StatefulSets: order, partitions, claims.

use proptest::prelude::*;
use proto_kube::pod;

use super::*;
use crate::model::Cluster;

fn cluster(spec: &Value) -> Cluster {
    let mut cluster = Cluster::new(vec![(Box::new(StatefulSets), STATEFUL_SETS)]);
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "ns", "uid": "s"},
        "spec": {
            "replicas": 3, "serviceName": "db", "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "1"}]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
        "status": {"replicas": 0},
    });
    for (key, value) in spec.as_object().unwrap() {
        set["spec"][key] = value.clone();
    }
    cluster.objects.put(STATEFUL_SETS, set);
    cluster
}

fn edit(cluster: &mut Cluster, how: impl FnOnce(&mut Value)) {
    cluster.objects.change(STATEFUL_SETS, "ns", "db", |set| {
        how(&mut set["spec"]);
        set["metadata"]["generation"] = (set["metadata"]["generation"].as_i64().unwrap() + 1).into();
    });
}

fn image(cluster: &mut Cluster, image: &str) {
    edit(cluster, |spec| spec["template"]["spec"]["containers"][0]["image"] = image.into());
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(STATEFUL_SETS, "db")["status"].clone()
}

/// Names with images, of those that are not going.
fn pods(cluster: &Cluster) -> Vec<String> {
    let one = |pod: &Arc<Value>| {
        format!("{}:{}", object::name(pod), pod["spec"]["containers"][0]["image"].as_str().unwrap())
    };
    cluster.pods().iter().filter(|pod| crate::pods::is_active(pod)).map(one).collect()
}

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

#[test]
fn pods_come_in_order_and_go_in_the_opposite_one() {
    let mut cluster = cluster(&json!({}));
    cluster.settle();
    assert_eq!(pods(&cluster), ["db-0:1"]);
    let pod = cluster.get(PODS, "db-0");
    assert_eq!(pod["spec"]["hostname"], "db-0");
    assert_eq!(pod["spec"]["subdomain"], "db");
    let revision = object::name(&cluster.objects.list(REVISIONS, "ns")[0]).to_owned();
    assert_eq!(
        pod["metadata"]["labels"],
        json!({
            "app": "db", "statefulset.kubernetes.io/pod-name": "db-0", "apps.kubernetes.io/pod-index": "0",
            "controller-revision-hash": revision,
        })
    );
    let told = cluster.told();
    let text = "Create Pod db-0 in StatefulSet db successful".to_owned();
    assert_eq!(told, [("SuccessfulCreate".to_owned(), text)]);
    cluster.run("db-0", true);
    cluster.settle();
    assert_eq!(pods(&cluster), ["db-0:1", "db-1:1"]);
    roll_out(&mut cluster);
    assert_eq!(
        status(&cluster),
        json!({
            "observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 3,
            "updatedReplicas": 3, "currentRevision": revision, "updateRevision": revision, "collisionCount": 0,
        })
    );
    edit(&mut cluster, |spec| spec["replicas"] = 1.into());
    cluster.settle();
    assert_eq!(pods(&cluster), ["db-0:1", "db-1:1"]);
    roll_out(&mut cluster);
    assert_eq!(pods(&cluster), ["db-0:1"]);

    let mut cluster = self::cluster(&json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 5}}));
    cluster.settle();
    assert_eq!(pods(&cluster), ["db-5:1", "db-6:1", "db-7:1"]);
}

#[test]
fn a_pod_comes_back_under_its_name() {
    let mut cluster = cluster(&json!({}));
    roll_out(&mut cluster);
    let uid = object::uid(&cluster.get(PODS, "db-1")).to_owned();
    cluster.objects.change(PODS, "ns", "db-1", |pod| pod["status"] = json!({"phase": "Failed"}));
    roll_out(&mut cluster);
    assert_ne!(object::uid(&cluster.get(PODS, "db-1")), uid);
    assert_eq!(pods(&cluster).len(), 3);
}

#[test]
fn an_update_begins_at_the_end_and_stops_at_the_partition() {
    let mut cluster = cluster(&json!({}));
    roll_out(&mut cluster);
    let old = status(&cluster)["currentRevision"].clone();
    edit(&mut cluster, |spec| spec["updateStrategy"]["rollingUpdate"]["partition"] = 1.into());
    image(&mut cluster, "2");
    cluster.settle();
    assert_eq!(pods(&cluster), ["db-0:1", "db-1:1"]);
    roll_out(&mut cluster);
    assert_eq!(pods(&cluster), ["db-0:1", "db-1:2", "db-2:2"]);
    let now = status(&cluster);
    assert_eq!(
        (&now["currentRevision"], &now["currentReplicas"], &now["updatedReplicas"]),
        (&old, &1.into(), &2.into())
    );
    // A pod below the partition comes back as it was.
    cluster.objects.remove(PODS, "ns", "db-0");
    roll_out(&mut cluster);
    assert_eq!(pods(&cluster)[0], "db-0:1");
    edit(&mut cluster, |spec| spec["updateStrategy"]["rollingUpdate"]["partition"] = 0.into());
    roll_out(&mut cluster);
    assert_eq!(pods(&cluster), ["db-0:2", "db-1:2", "db-2:2"]);
    let now = status(&cluster);
    assert_eq!(now["currentRevision"], now["updateRevision"]);
    for n in ["3", "4"] {
        image(&mut cluster, n);
        roll_out(&mut cluster);
    }
    assert_eq!(cluster.objects.list(REVISIONS, "ns").len(), 2);

    let mut cluster = self::cluster(&json!({"updateStrategy": {"type": "OnDelete"}}));
    roll_out(&mut cluster);
    image(&mut cluster, "2");
    roll_out(&mut cluster);
    assert_eq!(pods(&cluster), ["db-0:1", "db-1:1", "db-2:1"]);
}

#[test]
fn claims_outlive_pods_unless_the_set_says_otherwise() {
    let template = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let mut cluster = cluster(&json!({"volumeClaimTemplates": template, "replicas": 2}));
    roll_out(&mut cluster);
    let claim = cluster.get(CLAIMS, "data-db-1");
    assert_eq!(claim["metadata"]["labels"], json!({"app": "db"}));
    assert_eq!(
        cluster.get(PODS, "db-1")["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}])
    );
    assert_eq!(cluster.told()[0].1, "Create Claim data-db-0 Pod db-0 in StatefulSet db success");
    edit(&mut cluster, |spec| spec["replicas"] = 1.into());
    roll_out(&mut cluster);
    assert_eq!(cluster.objects.list(CLAIMS, "ns").len(), 2);
    assert_eq!(cluster.get(CLAIMS, "data-db-1")["metadata"].get("ownerReferences"), None);

    edit(&mut cluster, |spec| {
        spec["replicas"] = 2.into();
        spec["persistentVolumeClaimRetentionPolicy"] =
            json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    });
    roll_out(&mut cluster);
    let owner = |cluster: &Cluster| {
        cluster.get(CLAIMS, "data-db-1")["metadata"]["ownerReferences"][0]["kind"].clone()
    };
    assert_eq!(owner(&cluster), "StatefulSet");
    edit(&mut cluster, |spec| spec["replicas"] = 1.into());
    cluster.settle();
    assert_eq!(owner(&cluster), "Pod");
    cluster.bury();
    edit(&mut cluster, |spec| spec["replicas"] = 2.into());
    cluster.settle();
    // The claim goes with the pod that is gone; the next pod waits for its end.
    assert_eq!(pods(&cluster), ["db-0:1"]);
    let claim = cluster.objects.remove(CLAIMS, "ns", "data-db-1").unwrap();
    assert_eq!(
        StatefulSets.keys(&cluster.objects, CLAIMS, Some(&claim), None),
        [("ns".to_owned(), "db".to_owned())]
    );
    roll_out(&mut cluster);
    assert_eq!(pods(&cluster), ["db-0:1", "db-1:1"]);
}

#[test]
fn a_claim_that_is_deleted_is_made_again() {
    let template = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let mut cluster = cluster(&json!({"volumeClaimTemplates": template, "replicas": 2}));
    roll_out(&mut cluster);
    // A pod that waits for a node gets its claim back, and stays as it is.
    cluster.objects.change(PODS, "ns", "db-1", |pod| {
        pod["status"] = json!({"phase": "Pending"});
        pod["spec"].as_object_mut().unwrap().remove("nodeName");
    });
    cluster.react();
    let pod = cluster.get(PODS, "db-1");
    let old = cluster.objects.remove(CLAIMS, "ns", "data-db-1").unwrap();
    cluster.react();
    let new = cluster.get(CLAIMS, "data-db-1");
    assert_ne!(object::uid(&new), object::uid(&old));
    assert_eq!(new["metadata"]["labels"], json!({"app": "db"}));
    assert_eq!(cluster.get(PODS, "db-1"), pod);
    assert!(!cluster.round().0);

    // No pod is made for a claim that goes.
    let go = |claim: &mut Value| claim["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z".into();
    assert!(cluster.objects.change(CLAIMS, "ns", "data-db-1", go));
    cluster.objects.remove(PODS, "ns", "db-1");
    cluster.react();
    assert_eq!(pods(&cluster), ["db-0:1"]);
    cluster.objects.remove(CLAIMS, "ns", "data-db-1");
    cluster.react();
    assert_eq!(pods(&cluster), ["db-0:1", "db-1:1"]);
    assert!(!object::is_terminating(&cluster.get(CLAIMS, "data-db-1")));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever happens first: an update takes one pod at a time and leaves alone what is below the partition, a pod
    /// comes only when all before it are ready, and the update ends.
    #[test]
    fn an_update_goes_in_order(
        replicas in 1usize..6, partition in 0usize..6,
        steps in proptest::collection::vec((0usize..7, any::<prop::sample::Index>()), 10..100),
    ) {
        let mut cluster = cluster(&json!({
            "replicas": replicas,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
        }));
        roll_out(&mut cluster);
        image(&mut cluster, "2");
        for (act, which) in steps {
            let before = cluster.objects.clone();
            match act {
                0 | 1 => {
                    cluster.round();
                }
                2 => cluster.bury(),
                3 => {
                    let outcome = cluster.ask(0, &("ns".to_owned(), "db".to_owned()), None);
                    cluster.apply(&outcome.mutations, which.index(4));
                }
                _ => {
                    let pods = cluster.pods();
                    let waiting: Vec<_> =
                        pods.iter().filter(|p| crate::pods::is_active(p) && !pod::is_ready(p)).collect();
                    if !waiting.is_empty() {
                        let name = object::name(waiting[which.index(waiting.len())]).to_owned();
                        cluster.run(&name, true);
                    }
                }
            }
            let pods = cluster.pods();
            let up = |place: usize| {
                let name = format!("db-{place}");
                pods.iter().any(|p| object::name(p) == name && crate::pods::is_active(p) && pod::is_ready(p))
            };
            let down = (0..replicas).filter(|place| !up(*place)).count();
            prop_assert!(down <= 1, "down: {down}");
            for place in (0..replicas).filter(|place| {
                let name = format!("db-{place}");
                before.get(PODS, "ns", &name).is_none() && cluster.objects.get(PODS, "ns", &name).is_some()
            }) {
                prop_assert!((0..place).all(up), "db-{place} came too early");
            }
        }
        for _ in 0..10 {
            roll_out(&mut cluster);
        }
        let expected: Vec<String> =
            (0..replicas).map(|place| format!("db-{place}:{}", if place < partition { 1 } else { 2 })).collect();
        prop_assert_eq!(self::pods(&cluster), expected);
    }
}
