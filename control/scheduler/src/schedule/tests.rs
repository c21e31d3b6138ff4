//! Where pods go: tables by subject, and laws over any sequence.

mod laws;
mod preemption;

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_kube::GroupResource;
use proto_kube::object;
use serde_json::{Value, json};

use super::*;

/// A cluster in memory.
#[derive(Default, Clone)]
pub(super) struct Cluster(BTreeMap<(String, String, String), Arc<Value>>);

impl View for Cluster {
    fn get(&self, of: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0.get(&(of.resource.to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, of: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let wanted = |(resource, within, _): &(String, String, String)| {
            resource == of.resource && (namespace.is_empty() || within == namespace)
        };
        self.0.iter().filter(|(key, _)| wanted(key)).map(|(_, object)| object.clone()).collect()
    }
}

impl Cluster {
    pub(super) fn put(&mut self, resource: &str, object: Value) {
        let key =
            (resource.to_owned(), object::namespace(&object).to_owned(), object::name(&object).to_owned());
        self.0.insert(key, Arc::new(object));
    }

    /// A node with four cores, 8 GiB and room for ten pods, changed as `merge` says.
    pub(super) fn node(&mut self, name: &str, merge: Value) {
        let amounts = json!({"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "10Gi"});
        let labels = json!({"kubernetes.io/hostname": name});
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"allocatable": amounts}});
        self.put("nodes", merged(node, merge));
    }

    pub(super) fn decide(&self, pod: &Value) -> Decision {
        schedule(&Snapshot::of(self), self, &Pod::new(Arc::new(pod.clone())))
    }

    pub(super) fn node_of(&self, pod: &Value) -> String {
        match self.decide(pod) {
            Decision::Bind(node) => node,
            Decision::Unschedulable(refusal) => refusal.message,
        }
    }
}

pub(super) fn merged(mut into: Value, from: Value) -> Value {
    match (&mut into, from) {
        (Value::Object(members), Value::Object(new)) => {
            for (key, value) in new {
                let old = members.remove(&key).unwrap_or_default();
                members.insert(key, merged(old, value));
            }
            into
        }
        (_, from) => from,
    }
}

/// A pod that asks for nothing, changed as `merge` says.
pub(super) fn pod(name: &str, merge: Value) -> Value {
    let metadata = json!({"namespace": "ns", "name": name, "uid": name, "labels": {"app": "web"}});
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    merged(json!({"metadata": metadata, "spec": spec}), merge)
}

pub(super) fn asking(name: &str, cpu: &str) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
    pod(name, json!({"spec": {"containers": [container]}}))
}

fn on(node: &str, mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = node.into();
    pod
}

fn one_node(merge: Value) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.node("a", merge);
    cluster
}

const HELPLESS: &str = " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
const NO_VICTIMS: &str =
    " preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";

/// A node as merged, a pod, what is said of the node (`a` where it is chosen), and of preemption.
type Case = (Value, Value, &'static str, &'static str);

fn hold(cases: impl IntoIterator<Item = Case>) {
    for (node, pod, words, helpless) in cases {
        let message = format!("0/1 nodes are available: {words}{helpless}");
        let expected = if words == "a" { "a" } else { &message };
        assert_eq!(one_node(node.clone()).node_of(&pod), expected, "{node} {}", pod["spec"]);
    }
}

const TAINTED: &str = "1 node(s) had untolerated taint(s).";
const OTHER_LABELS: &str = "1 node(s) didn't match Pod's node affinity/selector.";

#[test]
fn the_words_of_taints() {
    let taint = || json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let closed = || json!({"spec": {"unschedulable": true}});
    let bears = |toleration: Value| pod("p", json!({"spec": {"tolerations": [toleration]}}));
    let unschedulable = json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"});
    hold([
        (json!({}), pod("p", json!({})), "a", ""),
        (closed(), pod("p", json!({})), "1 node(s) were unschedulable.", HELPLESS),
        (closed(), bears(unschedulable), "a", ""),
        (taint(), pod("p", json!({})), TAINTED, HELPLESS),
        (taint(), bears(json!({"key": "k", "value": "v"})), "a", ""),
        (taint(), bears(json!({"key": "k", "value": "w"})), TAINTED, HELPLESS),
        (taint(), bears(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})), TAINTED, HELPLESS),
        (taint(), bears(json!({"operator": "Exists"})), "a", ""),
    ]);
}

