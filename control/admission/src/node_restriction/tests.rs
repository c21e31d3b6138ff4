//! What a node may write, and in which words it is refused.

use serde_json::{Value, json};

use crate::tests::request;
use crate::tests::{Ask, Cluster, pod};

fn cluster() -> Cluster {
    Cluster::usual()
        .and("", "namespaces", json!({"metadata": {"name": "kube-node-lease"}}))
        .and("", "nodes", json!({"metadata": {"name": "n1", "uid": "u1"}}))
        .and("", "pods", running("web", "n1"))
        .and("", "pods", running("other", "n2"))
}

fn running(name: &str, node: &str) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["uid"] = format!("uid-{name}").into();
    pod["spec"]["nodeName"] = node.into();
    pod["spec"]["volumes"] = json!([
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"serviceAccountToken": {"audience": "vault"}}]}},
        {"name": "c", "csi": {"driver": "disk"}},
    ]);
    pod
}

fn mirror(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod("mirror");
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": true}]);
    pod["spec"]["nodeName"] = "n1".into();
    change(&mut pod);
    pod
}

/// The refusal of the first pass without its head.
fn refusal(ask: Ask, object: &Value) -> String {
    let result = ask.by_node("n1").admit(&mut object.clone(), &cluster());
    let text = result.err().map_or_else(String::new, |status| status.message);
    text.split_once(" is forbidden: ").map_or(text.clone(), |(_, why)| why.to_owned())
}

#[test]
fn a_node_makes_mirror_pods_of_its_own_only() {
    let owner = |key: &'static str, value: Value| {
        move |p: &mut Value| p["metadata"]["ownerReferences"][0][key] = value
    };
    let spec = |key: &'static str, value: Value| mirror(move |p| p["spec"][key] = value);
    for (pod, why) in [
        (mirror(|_| ()), ""),
        (
            pod("p"),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods",
        ),
        (spec("nodeName", json!("n2")), "node \"n1\" can only create pods with spec.nodeName set to itself"),
        (
            mirror(|p| p["metadata"]["ownerReferences"] = json!([])),
            "node \"n1\" can only create pods with an owner reference set to itself",
        ),
        (
            mirror(|p| p["metadata"]["ownerReferences"] = json!([1, 2])),
            "node \"n1\" can only create pods with a single owner reference set to itself",
        ),
        (
            mirror(owner("name", json!("n2"))),
            "node \"n1\" can only create pods with an owner reference set to itself",
        ),
        (
            mirror(owner("controller", json!(false))),
            "node \"n1\" can only create pods with a controller owner reference set to itself",
        ),
        (
            mirror(owner("blockOwnerDeletion", json!(true))),
            "node \"n1\" must not set blockOwnerDeletion on an owner reference",
        ),
        (mirror(owner("uid", json!("u2"))), "node n1 UID mismatch: expected u2 got u1"),
        (
            spec("volumes", json!([{"secret": {"secretName": "s"}}])),
            "node \"n1\" can not create pods that reference secrets",
        ),
        (
            spec("volumes", json!([{"persistentVolumeClaim": {"claimName": "s"}}])),
            "node \"n1\" can not create pods that reference persistentvolumeclaims",
        ),
        (
            spec(
                "volumes",
                json!([{"projected": {"sources": [{"downwardAPI": {}}, {"serviceAccountToken": {}}]}}]),
            ),
            "node \"n1\" can not create pods that reference serviceaccounts (via projected volumes)",
        ),
        (spec("volumes", json!([{"emptyDir": {}}, {"projected": {"sources": [{"downwardAPI": {}}]}}])), ""),
    ] {
        assert_eq!(refusal(Ask::create("", "pods"), &pod), why);
    }
}

#[test]
fn a_node_touches_its_own_pods_only() {
    let labelled = {
        let mut pod = running("web", "n1");
        pod["metadata"]["labels"] = json!({"a": "b"});
        pod
    };
    let web = || running("web", "n1");
    let other = || running("other", "n2");
    let name = |name: &str| json!({"metadata": {"name": name, "namespace": "ns"}});
    for (ask, object, why) in [
        (Ask::delete("", "pods", web()), Value::Null, ""),
        (
            Ask::delete("", "pods", other()),
            Value::Null,
            "node \"n1\" can only delete pods with spec.nodeName set to itself",
        ),
        (
            Ask::update("", "pods", web()),
            web(),
            "unexpected operation \"UPDATE\", node \"n1\" can only create and delete mirror pods",
        ),
        (Ask::update("", "pods", web()).sub("status"), web(), ""),
        (
            Ask::update("", "pods", other()).sub("status"),
            other(),
            "node \"n1\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        (
            Ask::update("", "pods", web()).sub("status"),
            labelled,
            "node \"n1\" cannot update labels through pod status",
        ),
        (Ask::create("", "pods").sub("eviction"), name("web"), ""),
        (
            Ask::create("", "pods").sub("eviction"),
            name("other"),
            "node n1 can only evict pods with spec.nodeName set to itself",
        ),
        (Ask::create("", "pods").sub("eviction"), name("gone"), "pods \"gone\" not found"),
        (
            Ask::create("", "pods").sub("binding"),
            name("web"),
            "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed",
        ),
    ] {
        assert_eq!(refusal(ask, &object), why);
    }
}

