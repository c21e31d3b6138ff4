//! Case table, and the graph against its definition.

use proptest::prelude::*;
use proto_kube::selector::Fields;
use proto_kube::{GroupResource, User};
use serde_json::{Value, json};

use super::*;
use crate::{Attributes, Decision};

const fn core(resource: &str) -> GroupResource<'_> {
    GroupResource { group: "", resource }
}

fn node(name: &str) -> User {
    User { name: format!("system:node:{name}"), groups: vec!["system:nodes".to_owned()], ..User::default() }
}

fn pod(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {
        "nodeName": node,
        "serviceAccountName": "web",
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}]}],
        "containers": [{"envFrom": [{"configMapRef": {"name": "from"}}]}],
        "ephemeralContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "debug"}}}]}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "volume"}},
            {"name": "b", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "projected"}}]}},
            {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "d", "ephemeral": {}},
            {"name": "e", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
        ],
    }})
}

fn graph() -> Graph {
    let mut graph = Graph::default();
    graph.put(core("pods"), &pod("web", "n1"));
    let mut mirror = pod("mirror", "n2");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    graph.put(core("pods"), &mirror);
    graph.put(core("persistentvolumes"), &json!({"metadata": {"name": "pv1"}, "spec": {
        "claimRef": {"namespace": "ns", "name": "data"},
        "csi": {"nodeStageSecretRef": {"name": "stage", "namespace": "csi"}, "controllerExpandSecretRef": {"name": "no", "namespace": "csi"}},
    }}));
    let attachments = GroupResource { group: STORAGE, resource: "volumeattachments" };
    graph.put(attachments, &json!({"metadata": {"name": "va"}, "spec": {"nodeName": "n1"}}));
    graph
}

/// Verb, resource, namespace, name, node, and why not.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str, Option<&'static str>);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("get", "secrets", "ns", "pull", "n1", None),
    ("watch", "secrets", "ns", "env", "n1", None),
    ("list", "secrets", "ns", "volume", "n1", None),
    ("get", "secrets", "ns", "projected", "n1", None),
    ("get", "secrets", "ns", "csi", "n1", None),
    ("get", "secrets", "csi", "stage", "n1", None),
    ("get", "secrets", "csi", "no", "n1", Some("no relationship found between node 'n1' and this object")),
    ("get", "secrets", "other", "pull", "n1", Some("no relationship found between node 'n1' and this object")),
    ("get", "secrets", "ns", "pull", "n2", Some("no relationship found between node 'n2' and this object")),
    ("list", "secrets", "ns", "", "n1", Some("No Object name found")),
    ("list", "secrets", "", "", "n1", Some("can only read namespaced object of this type")),
    ("update", "secrets", "ns", "pull", "n1", Some("can only read resources of this type")),
    ("get", "configmaps", "ns", "from", "n1", None),
    ("get", "configmaps", "ns", "debug", "n1", None),
    ("get", "configmaps", "ns", "kube-root-ca.crt", "n1", None),
    ("get", "persistentvolumeclaims", "ns", "data", "n1", None),
    ("get", "persistentvolumeclaims", "ns", "web-d", "n1", None),
    ("list", "persistentvolumeclaims", "ns", "data", "n1", Some("can only get individual resources of this type")),
    ("get", "persistentvolumes", "", "pv1", "n1", None),
    ("get", "persistentvolumes", "", "pv2", "n1", Some("no relationship found between node 'n1' and this object")),
    ("get", "serviceaccounts", "ns", "web", "n1", None),
    ("delete", "serviceaccounts", "ns", "web", "n1", Some("can only create tokens for individual service accounts")),
    ("get", "pods", "ns", "web", "n1", None),
    ("get", "pods", "ns", "mirror", "n2", None),
    ("get", "secrets", "ns", "pull", "n2", Some("no relationship found between node 'n2' and this object")),
    ("get", "pods", "ns", "web", "n2", Some("no relationship found between node 'n2' and this object")),
    ("list", "pods", "", "", "n1", Some("can only list/watch pods with spec.nodeName field selector")),
    ("delete", "pods", "ns", "web", "n2", None),
    ("get", "nodes", "", "n1", "n1", None),
    ("get", "nodes", "", "n2", "n1", Some("node 'n1' cannot read 'n2', only its own Node object")),
    ("list", "nodes", "", "", "n1", Some("node 'n1' cannot read all nodes, only its own Node object")),
    ("create", "nodes", "", "", "n1", None),
    ("delete", "nodes", "", "n1", "n1", Some("")),
    ("list", "services", "", "", "n1", None),
    ("create", "events", "ns", "", "n1", None),
    ("create", "deployments", "ns", "", "n1", Some("")),
];

