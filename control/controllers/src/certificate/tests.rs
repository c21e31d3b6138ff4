//! Who gets a certificate without anybody being asked, and when requests go.

use serde_json::json;

use super::*;
use crate::driven::Driven;
use crate::resources::{LEASES, NODES, SIGNING_REQUESTS};
use crate::{Asked, Mutation};

/// Requests in these tests are JSON: name, organizations, host names, addresses.
fn read(request: &str) -> Option<Asked> {
    let request: Value = serde_json::from_str(request).ok()?;
    let texts = |at: usize| -> Vec<String> {
        request[at].as_array().into_iter().flatten().map(|t| t.as_str().unwrap().to_owned()).collect()
    };
    Some(Asked {
        common_name: request[0].as_str()?.to_owned(),
        organizations: texts(1),
        dns: texts(2),
        ips: texts(3).iter().map(|ip| ip.parse().unwrap()).collect(),
        other_names: false,
    })
}

fn driven() -> Driven {
    let mut driven = Driven::new(all());
    driven.facts.read_request = Some(read);
    driven
}

fn request(user: &str, signer: &str, asked: &Value) -> Value {
    let auth = if signer == "kubelet-serving" { "server auth" } else { "client auth" };
    json!({"metadata": {"name": "r", "creationTimestamp": "2026-01-01T12:00:00Z"}, "spec": {"username": user,
        "groups": ["system:nodes"], "signerName": format!("kubernetes.io/{signer}"),
        "request": asked.to_string(), "usages": ["digital signature", auth]}})
}

