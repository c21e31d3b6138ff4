//! Nodes that die, come back, and seem to die because a clock jumps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proto_kube::object;

use super::*;
use crate::driven::Driven;
use crate::resources::{LEASES, NODES};
use crate::{Key, World};

fn cluster(nodes: usize) -> Driven {
    let mut driven = Driven::new(all());
    for n in 0..nodes {
        let name = format!("n{n}");
        driven.objects.put(
            NODES,
            json!({"kind": "Node", "metadata": {"name": name}, "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T12:00:00Z"}]}}),
        );
        renew(&mut driven, n, 0);
        for p in 0..2 {
            driven.objects.put(PODS, json!({"kind": "Pod", "metadata": {"name": format!("p{n}-{p}"), "namespace": "ns"},
                "spec": {"nodeName": name, "tolerations": [
                    {"key": taints::UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                    {"key": taints::NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}));
        }
    }
    driven
}

/// The time in a lease is its node's: it may be anything, as long as it changes.
fn renew(driven: &mut Driven, node: usize, time: i64) {
    let name = format!("n{node}");
    driven.objects.put(
        LEASES,
        json!({"metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": name, "renewTime": format!("t{time}")}}),
    );
}

/// Lets time pass while these nodes renew their leases.
fn live(driven: &mut Driven, nodes: &[usize], seconds: i64) {
    for _ in 0..seconds / 10 {
        for node in nodes {
            let lease = driven.get(LEASES, "kube-node-lease", &format!("n{node}")).unwrap();
            let time = object::text(&lease, &["spec", "renewTime"])[1..].parse::<i64>().unwrap();
            renew(driven, *node, time + 1);
        }
        driven.pass(10);
    }
}

fn ready(driven: &Driven, node: usize) -> String {
    status(&driven.get(NODES, "", &format!("n{node}")).unwrap(), "Ready").to_owned()
}

fn keys(driven: &Driven, node: usize) -> BTreeSet<String> {
    let node = driven.get(NODES, "", &format!("n{node}")).unwrap();
    taints::of(&node)
        .map(|t| {
            format!(
                "{}:{}",
                object::text(t, &["key"]).trim_start_matches("node.kubernetes.io/"),
                object::text(t, &["effect"])
            )
        })
        .collect()
}

fn pods_of(driven: &Driven, node: usize) -> usize {
    let pods = driven.objects.list(PODS, "ns");
    pods.iter().filter(|p| p["spec"]["nodeName"] == format!("n{node}") && !object::is_terminating(p)).count()
}

use proto_kube::view::View as _;

#[test]
fn a_silent_node_is_given_up_and_welcomed_back() {
    let mut driven = cluster(3);
    live(&mut driven, &[0, 1, 2], 60);
    assert_eq!((ready(&driven, 2).as_str(), keys(&driven, 2).len()), ("True", 0));
    live(&mut driven, &[0, 1], 60);
    assert_eq!(ready(&driven, 2), "Unknown");
    assert_eq!(
        keys(&driven, 2),
        BTreeSet::from(["unreachable:NoExecute".to_owned(), "unreachable:NoSchedule".to_owned()])
    );
    let pod = driven.get(PODS, "ns", "p2-0").unwrap();
    assert!(!proto_kube::pod::is_ready(&pod));
    assert_eq!(pods_of(&driven, 2), 2, "they are borne with for five minutes");
    live(&mut driven, &[0, 1], 300);
    assert_eq!((pods_of(&driven, 2), pods_of(&driven, 0)), (0, 2));
    let pod = driven.get(PODS, "ns", "p2-0").unwrap();
    let why = proto_kube::pod::condition(&pod, "DisruptionTarget").unwrap();
    assert_eq!(why["reason"], "DeletionByTaintManager");
    // Its agent is back.
    driven.objects.change(NODES, "", "n2", |node| {
        node["status"]["conditions"] =
            json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "later"}]);
    });
    live(&mut driven, &[0, 1, 2], 20);
    assert!(keys(&driven, 2).is_empty());
    let told: Vec<&str> = driven.objects.told.iter().map(|(_, _, reason, _)| *reason).collect();
    for reason in ["RegisteredNode", "NodeNotReady", "TaintManagerEviction"] {
        assert!(told.contains(&reason), "{reason}");
    }
}