#[test]
fn the_words_of_labels() {
    let node = || json!({"metadata": {"labels": {"zone": "1", "n": "5"}}});
    let selects = |zone: &str| pod("p", json!({"spec": {"nodeSelector": {"zone": zone}}}));
    let required = |terms: Value| {
        let required =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        pod("p", json!({"spec": {"affinity": {"nodeAffinity": required}}}))
    };
    let label = |key: &str, operator: &str, value: &str| json!({"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]});
    let name =
        |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
    hold([
        (node(), selects("1"), "a", ""),
        (node(), selects("2"), OTHER_LABELS, HELPLESS),
        (node(), required(json!([label("n", "Gt", "4")])), "a", ""),
        (node(), required(json!([label("n", "Lt", "5")])), OTHER_LABELS, HELPLESS),
        (node(), required(json!([{}, label("zone", "NotIn", "2")])), "a", ""),
        (node(), required(json!([{}])), OTHER_LABELS, HELPLESS),
        (node(), required(json!([name("a")])), "a", ""),
        (
            node(),
            required(json!([name("b")])),
            "1 node(s) didn't satisfy plugin(s) [NodeAffinity].",
            HELPLESS,
        ),
    ]);
}

#[test]
fn the_words_of_room_and_company() {
    let near = |kind: &str, app: &str| {
        let selector = json!({"matchLabels": {"app": app}});
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": selector});
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        pod("p", json!({"spec": {"affinity": {kind: required}}}))
    };
    let spread = |key: &str| {
        let constraint = json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}});
        pod("p", json!({"spec": {"topologySpreadConstraints": [constraint]}}))
    };
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
    let none = || json!({});
    let full = json!({"status": {"allocatable": {"pods": "0"}}});
    let unlabelled = "1 node(s) didn't match pod topology spread constraints (missing required label).";
    hold([
        (none(), asking("p", "4"), "a", ""),
        (none(), asking("p", "4001m"), "1 Insufficient cpu.", HELPLESS),
        (full, asking("p", "1"), "1 Too many pods.", NO_VICTIMS),
        (none(), near("podAffinity", "db"), "1 node(s) didn't match pod affinity rules.", HELPLESS),
        (none(), near("podAffinity", "web"), "a", ""),
        (none(), near("podAntiAffinity", "web"), "a", ""),
        (none(), spread("kubernetes.io/hostname"), "a", ""),
        (none(), spread("zone"), unlabelled, HELPLESS),
        (
            none(),
            pod("p", json!({"spec": {"volumes": [volume]}})),
            "persistentvolumeclaim \"c\" not found.",
            HELPLESS,
        ),
    ]);
}

