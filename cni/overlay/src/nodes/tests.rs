//! Tables of what nodes claim.

use serde_json::json;

use super::*;

fn node(n: u8, change: impl FnOnce(&mut Value)) -> Arc<Value> {
    let prefix = "flannel.alpha.coreos.com/";
    let mut annotations = json!({});
    for (name, value) in [
        ("kube-subnet-manager", "true".to_owned()),
        ("backend-type", "vxlan".to_owned()),
        ("public-ip", format!("192.168.7.{n}")),
        ("backend-data", format!("{{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:{n:02x}\"}}")),
    ] {
        annotations[format!("{prefix}{name}")] = value.into();
    }
    let mut node = json!({
        "metadata": { "name": format!("node-{n}"), "uid": format!("uid-{n}"), "annotations": annotations,
                      "creationTimestamp": format!("2026-01-01T00:00:{n:02}Z") },
        "spec": { "podCIDR": format!("10.244.{n}.0/24") },
        "status": { "addresses": [{ "type": "InternalIP", "address": format!("192.168.7.{n}") }] },
    });
    change(&mut node);
    Arc::new(node)
}

fn annotate(node: &mut Value, name: &str, value: &str) {
    node["metadata"]["annotations"][format!("flannel.alpha.coreos.com/{name}")] = value.into();
}

/// What node 5 makes of these.
fn of_five(all: &[Arc<Value>]) -> (Option<Nodes>, Vec<String>) {
    let setup = Setup {
        name: "node-5",
        ips: &[],
        backend: Backend::default(),
        device: "cleat",
        mtu: None,
        services: &[],
    };
    let (nodes, refused) = read(&setup, all);
    (nodes, refused.iter().map(ToString::to_string).collect())
}

fn names(nodes: &Nodes) -> Vec<&str> {
    nodes.peers.iter().map(|peer| peer.node.as_str()).collect()
}

#[test]
fn waits_for_its_own_range() {
    assert_eq!(of_five(&[node(1, |_| ())]).0, None);
    let bare = node(5, |node| node["spec"] = json!({}));
    assert_eq!(of_five(&[bare, node(1, |_| ())]).0, None);
}

#[test]
fn conflicts_are_told_and_the_older_keeps_what_it_has() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 7] = [
        (
            |n| n["spec"]["podCIDR"] = "10.244.2.0/24".into(),
            "node node-3: its range 10.244.2.0/24 is taken by node node-2",
        ),
        (
            |n| n["spec"]["podCIDR"] = "10.244.2.128/25".into(),
            "node node-3: its range 10.244.2.128/25 is taken by",
        ),
        (
            |n| n["spec"]["podCIDR"] = "10.244.0.0/16".into(),
            "node node-3: its range 10.244.0.0/16 is taken by",
        ),
        (|n| n["spec"]["podCIDR"] = "10.244.5.0/24".into(), "is taken by node node-5 with 10.244.5.0/24"),
        (|n| n["spec"]["podCIDR"] = "192.168.0.0/16".into(), "has addresses of nodes"),
        (|n| annotate(n, "public-ip", "192.168.7.2"), "its address 192.168.7.2 is that of node node-2"),
        (
            |n| annotate(n, "backend-data", "{\"VNI\":7,\"VtepMAC\":\"02:00:00:00:00:03\"}"),
            "has the number 7, ours 1",
        ),
    ];
    for (change, why) in cases {
        let (nodes, refused) = of_five(&[node(3, change), node(5, |_| ()), node(2, |_| ())]);
        assert_eq!(names(&nodes.unwrap()), ["node-2"], "{why}");
        assert!(refused.len() == 1 && refused[0].contains(why), "{refused:?}: {why}");
    }
}

#[test]
fn nodes_without_a_lease_are_waited_for_in_silence() {
    let unkept = node(1, |n| annotate(n, "kube-subnet-manager", ""));
    let no_ip = node(2, |n| annotate(n, "public-ip", ""));
    let (nodes, refused) = of_five(&[unkept, no_ip, node(3, |_| ()), node(5, |_| ())]);
    assert_eq!((names(&nodes.unwrap()), refused), (vec!["node-3"], vec![]));
}

#[test]
fn hardware_addresses_stay_and_are_nobody_elses() {
    let said = of_five(&[node(5, |_| ())]).0.unwrap();
    assert_eq!(said.said[0], Some([2, 0, 0, 0, 0, 5]));
    let silent = node(5, |n| annotate(n, "backend-data", "null"));
    let made = of_five(std::slice::from_ref(&silent)).0.unwrap();
    assert_eq!((made.said[0], made.made), (None, of_five(&[silent]).0.unwrap().made));
    assert_eq!(made.made[0][0] & 3, 2, "locally administered, of one machine");
    assert_ne!(made.made[0], made.made[1]);
    // a copied disk: the older of the two keeps the address, and the younger says so
    let twice = "{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:05\"}";
    let (nodes, refused) = of_five(&[node(5, |_| ()), node(1, |n| annotate(n, "backend-data", twice))]);
    assert_eq!(nodes.as_ref().unwrap().said[0], Some(made.made[0]));
    assert_eq!(names(&nodes.unwrap()), ["node-1"]);
    assert!(refused[0].contains("02:00:00:00:00:05 is an older node's"), "{refused:?}");
    let (nodes, refused) = of_five(&[node(5, |_| ()), node(9, |n| annotate(n, "backend-data", twice))]);
    assert_eq!(nodes.unwrap().said[0], Some([2, 0, 0, 0, 0, 5]));
    assert!(
        refused[0].contains("node node-9: its device's address 02:00:00:00:00:05 is that of node node-5")
    );
}

#[test]
fn a_range_without_an_address_of_its_family_is_told() {
    let both = node(5, |n| n["spec"]["podCIDRs"] = json!(["10.244.5.0/24", "fd00:5::/64"]));
    let (nodes, refused) = of_five(&[both]);
    assert_eq!(nodes.unwrap().subnets.len(), 2);
    assert!(refused[0].contains("its range fd00:5::/64 is not reached from others"), "{refused:?}");
}
