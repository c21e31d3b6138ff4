//! DaemonSets: texts and bounds.

use proptest::prelude::*;

use super::*;
use crate::model::Cluster;

fn cluster(nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(vec![(Box::new(DaemonSets::default()), DAEMON_SETS)]);
    for n in 0..nodes {
        cluster
            .objects
            .put(NODES, json!({"metadata": {"name": format!("n{n}"), "labels": {"n": n.to_string()}}}));
    }
    cluster.objects.put(
        DAEMON_SETS,
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "log", "namespace": "ns", "uid": "ds",
                "annotations": {"deprecated.daemonset.template.generation": "1"}},
            "spec": {
                "selector": {"matchLabels": {"app": "log"}},
                "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "c", "image": "1"}]}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
                "revisionHistoryLimit": 2,
            },
            "status": {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0},
        }),
    );
    cluster
}

fn edit(cluster: &mut Cluster, how: impl FnOnce(&mut Value)) {
    cluster.objects.change(DAEMON_SETS, "ns", "log", |set| {
        how(&mut set["spec"]);
        let generation = set["metadata"]["generation"].as_i64().unwrap() + 1;
        set["metadata"]["generation"] = generation.into();
        set["metadata"]["annotations"]["deprecated.daemonset.template.generation"] =
            generation.to_string().into();
    });
}

fn image(cluster: &mut Cluster, image: &str) {
    edit(cluster, |spec| spec["template"]["spec"]["containers"][0]["image"] = image.into());
}

/// The scheduler and the nodes do their part.
fn schedule(cluster: &mut Cluster) {
    for pod in cluster.pods().iter().filter(|pod| pod["spec"].get("nodeName").is_none()) {
        let node = node::target(pod).unwrap().to_owned();
        cluster.objects.change(PODS, "ns", object::name(pod), |pod| pod["spec"]["nodeName"] = node.into());
    }
}

fn roll_out(cluster: &mut Cluster) {
    for _ in 0..100 {
        cluster.react();
        let before = cluster.objects.clone();
        schedule(cluster);
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
    cluster.get(DAEMON_SETS, "log")["status"].clone()
}

fn images(cluster: &Cluster) -> Vec<(String, String)> {
    let one = |pod: &Arc<Value>| {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        (node::target(pod).unwrap().to_owned(), image)
    };
    let mut all: Vec<_> = cluster.pods().iter().filter(|pod| pods::is_active(pod)).map(one).collect();
    all.sort();
    all
}

fn on(node: &str, image: &str) -> (String, String) {
    (node.to_owned(), image.to_owned())
}

#[test]
fn a_pod_for_each_node() {
    let mut cluster = cluster(2);
    cluster.settle();
    assert_eq!(
        status(&cluster),
        json!({
            "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 0,
            "updatedNumberScheduled": 2, "numberUnavailable": 2, "observedGeneration": 1,
        })
    );
    let pod = cluster.pods()[0].clone();
    let revision = cluster.objects.list(REVISIONS, "ns")[0].clone();
    let hash = object::label(&revision, "controller-revision-hash").unwrap();
    assert_eq!(object::name(&revision), format!("log-{hash}"));
    assert_eq!(revision["revision"], 1);
    assert_eq!(revision["data"]["spec"]["template"]["$patch"], "replace");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "log", "controller-revision-hash": hash, "pod-template-generation": "1"})
    );
    assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 6);
    assert!(object::text(&pod, &["spec", "nodeName"]).is_empty());
    roll_out(&mut cluster);
    assert_eq!(status(&cluster)["numberAvailable"], 2);
    assert_eq!(status(&cluster).get("numberUnavailable"), None);
    let told = cluster.told();
    assert!(told[0].1.starts_with("Created pod: log-"));

    cluster.objects.put(NODES, json!({"metadata": {"name": "n9"}}));
    cluster.objects.remove(NODES, "", "n0");
    roll_out(&mut cluster);
    // What is on a node that is gone is left to the collector of pods.
    assert_eq!(images(&cluster), [on("n0", "1"), on("n1", "1"), on("n9", "1")]);
    assert_eq!(status(&cluster)["desiredNumberScheduled"], 2);
}