#[test]
fn reasons_are_counted() {
    let mut cluster = Cluster::default();
    cluster.node("a", json!({"spec": {"unschedulable": true}}));
    for name in ["b", "c"] {
        cluster.node(name, json!({}));
    }
    let asks = json!({"requests": {"cpu": "5", "memory": "9Gi", "example.com/gpu": "1"}});
    let pod = pod("p", json!({"spec": {"containers": [{"name": "c", "resources": asks}]}}));
    let Decision::Unschedulable(refusal) = cluster.decide(&pod) else { panic!() };
    assert_eq!(
        refusal.message,
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu, 2 Insufficient example.com/gpu, \
         2 Insufficient memory. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    assert_eq!(
        refusal.by_node["b"].words,
        ["Insufficient cpu", "Insufficient memory", "Insufficient example.com/gpu"]
    );
    assert_eq!(refusal.filters, BTreeSet::from([Filter::NodeUnschedulable, Filter::NodeResourcesFit]));
}

#[test]
fn ports_of_the_node_are_taken() {
    let ports = |name: &str, ip: &str, protocol: &str| {
        let port = json!({"containerPort": 80, "hostPort": 80, "hostIP": ip, "protocol": protocol});
        pod(name, json!({"spec": {"containers": [{"name": "c", "ports": [port]}]}}))
    };
    let mut cluster = one_node(json!({}));
    cluster.put("pods", on("a", ports("old", "10.0.0.1", "TCP")));
    assert_eq!(cluster.node_of(&ports("new", "10.0.0.2", "TCP")), "a");
    assert_eq!(cluster.node_of(&ports("new", "", "UDP")), "a");
    let words = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    assert_eq!(cluster.node_of(&ports("new", "", "TCP")), words.to_owned() + NO_VICTIMS);
}

#[test]
fn pods_stay_away_from_each_other() {
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
    let away = |name: &str| {
        pod(
            name,
            json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term.clone()]}}}}),
        )
    };
    let mut cluster = Cluster::default();
    for (name, zone) in [("a", "1"), ("b", "1"), ("c", "2")] {
        cluster.node(name, json!({"metadata": {"labels": {"zone": zone}}}));
    }
    cluster.put("pods", on("a", away("old")));
    assert_eq!(cluster.node_of(&away("new")), "c");
    assert_eq!(cluster.node_of(&pod("meek", json!({}))), "c", "the old one does not want it either");
    cluster.put("pods", on("c", away("other")));
    let text = cluster.node_of(&away("new"));
    assert!(
        text.starts_with("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."),
        "{text}"
    );
    let text = cluster.node_of(&pod("meek", json!({})));
    assert!(
        text.starts_with(
            "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules."
        )
    );
    let stranger = pod("stranger", json!({"metadata": {"namespace": "elsewhere"}}));
    assert!(matches!(cluster.decide(&stranger), Decision::Bind(_)));
}

#[test]
fn terms_reach_into_namespaces() {
    let mut cluster = Cluster::default();
    for name in ["a", "b"] {
        cluster.node(name, json!({}));
    }
    cluster.put("namespaces", json!({"metadata": {"name": "data", "labels": {"tier": "db"}}}));
    let db = pod("db", json!({"metadata": {"namespace": "data", "labels": {"app": "db"}}}));
    cluster.put("pods", on("b", db));
    let near = |scope: Value| {
        let term = merged(
            json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}),
            scope,
        );
        pod(
            "p",
            json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}}),
        )
    };
    assert!(
        cluster
            .node_of(&near(json!({})))
            .starts_with("0/2 nodes are available: 2 node(s) didn't match pod affinity rules.")
    );
    assert_eq!(cluster.node_of(&near(json!({"namespaces": ["data"]}))), "b");
    assert_eq!(cluster.node_of(&near(json!({"namespaceSelector": {"matchLabels": {"tier": "db"}}}))), "b");
    assert_eq!(cluster.node_of(&near(json!({"namespaceSelector": {}}))), "b");
}