#[test]
fn when_all_are_silent_nobody_is_driven_away() {
    let mut driven = cluster(3);
    live(&mut driven, &[0, 1, 2], 20);
    driven.pass(1000);
    for node in 0..3 {
        assert_eq!(ready(&driven, node), "Unknown");
        assert_eq!(keys(&driven, node), BTreeSet::from(["unreachable:NoSchedule".to_owned()]));
        assert_eq!(pods_of(&driven, node), 2);
    }
    // One is back: the others have their time.
    driven.objects.change(NODES, "", "n0", |node| {
        node["status"]["conditions"] =
            json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "later"}]);
    });
    live(&mut driven, &[0], 20);
    assert!(keys(&driven, 0).is_empty());
}

#[test]
fn conditions_and_cordons_become_taints() {
    let mut driven = cluster(1);
    driven.objects.change(NODES, "", "n0", |node| {
        node["spec"] = json!({"unschedulable": true, "taints": [{"key": "mine", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/pid-pressure", "effect": "NoSchedule"}]});
        let more = json!({"type": "DiskPressure", "status": "True"});
        node["status"]["conditions"].as_array_mut().unwrap().push(more);
    });
    driven.settle();
    assert_eq!(
        keys(&driven, 0),
        ["disk-pressure", "mine", "unschedulable"].map(|k| format!("{k}:NoSchedule")).into()
    );
}

#[test]
fn pods_of_a_node_that_is_gone_go() {
    let mut driven = cluster(2);
    live(&mut driven, &[0, 1], 20);
    driven.objects.remove(NODES, "", "n1");
    live(&mut driven, &[0], 30);
    assert_eq!(pods_of(&driven, 1), 2, "it may come back");
    live(&mut driven, &[0], 30);
    assert_eq!((pods_of(&driven, 1), pods_of(&driven, 0)), (0, 2));
    assert!(driven.get(PODS, "ns", "p1-0").is_none());
}

#[test]
fn tolerations_are_read_as_upstream_reads_them() {
    let node = json!({"spec": {"taints": [{"key": "a", "value": "1", "effect": "NoExecute"}, {"key": "b", "effect": "NoSchedule"}]}});
    let two = json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}]}});
    for (node, tolerations, expected) in [
        (&node, json!([]), Some(0)),
        (&node, json!([{"operator": "Exists"}]), None),
        (&node, json!([{"key": "a", "value": "1"}]), None),
        (&node, json!([{"key": "a", "value": "2"}]), Some(0)),
        (&node, json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]), Some(0)),
        (
            &node,
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 5}, {"operator": "Exists", "tolerationSeconds": 3}]),
            Some(3),
        ),
        (&node, json!([{"key": "a", "operator": "Exists", "tolerationSeconds": -1}]), Some(0)),
        (&two, json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 5}]), Some(0)),
        (
            &two,
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 5}, {"key": "b", "operator": "Exists"}]),
            Some(5),
        ),
    ] {
        let pod = json!({"spec": {"tolerations": tolerations}});
        assert_eq!(taints::tolerated(&pod, node), expected, "{tolerations}");
    }
}