#[test]
fn a_node_reads_what_its_pods_need() {
    let graph = graph();
    for &(verb, resource, namespace, name, who, why) in CASES {
        let asked = Attributes { verb, resource, namespace, name, ..Attributes::default() };
        let decision = graph.authorize(&node(who), &asked);
        let expected =
            why.map_or_else(|| Decision::Allow(String::new()), |why| Decision::NoOpinion(why.to_owned()));
        assert_eq!(decision, expected, "{who} {verb} {resource} {namespace}/{name}");
    }
}

#[test]
fn subresources_groups_and_selectors_count() {
    let graph = graph();
    let of = Fields::parse("spec.nodeName=n1").unwrap();
    let not = Fields::parse("spec.nodeName!=n1").unwrap();
    let any = Attributes::default();
    let lease =
        Attributes { group: "coordination.k8s.io", resource: "leases", namespace: "kube-node-lease", ..any };
    let token = Attributes {
        verb: "create",
        resource: "serviceaccounts",
        subresource: "token",
        namespace: "ns",
        ..any
    };
    let status = Attributes {
        verb: "patch",
        resource: "persistentvolumeclaims",
        subresource: "status",
        namespace: "ns",
        ..any
    };
    let pods = Attributes { verb: "watch", resource: "pods", ..any };
    for (asked, allowed) in [
        (Attributes { verb: "update", name: "n1", ..lease }, true),
        (Attributes { verb: "create", ..lease }, true),
        (Attributes { verb: "update", name: "n2", ..lease }, false),
        (Attributes { verb: "list", ..lease }, false),
        (Attributes { verb: "get", name: "n1", namespace: "ns", ..lease }, false),
        (Attributes { name: "web", ..token }, true),
        (Attributes { name: "default", ..token }, false),
        (Attributes { name: "data", ..status }, true),
        (Attributes { name: "data", verb: "get", ..status }, false),
        (Attributes { fields: Some(&of), ..pods }, true),
        (Attributes { fields: Some(&not), ..pods }, false),
        (Attributes { verb: "patch", subresource: "status", ..pods }, true),
        (Attributes { verb: "create", subresource: "eviction", ..pods }, true),
        (Attributes { verb: "get", subresource: "log", ..pods }, false),
        (Attributes { verb: "get", group: STORAGE, resource: "volumeattachments", name: "va", ..any }, true),
        (Attributes { verb: "get", group: STORAGE, resource: "csinodes", name: "n1", ..any }, true),
        (Attributes { verb: "get", group: STORAGE, resource: "csinodes", name: "n2", ..any }, false),
        (Attributes { verb: "list", group: STORAGE, resource: "csidrivers", ..any }, true),
        (Attributes { verb: "get", path: Some("/metrics"), ..any }, false),
    ] {
        assert_eq!(graph.authorize(&node("n1"), &asked).is_allowed(), allowed, "{asked:?}");
        let other = User { name: "system:node:n1".to_owned(), ..User::default() };
        assert_eq!(graph.authorize(&other, &asked), Decision::NoOpinion(String::new()));
    }
}

proptest! {
    /// Whatever comes and goes, the graph is what it would be if only what is left had come.
    #[test]
    fn what_went_is_forgotten(events in prop::collection::vec((0..4_usize, 0..3_usize, any::<bool>()), 0..24)) {
        let (nodes, names) = (["", "n1", "n2", "n3"], ["a", "b", "c"]);
        let (mut graph, mut left) = (Graph::default(), [None; 3]);
        for (at, name, goes) in events {
            if goes {
                graph.remove(core("pods"), "ns", names[name]);
            } else {
                graph.put(core("pods"), &pod(names[name], nodes[at]));
            }
            left[name] = (!goes && at > 0).then_some(nodes[at]);
        }
        for node in &nodes[1..] {
            let expected = left.contains(&Some(node));
            prop_assert_eq!(graph.leads(Kind::Secret, "ns", "pull", node), expected);
        }
        prop_assert_eq!(graph.needed.is_empty(), left.iter().all(Option::is_none));
    }
}