#[test]
fn hard_spreading_counts_domains() {
    let constraint = |more: Value| {
        let base = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}});
        pod("p", json!({"spec": {"topologySpreadConstraints": [merged(base, more)]}}))
    };
    let mut cluster = Cluster::default();
    for (name, zone) in [("a", "1"), ("b", "2")] {
        cluster.node(name, json!({"metadata": {"labels": {"zone": zone}}}));
    }
    cluster.put("pods", on("a", pod("x", json!({}))));
    assert_eq!(cluster.node_of(&constraint(json!({}))), "b");
    let text = cluster.node_of(&constraint(json!({"minDomains": 3})));
    assert_eq!(text, "b", "no zone has fewer than none");
    cluster.put("pods", on("b", pod("y", json!({}))));
    assert!(
        cluster
            .node_of(&constraint(json!({"minDomains": 3})))
            .starts_with("0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.")
    );
    cluster.node("c", json!({"metadata": {"labels": {"zone": "3"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    assert!(
        cluster
            .node_of(&constraint(json!({})))
            .contains("1 node(s) had untolerated taint(s), 2 node(s) didn't match")
    );
    assert!(matches!(cluster.decide(&constraint(json!({"nodeTaintsPolicy": "Honor"}))), Decision::Bind(_)));
}

#[test]
fn claims_say_where_their_pods_can_be() {
    let pod =
        pod("p", json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}));
    let claim = |status: Value| {
        let claim = json!({"metadata": {"namespace": "ns", "name": "c", "annotations": {}}, "spec": {"accessModes": ["ReadWriteOncePod"]}});
        merged(claim, status)
    };
    let mut cluster = one_node(json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "1"}}}));
    let says = |cluster: &Cluster, words: &str, helpless: &str| {
        assert_eq!(cluster.node_of(&pod), format!("0/1 nodes are available: {words}{helpless}"));
    };
    cluster.put("persistentvolumeclaims", claim(json!({})));
    says(&cluster, "pod has unbound immediate PersistentVolumeClaims.", HELPLESS);
    cluster.put(
        "persistentvolumeclaims",
        claim(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
    );
    says(&cluster, "persistentvolumeclaim \"c\" is being deleted.", HELPLESS);
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}});
    cluster.put("persistentvolumeclaims", claim(bound));
    says(&cluster, "1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).", HELPLESS);
    let term = |name: &str| json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}]});
    let volume = |zone: &str, node: &str| {
        json!({"metadata": {"name": "v", "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term(node)]}}}})
    };
    cluster.put("persistentvolumes", volume("1", "b"));
    says(&cluster, "1 node(s) didn't match PersistentVolume's node affinity.", HELPLESS);
    cluster.put("persistentvolumes", volume("2", "a"));
    says(&cluster, "1 node(s) had no available volume zone.", HELPLESS);
    cluster.put("persistentvolumes", volume("1", "a"));
    assert_eq!(cluster.node_of(&pod), "a");
    let mut other = on("a", pod.clone());
    other["metadata"]["uid"] = "other".into();
    other["metadata"]["name"] = "other".into();
    cluster.put("pods", other);
    says(
        &cluster,
        "1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod.",
        NO_VICTIMS,
    );
}

#[test]
fn the_better_node_is_taken() {
    let preferred = |kind: &str, term: Value| {
        pod(
            "p",
            json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}}}),
        )
    };
    let term =
        json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}});
    let weighted = || json!({"weight": 100, "podAffinityTerm": term});
    let ssd =
        json!({"weight": 1, "preference": {"matchExpressions": [{"key": "ssd", "operator": "Exists"}]}});
    let mut cluster = Cluster::default();
    for (name, more) in [
        ("a", json!({})),
        (
            "b",
            json!({"metadata": {"labels": {"ssd": ""}}, "spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}}),
        ),
        ("c", json!({"status": {"images": [{"names": ["i:latest"], "sizeBytes": 900_000_000}]}})),
    ] {
        cluster.node(name, more);
    }
    assert_eq!(cluster.node_of(&pod("p", json!({}))), "c", "the image is there");
    cluster.put("pods", on("a", pod("x", json!({}))));
    assert_eq!(cluster.node_of(&preferred("podAffinity", weighted())), "a");
    assert_ne!(cluster.node_of(&preferred("podAntiAffinity", weighted())), "a");
    let mut likes = preferred("nodeAffinity", ssd);
    likes["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    assert_eq!(cluster.node_of(&likes), "b");
}

#[test]
fn pods_of_a_workload_are_spread() {
    let mut cluster = Cluster::default();
    for name in ["a", "b", "c"] {
        cluster.node(name, json!({}));
    }
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true}]);
    let set = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}});
    cluster.put("replicasets", set);
    let mut counts = BTreeMap::new();
    for n in 0..9 {
        let mut pod = pod(&format!("p{n}"), json!({"metadata": {"ownerReferences": owner}}));
        let node = cluster.node_of(&pod);
        pod["spec"]["nodeName"] = node.as_str().into();
        cluster.put("pods", pod);
        *counts.entry(node).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 3), "{counts:?}");
}

#[test]
fn a_nominated_pod_comes_first() {
    let mut cluster = Cluster::default();
    for name in ["a", "b"] {
        cluster.node(name, json!({}));
    }
    let mut promised = asking("promised", "3");
    promised["spec"]["priority"] = 10.into();
    promised["status"] = json!({"nominatedNodeName": "a"});
    cluster.put("pods", promised.clone());
    assert_eq!(cluster.node_of(&asking("p", "2")), "b");
    assert_eq!(cluster.node_of(&promised), "a");
    let mut higher = asking("higher", "4");
    higher["spec"]["priority"] = 11.into();
    higher["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "a"});
    assert_eq!(cluster.node_of(&higher), "a", "the more important does not wait");
}