#[test]
fn a_node_does_not_promote_itself() {
    let node = |name: &str, more: Value| {
        let mut node =
            json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {}});
        if let Some(labels) = more.as_object() {
            node["metadata"]["labels"].as_object_mut().unwrap().extend(labels.clone());
        }
        node
    };
    let tainted = {
        let mut node = node("n1", Value::Null);
        node["spec"]["taints"] = json!([{"key": "a", "effect": "NoSchedule"}]);
        node
    };
    let own = || node("n1", Value::Null);
    let update = |old| Ask::update("", "nodes", old);
    for (ask, object, why) in [
        (Ask::create("", "nodes"), own(), ""),
        (
            Ask::create("", "nodes"),
            node("n2", Value::Null),
            "node \"n1\" is not allowed to modify node \"n2\"",
        ),
        (
            Ask::create("", "nodes"),
            node("n1", json!({"zone": "a", "node.kubernetes.io/x": "y", "topology.kubernetes.io/zone": "z"})),
            "",
        ),
        (
            Ask::create("", "nodes"),
            node(
                "n1",
                json!({"node-role.kubernetes.io/control-plane": "", "foo.node-restriction.kubernetes.io/a": "b"}),
            ),
            "node \"n1\" is not allowed to set the following labels: foo.node-restriction.kubernetes.io/a, node-role.kubernetes.io/control-plane",
        ),
        (Ask::create("", "nodes"), tainted.clone(), ""),
        (update(own()), tainted.clone(), "node \"n1\" is not allowed to modify taints"),
        (update(tainted.clone()), tainted, ""),
        (
            update(own()),
            node("n1", json!({"x.k8s.io/a": "b"})),
            "is not allowed to modify labels: x.k8s.io/a",
        ),
        (
            update(node("n1", json!({"x.k8s.io/a": "b"}))),
            own(),
            "is not allowed to modify labels: x.k8s.io/a",
        ),
        (
            update(node("n2", Value::Null)).sub("status"),
            node("n2", Value::Null),
            "node \"n1\" is not allowed to modify node \"n2\"",
        ),
    ] {
        assert_eq!(refusal(ask, &object), why);
    }
}

#[test]
fn a_node_asks_for_tokens_of_its_pods() {
    let token = |name: &str, uid: &str, audiences: Value| {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        json!({"metadata": {"name": "default", "namespace": "ns"}, "spec": {"boundObjectRef": bound, "audiences": audiences}})
    };
    let unbound = json!({"metadata": {"name": "default", "namespace": "ns"}, "spec": {}});
    for (token, why) in [
        (token("web", "uid-web", json!([])), ""),
        (token("web", "uid-web", json!(["vault"])), ""),
        (
            token("web", "uid-web", json!(["bank"])),
            "audience \"bank\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience",
        ),
        (token("web", "uid-web", json!(["a", "b"])), "node may only request 0 or 1 audiences"),
        (
            token("web", "old", json!([])),
            "the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        (token("web", "", json!([])), "node requested token with a pod binding without a uid"),
        (
            token("other", "uid-other", json!([])),
            "node requested token bound to a pod scheduled on a different node",
        ),
        (token("gone", "x", json!([])), "pods \"gone\" not found"),
        (unbound, "node requested token not bound to a pod"),
    ] {
        assert_eq!(refusal(Ask::create("", "serviceaccounts").sub("token"), &token), why);
    }
    let driver = json!({"metadata": {"name": "disk"}, "spec": {"tokenRequests": [{"audience": "bank"}]}});
    let cluster = cluster().and("storage.k8s.io", "csidrivers", driver);
    let ask = Ask::create("", "serviceaccounts").sub("token").by_node("n1");
    assert!(ask.admit(&mut token("web", "uid-web", json!(["bank"])), &cluster).is_ok());
}

#[test]
fn the_rest_bears_the_nodes_name() {
    let named = |name: &str, namespace: &str| json!({"metadata": {"name": name, "namespace": namespace}});
    let csr = |name: &str| json!({"metadata": {"name": "c"}, "spec": {"signerName": "kubernetes.io/kubelet-serving", "request": request(name, &["system:nodes"])}});
    let mut claim = named("c", "ns");
    let old = claim.clone();
    claim["status"] = json!({"capacity": {"storage": "1Gi"}});
    let mut labelled = claim.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let status = || Ask::update("", "persistentvolumeclaims", old.clone()).sub("status");
    let mut before = old.clone();
    before["status"] = json!({});
    let from_empty = || Ask::update("", "persistentvolumeclaims", before.clone()).sub("status");
    for (ask, object, why) in [
        (Ask::create("coordination.k8s.io", "leases"), named("n1", "kube-node-lease"), ""),
        (
            Ask::create("coordination.k8s.io", "leases"),
            named("n2", "kube-node-lease"),
            "can only access node lease with the same name as the requesting node",
        ),
        (
            Ask::create("coordination.k8s.io", "leases"),
            named("n1", "ns"),
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        (
            Ask::create("storage.k8s.io", "csinodes"),
            named("n2", ""),
            "can only access CSINode with the same name as the requesting node",
        ),
        (Ask::create("storage.k8s.io", "csinodes"), named("n1", ""), ""),
        (Ask::create("certificates.k8s.io", "certificatesigningrequests"), csr("system:node:n1"), ""),
        (
            Ask::create("certificates.k8s.io", "certificatesigningrequests"),
            csr("system:node:n2"),
            "can only create a node CSR with CN=system:node:n1",
        ),
        (from_empty(), claim.clone(), ""),
        (
            status(),
            labelled,
            "node \"n1\" is not allowed to update fields other than status.quantity and status.conditions",
        ),
        (Ask::update("", "persistentvolumeclaims", old.clone()), claim, "may only update PVC status"),
    ] {
        assert_eq!(refusal(ask, &object), why);
    }
    let secret = named("s", "ns");
    assert_eq!(refusal(Ask::create("", "secrets"), &secret), "");
}