/// A range of which nobody knows whether its node has got it is not given to another one.
#[test]
fn a_range_on_its_way_is_taken() {
    let mut driven = Driven::new(Vec::new());
    driven.facts.pod_cidrs = vec![("10.0.0.0/20".to_owned(), 24)];
    let controller = cidr::PodCidrs::default();
    let decide = |driven: &Driven| {
        let world = World { view: &driven.objects, facts: &driven.facts, now: driven.now, refused: None };
        let given = |mutation: Mutation| match mutation {
            Mutation::Merge(_, (_, node), _, patch) => Some((node, patch["spec"]["podCIDR"].clone())),
            _ => None,
        };
        let out = controller.reconcile(&world, &Key::default());
        out.mutations.into_iter().filter_map(given).collect::<BTreeMap<_, _>>()
    };
    driven.objects.put(NODES, json!({"kind": "Node", "metadata": {"name": "n1"}}));
    let first = decide(&driven);
    driven.objects.put(NODES, json!({"kind": "Node", "metadata": {"name": "n0"}}));
    let both = decide(&driven);
    assert_eq!(first["n1"], both["n1"]);
    assert_ne!(both["n0"], both["n1"]);
    assert_eq!(decide(&driven), both);
    // A node that is gone gets nothing any more.
    driven.objects.remove(NODES, "", "n1");
    decide(&driven);
    driven.objects.put(NODES, json!({"kind": "Node", "metadata": {"name": "n2"}}));
    assert_eq!(decide(&driven)["n0"], both["n0"]);
}

proptest! {
    /// A healthy cluster stays as it is, whatever the time of day does; and with it silence is still noticed.
    #[test]
    fn no_jump_of_the_clock_kills_a_node(jumps in prop::collection::vec((-100_000_i64..100_000, 1..5_i64), 1..8)) {
        let mut driven = cluster(3);
        live(&mut driven, &[0, 1, 2], 20);
        for (jump, tens) in jumps {
            driven.now = driven.now.checked_add(jiff::SignedDuration::from_secs(jump)).unwrap();
            // Whoever waits is woken by how much time passes, not by what the clock shows.
            let now = driven.now;
            driven.queue.values_mut().for_each(|at| *at = now);
            live(&mut driven, &[0, 1, 2], tens * 10);
            for node in 0..3 {
                prop_assert_eq!(ready(&driven, node), "True");
                prop_assert!(keys(&driven, node).is_empty());
                prop_assert_eq!(pods_of(&driven, node), 2);
            }
        }
        live(&mut driven, &[0, 1], 60);
        prop_assert_eq!(ready(&driven, 2), "Unknown");
    }

    /// No two nodes ever have the same range, whichever come and go; and what they have stays theirs.
    #[test]
    fn no_range_is_given_twice(steps in prop::collection::vec((any::<bool>(), 0..24_usize, any::<bool>()), 0..80)) {
        let mut driven = Driven::new(vec![Box::new(cidr::PodCidrs::default())]);
        driven.facts.pod_cidrs = vec![("10.0.0.0/20".to_owned(), 24), ("fd00:1::/60".to_owned(), 64)];
        let mut known = std::collections::BTreeMap::new();
        for (comes, n, works) in steps {
            let name = format!("n{n}");
            match comes {
                true if driven.get(NODES, "", &name).is_none() => {
                    driven.objects.put(NODES, json!({"kind": "Node", "metadata": {"name": name}}));
                }
                true => {}
                false => {
                    driven.objects.remove(NODES, "", &name);
                    known.remove(&name);
                }
            }
            if works {
                driven.settle();
            }
            let nodes = driven.objects.list(NODES, "");
            let mut all: Vec<&Value> = nodes.iter().flat_map(|n| object::items(n, &["spec", "podCIDRs"])).collect();
            let count = all.len();
            all.sort_by_key(|range| range.to_string());
            all.dedup();
            prop_assert_eq!(all.len(), count);
            for node in &nodes {
                let ranges = node["spec"]["podCIDRs"].clone();
                if let Some(before) = known.insert(object::name(node).to_owned(), ranges.clone()) {
                    prop_assert!(before.is_null() || before == ranges);
                }
            }
        }
        driven.settle();
        let nodes = driven.objects.list(NODES, "");
        let given = nodes.iter().filter(|n| object::items(n, &["spec", "podCIDRs"]).count() == 2).count();
        prop_assert_eq!(given, nodes.len().min(16));
        let told = driven.objects.told.iter().any(|(_, _, reason, _)| *reason == "CIDRNotAvailable");
        prop_assert!(told || nodes.len() <= 16);
    }
}