#[test]
fn nodes_that_are_not_fit() {
    let mut cluster = cluster(4);
    let taint = |effect: &str| json!([{"key": "k", "effect": effect}]);
    for (node, effect) in [("n1", "NoSchedule"), ("n2", "NoExecute"), ("n3", "PreferNoSchedule")] {
        cluster.objects.change(NODES, "", node, |node| node["spec"] = json!({"taints": taint(effect)}));
    }
    cluster.objects.put(
        NODES,
        json!({
            "metadata": {"name": "cordoned"},
            "spec": {"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]},
        }),
    );
    roll_out(&mut cluster);
    assert_eq!(images(&cluster), [on("cordoned", "1"), on("n0", "1"), on("n3", "1")]);
    // A taint that comes later lets the pod stay, unless it says otherwise.
    cluster.objects.change(NODES, "", "n0", |node| node["spec"] = json!({"taints": taint("NoSchedule")}));
    cluster.objects.change(NODES, "", "n3", |node| node["spec"] = json!({"taints": taint("NoExecute")}));
    roll_out(&mut cluster);
    assert_eq!(images(&cluster), [on("cordoned", "1"), on("n0", "1")]);
    assert_eq!(status(&cluster)["numberMisscheduled"], 1);
    cluster.objects.change(NODES, "", "n0", |node| node["spec"] = json!({}));
    edit(&mut cluster, |spec| spec["template"]["spec"]["nodeSelector"] = json!({"n": "0"}));
    roll_out(&mut cluster);
    assert_eq!(images(&cluster), [on("n0", "1")]);
}

#[test]
fn an_update_takes_one_node_after_the_other_and_keeps_history() {
    let mut cluster = cluster(3);
    roll_out(&mut cluster);
    image(&mut cluster, "2");
    cluster.settle();
    let deleted = || 1;
    assert_eq!(cluster.pods().iter().filter(|pod| object::is_terminating(pod)).count(), deleted());
    roll_out(&mut cluster);
    assert_eq!(images(&cluster), [on("n0", "2"), on("n1", "2"), on("n2", "2")]);
    for n in ["3", "4", "5"] {
        image(&mut cluster, n);
        roll_out(&mut cluster);
    }
    let revisions = |cluster: &Cluster| -> Vec<i64> {
        let all = cluster.objects.list(REVISIONS, "ns");
        let mut all: Vec<i64> = all.iter().map(|r| r["revision"].as_i64().unwrap()).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(revisions(&cluster), [3, 4, 5]);
    // Back to an old template: its revision becomes the newest.
    image(&mut cluster, "4");
    roll_out(&mut cluster);
    assert_eq!(revisions(&cluster), [3, 5, 6]);
    assert_eq!(status(&cluster)["updatedNumberScheduled"], 3);
}

#[test]
fn a_revision_that_is_made_calls_nobody_and_one_that_goes_does() {
    let mut cluster = cluster(1);
    roll_out(&mut cluster);
    let revision = cluster.objects.list(REVISIONS, "ns")[0].clone();
    let called = |old, new| DaemonSets::default().keys(&cluster.objects, REVISIONS, old, new).len();
    assert_eq!(called(None, Some(&revision)), 0);
    assert_eq!(called(Some(&revision), None), 1);
    let mut orphan = (*revision).clone();
    object::metadata(&mut orphan).remove("ownerReferences");
    assert_eq!(called(None, Some(&orphan)), 1);
}

#[test]
fn on_delete_leaves_the_pods_to_people() {
    let mut cluster = cluster(2);
    edit(&mut cluster, |spec| spec["updateStrategy"] = json!({"type": "OnDelete"}));
    roll_out(&mut cluster);
    image(&mut cluster, "2");
    roll_out(&mut cluster);
    assert_eq!(images(&cluster), [on("n0", "1"), on("n1", "1")]);
    assert_eq!(status(&cluster).get("updatedNumberScheduled"), None);
    let first = object::name(&cluster.pods()[0]).to_owned();
    cluster.objects.remove(PODS, "ns", &first);
    roll_out(&mut cluster);
    assert_eq!(status(&cluster)["updatedNumberScheduled"], 1);
}

#[test]
fn a_failed_pod_is_replaced_ever_more_slowly() {
    let mut cluster = cluster(1);
    roll_out(&mut cluster);
    let fail = |cluster: &mut Cluster| {
        let name = object::name(&cluster.pods()[0]).to_owned();
        cluster.objects.change(PODS, "ns", &name, |pod| pod["status"] = json!({"phase": "Failed"}));
        name
    };
    cluster.told();
    let first = fail(&mut cluster);
    roll_out(&mut cluster);
    let text = format!("Found failed daemon pod ns/{first} on node n0, will try to kill it");
    assert_eq!(cluster.told()[0], ("FailedDaemonPod".to_owned(), text));
    let second = fail(&mut cluster);
    let again = cluster.settle().unwrap();
    assert_eq!(again.duration_since(cluster.now).as_secs(), 1);
    assert_eq!(object::name(&cluster.pods()[0]), second);
    cluster.pass(1);
    roll_out(&mut cluster);
    assert_ne!(object::name(&cluster.pods()[0]), second);
    fail(&mut cluster);
    assert_eq!(cluster.settle().unwrap().duration_since(cluster.now).as_secs(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever happens first: no node has more pods than it may, no more nodes than allowed are without an available
    /// one, and the update ends.
    #[test]
    fn an_update_keeps_its_bounds(
        nodes in 1usize..6, surge in 0i64..3, missing in 1i64..3,
        steps in proptest::collection::vec((0usize..8, any::<prop::sample::Index>()), 10..100),
    ) {
        let missing = if surge > 0 { 0 } else { missing };
        let mut cluster = cluster(nodes);
        edit(&mut cluster, |spec| {
            spec["updateStrategy"]["rollingUpdate"] = json!({"maxSurge": surge, "maxUnavailable": missing});
        });
        roll_out(&mut cluster);
        image(&mut cluster, "2");
        for (act, which) in steps {
            match act {
                0 | 1 => {
                    cluster.round();
                }
                2 => schedule(&mut cluster),
                3 => cluster.bury(),
                4 => {
                    let outcome = cluster.ask(0, &("ns".to_owned(), "log".to_owned()), None);
                    cluster.apply(&outcome.mutations, which.index(4));
                }
                _ => {
                    let pods = cluster.pods();
                    let waiting: Vec<_> = pods
                        .iter()
                        .filter(|p| pods::is_active(p) && !pod::is_ready(p) && p["spec"].get("nodeName").is_some())
                        .collect();
                    if !waiting.is_empty() {
                        let name = object::name(waiting[which.index(waiting.len())]).to_owned();
                        cluster.run(&name, true);
                    }
                }
            }
            let pods = cluster.pods();
            let active: Vec<_> = pods.iter().filter(|pod| pods::is_active(pod)).collect();
            let on = |node: usize| active.iter().filter(move |p| node::target(p) == Some(&format!("n{node}"))).count();
            let doubled = (0..nodes).filter(|n| on(*n) > 1).count();
            prop_assert!((0..nodes).all(|n| on(n) <= 2));
            prop_assert!(doubled <= usize::try_from(surge).unwrap(), "doubled: {doubled}");
            let up = |n: usize| active.iter().any(|p| node::target(p) == Some(&format!("n{n}")) && pod::is_ready(p));
            let down = (0..nodes).filter(|n| !up(*n)).count();
            prop_assert!(down <= usize::try_from(missing).unwrap(), "down: {down}");
        }
        for _ in 0..30 {
            roll_out(&mut cluster);
        }
        prop_assert!(images(&cluster).iter().all(|(_, image)| image == "2"));
        prop_assert_eq!(images(&cluster).len(), nodes);
    }
}