#[test]
fn who_is_granted_what() {
    let client = "kube-apiserver-client-kubelet";
    let plain = json!(["system:node:n", ["system:nodes"]]);
    let serving = |dns: Value, ips: Value| json!(["system:node:n", ["system:nodes"], dns, ips]);
    let (joins, own) = ("system:bootstrap:abcdef", "system:node:n");
    for (user, signer, asked, node, expected) in [
        (joins, client, plain.clone(), None, "AutoApproved nodeclient"),
        (joins, client, plain.clone(), Some("Unknown"), "AutoApproved nodeclient"),
        (joins, client, plain.clone(), Some("True"), ""),
        (joins, client, plain.clone(), Some("False"), ""),
        (own, client, plain.clone(), Some("True"), "AutoApproved selfnodeclient"),
        (joins, client, json!(["system:node:", ["system:nodes"]]), None, ""),
        (joins, client, json!(["system:node:n", ["system:masters"]]), None, ""),
        (joins, client, json!(["system:node:n", ["system:nodes", "system:masters"]]), None, ""),
        (joins, client, json!(["admin", ["system:nodes"]]), None, ""),
        (joins, client, serving(json!(["n"]), json!([])), None, ""),
        (joins, client, json!("nonsense"), None, ""),
        (
            own,
            "kubelet-serving",
            serving(json!(["n", "host"]), json!(["192.0.2.1"])),
            Some("True"),
            "AutoApproved ",
        ),
        (own, "kubelet-serving", serving(json!(["n"]), json!(["192.0.2.2"])), Some("True"), ""),
        (own, "kubelet-serving", serving(json!(["m"]), json!([])), Some("True"), ""),
        (own, "kubelet-serving", plain.clone(), Some("True"), ""),
        (own, "kubelet-serving", serving(json!(["n"]), json!([])), None, ""),
        ("system:node:m", "kubelet-serving", serving(json!(["n"]), json!([])), Some("True"), ""),
        (joins, "kubelet-serving", serving(json!(["n"]), json!([])), Some("True"), ""),
        ("jane", "kube-apiserver-client", plain, None, ""),
    ] {
        let mut driven = driven();
        if let Some(ready) = node {
            driven.objects.put(NODES, json!({"metadata": {"name": "n"}, "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "host"}]}}));
        }
        driven.objects.put(SIGNING_REQUESTS, request(user, signer, &asked));
        let done = driven.settle();
        let asked_for = done.iter().find_map(|m| match m {
            Mutation::If(crate::Condition::Allowed(spec)) => {
                assert_eq!(spec["user"], user);
                spec["resourceAttributes"]["subresource"].as_str()
            }
            _ => None,
        });
        let decided = driven.get(SIGNING_REQUESTS, "", "r").unwrap();
        let reason = object::text(&decided["status"]["conditions"][0], &["reason"]);
        let found =
            if reason.is_empty() { String::new() } else { format!("{reason} {}", asked_for.unwrap_or("")) };
        assert_eq!(found, expected, "{user} {signer} {asked} {node:?}");
        let signs = done.iter().any(|m| matches!(m, Mutation::Sign(_)));
        assert_eq!(signs, reason == "AutoApproved", "{asked}");
    }
}

/// What has been decided about a request: the reason, or nothing yet.
fn decided(driven: &Driven, name: &str) -> String {
    let request = driven.get(SIGNING_REQUESTS, "", name).unwrap();
    object::text(&request["status"]["conditions"][0], &["reason"]).to_owned()
}

fn joining(driven: &mut Driven, name: &str) {
    let asked = json!(["system:node:n", ["system:nodes"]]);
    let mut request = request("system:bootstrap:abcdef", "kube-apiserver-client-kubelet", &asked);
    request["metadata"]["name"] = name.into();
    request["metadata"]["uid"] = name.into();
    request["metadata"]["creationTimestamp"] = crate::conditions::stamp(driven.now);
    driven.objects.put(SIGNING_REQUESTS, request);
}

fn node(driven: &mut Driven, ready: &str) {
    let condition =
        json!({"type": "Ready", "status": ready, "lastTransitionTime": crate::conditions::stamp(driven.now)});
    driven.objects.put(NODES, json!({"metadata": {"name": "n"}, "status": {"conditions": [condition]}}));
}

#[test]
fn a_name_is_denied_to_others_at_the_next_sign_of_life() {
    let mut driven = driven();
    let lease = |time: &str| json!({"metadata": {"name": "n", "namespace": "kube-node-lease"}, "spec": {"renewTime": time}});
    node(&mut driven, "True");
    driven.objects.put(LEASES, lease("2026-01-01T12:00:00Z"));
    joining(&mut driven, "r");
    driven.settle();
    assert_eq!(decided(&driven, "r"), "");
    driven.objects.put(LEASES, lease("2026-01-01T12:00:10Z"));
    driven.settle();
    assert_eq!(decided(&driven, "r"), "NodeNameInUse");
}

#[test]
fn a_name_is_free_when_its_node_is_found_dead() {
    let mut driven = driven();
    node(&mut driven, "True");
    joining(&mut driven, "r");
    driven.settle();
    driven.pass(30);
    assert_eq!(decided(&driven, "r"), "");
    node(&mut driven, "Unknown");
    driven.settle();
    assert_eq!(decided(&driven, "r"), "AutoApproved");
}

#[test]
fn of_two_that_join_under_one_name_the_second_waits_for_the_first() {
    let mut driven = driven();
    joining(&mut driven, "a");
    joining(&mut driven, "b");
    driven.settle();
    assert_eq!([decided(&driven, "a"), decided(&driven, "b")], ["AutoApproved", ""]);
    // It registers, so the name is its own; when it is dead, the name is free.
    driven.pass(20);
    node(&mut driven, "True");
    driven.settle();
    assert_eq!(decided(&driven, "b"), "NodeNameInUse");
    joining(&mut driven, "c");
    driven.settle();
    assert_eq!(decided(&driven, "c"), "");
    node(&mut driven, "Unknown");
    driven.settle();
    assert_eq!(decided(&driven, "c"), "AutoApproved");
}

#[test]
fn who_joins_and_never_comes_does_not_keep_the_name() {
    let mut driven = driven();
    joining(&mut driven, "a");
    driven.pass(20);
    joining(&mut driven, "b");
    driven.pass(50);
    assert_eq!([decided(&driven, "a"), decided(&driven, "b")], ["AutoApproved", ""]);
    driven.pass(20);
    assert_eq!(decided(&driven, "b"), "AutoApproved");
}

#[test]
fn a_node_that_has_its_addresses_now_may_serve() {
    let mut driven = driven();
    let asked = json!(["system:node:n", ["system:nodes"], [], ["192.0.2.1"]]);
    driven.objects.put(NODES, json!({"metadata": {"name": "n"}}));
    driven.objects.put(SIGNING_REQUESTS, request("system:node:n", "kubelet-serving", &asked));
    assert_eq!(driven.settle(), []);
    driven.objects.change(NODES, "", "n", |node| {
        node["status"]["addresses"] = json!([{"type": "InternalIP", "address": "192.0.2.1"}]);
    });
    assert!(!driven.settle().is_empty());
}

#[test]
fn requests_go_when_nobody_needs_them() {
    for (status, hours, there) in [
        (json!({}), 23, true),
        (json!({}), 25, false),
        (
            json!({"certificate": "x", "conditions": [{"type": "Approved", "lastUpdateTime": "2026-01-01T12:00:00Z"}]}),
            2,
            false,
        ),
        (json!({"conditions": [{"type": "Denied", "lastUpdateTime": "2026-01-01T12:00:00Z"}]}), 2, false),
        (json!({"conditions": [{"type": "Approved", "lastUpdateTime": "2026-01-01T12:00:00Z"}]}), 2, true),
        (json!({"conditions": [{"type": "Approved", "lastUpdateTime": "2026-01-01T12:00:00Z"}]}), 25, false),
    ] {
        let mut driven = Driven::new(vec![Box::new(clean::Cleaner)]);
        let mut request = request("u", "x", &json!([]));
        request["status"] = status.clone();
        driven.objects.put(SIGNING_REQUESTS, request);
        driven.pass(hours * 3600);
        driven.settle();
        assert_eq!(driven.get(SIGNING_REQUESTS, "", "r").is_some(), there, "{status} {hours}");
    }
}
