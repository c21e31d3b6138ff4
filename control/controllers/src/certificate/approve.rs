//! Certificates for nodes are granted without asking anybody: to those that join with a token, for their own name as long
//! as no other node lives under it; to a node for its next certificate; and for what it serves, where all names and
//! addresses are those of its Node.

use std::net::IpAddr;
use std::sync::Arc;

use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::{Value, json};

use super::{is_decided, is_issued};
use crate::conditions::stamp;
use crate::resources::{NODES, SIGNING_REQUESTS, served};
use crate::{Asked, Condition, Controller, Key, Mutation, Outcome, World, owner};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const USER: &str = "system:node:";
const GROUP: &str = "system:nodes";

/// Grants certificates to nodes.
pub(super) struct Approver;

impl Controller for Approver {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("certificates.k8s.io", "certificatesigningrequests"), ("", "nodes")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of != NODES {
            return new.filter(|request| is_open(request)).map(owner::key).into_iter().collect();
        }
        // With its addresses it may serve.
        let addresses = |node: Option<&Value>| node.map(|node| node["status"]["addresses"].clone());
        let Some(node) = new.filter(|_| addresses(old) != addresses(new)) else { return Vec::new() };
        let user = format!("{USER}{}", object::name(node));
        let requests = view.list(SIGNING_REQUESTS, "");
        let waits = |r: &&Arc<Value>| is_open(r) && object::text(r, &["spec", "username"]) == user;
        requests.iter().filter(waits).map(|request| owner::key(request)).collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(request) = world.view.get(SIGNING_REQUESTS, &key.0, &key.1).filter(|r| is_open(r)) else {
            return out;
        };
        let read = world.facts.read_request.filter(|_| world.refused.is_none());
        let asked = read.and_then(|read| read(object::text(&request, &["spec", "request"])));
        out.mutations = match (asked, object::text(&request, &["spec", "signerName"])) {
            (Some(asked), CLIENT) => client(world, &request, &asked),
            (Some(asked), SERVING) => serving(world, &request, &asked),
            _ => Vec::new(),
        };
        out
    }
}

fn is_open(request: &Value) -> bool {
    let ours = matches!(object::text(request, &["spec", "signerName"]), CLIENT | SERVING);
    ours && !is_issued(request) && !is_decided(request) && !object::is_terminating(request)
}

/// The name of the node for which a certificate is asked, if it is asked for as it must be.
fn node<'a>(request: &Value, asked: &'a Asked, auth: &str) -> Option<&'a str> {
    let usages: Vec<&str> = object::items(request, &["spec", "usages"]).filter_map(Value::as_str).collect();
    let known = ["digital signature", "key encipherment", auth];
    let right = usages.iter().all(|usage| known.contains(usage))
        && usages.contains(&"digital signature")
        && usages.contains(&auth);
    let named = asked.organizations == [GROUP] && !asked.other_names && right;
    asked.common_name.strip_prefix(USER).filter(|name| named && !name.is_empty())
}

fn client(world: &World<'_>, request: &Arc<Value>, asked: &Asked) -> Vec<Mutation> {
    let Some(name) = node(request, asked, "client auth") else { return Vec::new() };
    if !asked.dns.is_empty() || !asked.ips.is_empty() {
        return Vec::new();
    }
    let own = object::text(request, &["spec", "username"]) == asked.common_name;
    if !own && world.view.get(NODES, "", name).is_some_and(|node| is_alive(&node)) {
        let message = format!(
            "a node named {name} is alive: give the new one another name, or delete or stop that one first"
        );
        return vec![decide(request, "Denied", "NodeNameInUse", &message, world)];
    }
    let (subresource, message) = match own {
        true => {
            ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
        }
        false => ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
    };
    vec![Mutation::If(may(request, subresource)), decide(request, "Approved", "AutoApproved", message, world)]
}

/// Whether a node tells of itself: who watches over nodes says of a silent one that its state is unknown.
fn is_alive(node: &Value) -> bool {
    object::items(node, &["status", "conditions"]).any(|c| c["type"] == "Ready" && c["status"] != "Unknown")
}

fn serving(world: &World<'_>, request: &Arc<Value>, asked: &Asked) -> Vec<Mutation> {
    let Some(name) = node(request, asked, "server auth") else { return Vec::new() };
    let own = object::text(request, &["spec", "username"]) == asked.common_name
        && object::items(request, &["spec", "groups"]).any(|group| group == GROUP);
    let Some(node) = world.view.get(NODES, "", name).filter(|_| own) else { return Vec::new() };
    let addresses: Vec<&str> = object::items(&node, &["status", "addresses"])
        .map(|address| object::text(address, &["address"]))
        .collect();
    let of_node = |ip: &IpAddr| addresses.iter().any(|address| address.parse() == Ok(*ip));
    let right = asked.dns.iter().all(|dns| dns == name || addresses.contains(&dns.as_str()))
        && asked.ips.iter().all(of_node)
        && (!asked.dns.is_empty() || !asked.ips.is_empty());
    let message = "Auto approving kubelet serving certificate: its names and addresses are the node's own.";
    right.then(|| decide(request, "Approved", "AutoApproved", message, world)).into_iter().collect()
}

/// Whether whoever asks may get what he asks for.
fn may(request: &Value, subresource: &str) -> Condition {
    let spec = &request["spec"];
    let mut review = json!({"resourceAttributes": {"group": "certificates.k8s.io", "version": "*",
        "resource": "certificatesigningrequests", "subresource": subresource, "verb": "create"}});
    for (member, of) in [("user", "username"), ("uid", "uid"), ("groups", "groups"), ("extra", "extra")] {
        if let Some(value) = object::at(spec, &[of]) {
            review[member] = value.clone();
        }
    }
    Condition::Allowed(review)
}

fn decide(request: &Value, kind: &str, reason: &str, message: &str, world: &World<'_>) -> Mutation {
    let mut decided = request.clone();
    let condition = json!({"type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": stamp(world.now), "lastTransitionTime": stamp(world.now)});
    let others = object::items(request, &["status", "conditions"]).cloned();
    decided["status"]["conditions"] = others.chain([condition]).collect();
    Mutation::Update(served(SIGNING_REQUESTS), Some("approval"), decided)
}
