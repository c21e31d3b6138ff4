//! What holds whatever comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Cluster, asking, merged, pod};
use crate::filter::Attempt;
use crate::{Decision, Pod, Snapshot, schedule};

fn nodes() -> impl Strategy<Value = Vec<Value>> {
    let node = (1..8_u32, 1..6_u32, 0..3_u8, 0..4_u8).prop_map(|(cpu, pods, zone, kind)| {
        let taints = match kind {
            1 => json!([{"key": "k", "effect": "NoSchedule"}]),
            2 => json!([{"key": "k", "effect": "PreferNoSchedule"}]),
            _ => json!([]),
        };
        json!({
            "metadata": {"labels": {"zone": zone.to_string()}},
            "spec": {"taints": taints, "unschedulable": kind == 3 && zone == 2},
            "status": {"allocatable": {"cpu": cpu.to_string(), "pods": pods.to_string()}},
        })
    });
    proptest::collection::vec(node, 1..6)
}

fn pods() -> impl Strategy<Value = Vec<Value>> {
    let pod = (0..5_u32, 0..3_u8, 0..6_u8, 0..4_i64, any::<bool>()).prop_map(
        |(cpu, app, wish, priority, bears)| {
            let selector = json!({"matchLabels": {"app": app.to_string()}});
            let near = json!({"topologyKey": "zone", "labelSelector": selector});
            let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": [near]});
            let weighted = json!([{"weight": 7, "podAffinityTerm": near}]);
            let preferred = json!({"preferredDuringSchedulingIgnoredDuringExecution": weighted});
            let spread = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector}]);
            let wishes = match wish {
                0 => json!({"affinity": {"podAffinity": required}}),
                1 => json!({"affinity": {"podAntiAffinity": required}}),
                2 => json!({"affinity": {"podAntiAffinity": preferred}}),
                3 => json!({"topologySpreadConstraints": spread}),
                4 => json!({"nodeSelector": {"zone": "1"}}),
                _ => json!({}),
            };
            let tolerations = if bears { json!([{"operator": "Exists"}]) } else { json!([]) };
            let requests = json!({"cpu": format!("{}m", cpu * 700)});
            let ports = if app == 2 { json!([{"containerPort": 1, "hostPort": 8080}]) } else { json!([]) };
            let container =
                json!({"name": "c", "image": "i", "resources": {"requests": requests}, "ports": ports});
            let spec = json!({"priority": priority, "tolerations": tolerations, "containers": [container]});
            json!({"metadata": {"labels": {"app": app.to_string()}}, "spec": merged(spec, wishes)})
        },
    );
    proptest::collection::vec(pod, 1..25)
}

fn cluster(nodes: Vec<Value>) -> Cluster {
    let mut cluster = Cluster::default();
    for (n, node) in nodes.into_iter().enumerate() {
        cluster.node(&format!("n{n}"), node);
    }
    cluster
}

fn passes(pod: &Pod, snapshot: &Snapshot, cluster: &Cluster, node: &str) -> bool {
    let attempt = Attempt::new(pod, snapshot, cluster).ok();
    attempt.is_some_and(|attempt| attempt.check(snapshot.node(node).unwrap()).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A chosen node passes every filter, no node is overcommitted, room that is made is enough, and deciding again gives
    /// the same. A snapshot that was kept up pod by pod is the one that is read anew.
    #[test]
    fn decisions_hold(nodes in nodes(), pods in pods(), leave in proptest::collection::vec(0..25_usize, 0..8)) {
        let mut cluster = cluster(nodes);
        let mut snapshot = Snapshot::of(&cluster);
        for (n, more) in pods.into_iter().enumerate() {
            let object = pod(&format!("p{n}"), more);
            let pod = Pod::new(Arc::new(object.clone()));
            let decision = schedule(&snapshot, &cluster, &pod);
            prop_assert_eq!(&decision, &schedule(&Snapshot::of(&cluster), &cluster, &pod));
            match decision {
                Decision::Bind(node) => {
                    prop_assert!(passes(&pod, &snapshot, &cluster, &node));
                    snapshot.set_pod(Arc::new(pod.on(&node)), &node);
                    cluster.put("pods", merged(object, json!({"spec": {"nodeName": node}})));
                }
                Decision::Unschedulable(refusal) => {
                    prop_assert_eq!(refusal.by_node.len(), snapshot.nodes().len());
                    if let Some(room) = refusal.preemption {
                        prop_assert!(!room.victims.is_empty());
                        prop_assert!(room.victims.iter().all(|victim| victim.priority < pod.priority));
                        let mut then = snapshot.clone();
                        room.victims.iter().for_each(|victim| { then.remove_pod(&victim.uid); });
                        prop_assert!(passes(&pod, &then, &cluster, &room.node));
                    }
                }
            }
            for node in snapshot.nodes() {
                prop_assert!(node.requested.cpu <= node.allocatable.cpu, "{}", node.name);
                prop_assert!(i64::try_from(node.pods().count()).unwrap() <= node.pods_max);
                prop_assert_eq!(node.requested.cpu, node.pods().map(|p| p.requests.cpu).sum::<i64>());
            }
            if leave.contains(&n) {
                let name = format!("p{}", n / 2);
                snapshot.remove_pod(&name);
                cluster.0.remove(&("pods".to_owned(), "ns".to_owned(), name));
            }
        }
    }

    /// Equal pods on equal nodes differ by one at most.
    #[test]
    fn equal_pods_spread_evenly(nodes in 1..7_usize, pods in 1..40_usize, cpu in 0..50_u32) {
        let mut cluster = cluster(vec![json!({"status": {"allocatable": {"pods": "100", "cpu": "16"}}}); nodes]);
        let service = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": {"selector": {"app": "web"}}});
        cluster.put("services", service);
        let mut snapshot = Snapshot::of(&cluster);
        let mut counts: BTreeMap<String, usize> = snapshot.nodes().map(|node| (node.name.clone(), 0)).collect();
        for n in 0..pods {
            let pod = Pod::new(Arc::new(asking(&format!("p{n}"), &format!("{cpu}m"))));
            let Decision::Bind(node) = schedule(&snapshot, &cluster, &pod) else { panic!("there is room") };
            snapshot.set_pod(Arc::new(pod.on(&node)), &node);
            *counts.entry(node).or_default() += 1;
        }
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", counts);
    }
}
