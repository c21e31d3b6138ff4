//! Who makes room for whom.

use serde_json::{Value, json};

use super::{Cluster, asking, merged, on, pod};
use crate::Decision;

fn important(name: &str, cpu: &str, priority: i64) -> Value {
    merged(asking(name, cpu), json!({"spec": {"priority": priority}}))
}

/// The node and the victims, or the message.
fn outcome(cluster: &Cluster, pod: &Value) -> Result<(String, Vec<String>), String> {
    let Decision::Unschedulable(refusal) = cluster.decide(pod) else { panic!("it fits") };
    let preemption = refusal.preemption.ok_or(refusal.message)?;
    Ok((preemption.node, preemption.victims.iter().map(|pod| pod.name.clone()).collect()))
}

fn from(node: &str, victims: &[&str]) -> Result<(String, Vec<String>), String> {
    Ok((node.to_owned(), victims.iter().map(|victim| (*victim).to_owned()).collect()))
}

fn two_nodes() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.node("a", json!({}));
    cluster.node("b", json!({}));
    cluster
}

#[test]
fn as_few_and_as_unimportant_as_possible_go() {
    let mut cluster = two_nodes();
    for (node, pod) in [
        ("a", important("a1", "1", 1)),
        ("a", important("a2", "2", 2)),
        ("a", important("a3", "1", 3)),
        ("b", important("b1", "2", 5)),
        ("b", important("b2", "2", 5)),
    ] {
        cluster.put("pods", on(node, pod));
    }
    assert_eq!(outcome(&cluster, &important("p", "1", 9)), from("a", &["a1"]));
    assert_eq!(outcome(&cluster, &important("p", "2", 9)), from("a", &["a2"]));
    assert_eq!(outcome(&cluster, &important("p", "3", 9)), from("a", &["a2", "a1"]));
    let none = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption \
        victims found for incoming pod.";
    assert_eq!(outcome(&cluster, &important("p", "1", 1)), Err(none.to_owned()));
    let meek = merged(important("p", "1", 9), json!({"spec": {"preemptionPolicy": "Never"}}));
    let never = "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.";
    assert_eq!(outcome(&cluster, &meek), Err(never.to_owned()));
}

#[test]
fn who_runs_longest_stays() {
    let mut cluster = two_nodes();
    for (node, name, time) in [("a", "old", "2026-01-01T00:00:00Z"), ("b", "new", "2026-01-02T00:00:00Z")] {
        let started = json!({"status": {"startTime": time}});
        cluster.put("pods", on(node, merged(important(name, "4", 1), started)));
    }
    assert_eq!(outcome(&cluster, &important("p", "4", 9)), from("b", &["new"]));
}

#[test]
fn budgets_are_kept_where_possible() {
    let mut cluster = two_nodes();
    cluster.put("pods", on("a", important("guarded", "4", 1)));
    let other = json!({"metadata": {"labels": {"app": "other"}}});
    cluster.put("pods", on("b", merged(important("free", "4", 5), other)));
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}});
    let budget = |left: i64| json!({"metadata": {"namespace": "ns", "name": "b"}, "spec": spec, "status": {"disruptionsAllowed": left}});
    cluster.put("poddisruptionbudgets", budget(0));
    assert_eq!(outcome(&cluster, &important("p", "4", 9)), from("b", &["free"]));
    cluster.put("poddisruptionbudgets", budget(1));
    assert_eq!(outcome(&cluster, &important("p", "4", 9)), from("a", &["guarded"]));
}

#[test]
fn nobody_goes_twice() {
    let mut cluster = Cluster::default();
    cluster.node("a", json!({}));
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"});
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": [condition]}});
    cluster.put("pods", on("a", merged(important("leaving", "4", 1), leaving)));
    let waits = merged(important("p", "4", 9), json!({"status": {"nominatedNodeName": "a"}}));
    cluster.put("pods", waits.clone());
    let Decision::Unschedulable(refusal) = cluster.decide(&waits) else { panic!() };
    assert!(refusal.waits && refusal.preemption.is_none());
    assert!(
        refusal.message.ends_with("preemption: not eligible due to a terminating pod on the nominated node.")
    );
}

#[test]
fn anti_affinity_is_a_reason_to_go() {
    let mut cluster = Cluster::default();
    cluster.node("a", json!({}));
    let term =
        json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}});
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
    let away = json!({"spec": {"priority": 9, "affinity": {"podAntiAffinity": required}}});
    cluster.put("pods", on("a", pod("web", json!({}))));
    cluster.put("pods", on("a", pod("other", json!({"metadata": {"labels": {"app": "other"}}}))));
    assert_eq!(outcome(&cluster, &pod("p", away)), from("a", &["web"]));
}
