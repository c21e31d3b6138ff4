//! Certificates for nodes are granted without asking anybody: to those that join with a token, for their own name as long
//! as no other node lives under it; to a node for its next certificate; and for what it serves, where all names and
//! addresses are those of its Node.
//!
//! Whether a node lives is not told by its status alone, which stays for a while when a machine dies. One who asks for its
//! name waits: a sign of life meanwhile denies it, the end of the node's time grants it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use proto_kube::view::View;
use proto_kube::{GroupResource, object};
use serde_json::{Value, json};

use super::{is_decided, is_issued};
use crate::clock::{Clock, PERIOD, after};
use crate::conditions::stamp;
use crate::resources::{LEASES, NODES, SIGNING_REQUESTS, served};
use crate::{Asked, Condition, Controller, Key, Mutation, Outcome, World, owner};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const USER: &str = "system:node:";
const GROUP: &str = "system:nodes";
const LEASES_OF_NODES: &str = "kube-node-lease";
/// How long one who joins has for the way from its certificate to its Node before another may have the name.
const JOINS_WITHIN: Duration = Duration::from_secs(60);

/// Grants certificates to nodes.
#[derive(Default)]
pub(super) struct Approver {
    clock: Clock,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Requests for names that may be another's, by their uids.
    doubts: BTreeMap<String, Doubt>,
    /// Who was granted a name just now, by the name: the view may not show it yet.
    granted: BTreeMap<String, Granted>,
}

/// Whether another has the name that is asked for.
struct Doubt {
    /// What was seen of the other at first, and when that was.
    sign: String,
    since: Duration,
}

struct Granted {
    /// The request's.
    uid: String,
    time: Timestamp,
    since: Duration,
}

impl Controller for Approver {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("certificates.k8s.io", "certificatesigningrequests"),
            ("", "nodes"),
            ("coordination.k8s.io", "leases"),
        ]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of == SIGNING_REQUESTS {
            return new.filter(|request| is_open(request)).map(owner::key).into_iter().collect();
        }
        // With its addresses a node may serve; its life and its end decide who gets its name.
        let part =
            |node: Option<&Value>| node.map(|node| (node["status"]["addresses"].clone(), is_alive(node)));
        let concerns = match of {
            NODES => part(old) != part(new),
            _ => new.or(old).is_some_and(|lease| object::namespace(lease) == LEASES_OF_NODES),
        };
        if !concerns {
            return Vec::new();
        }
        let requests = view.list(SIGNING_REQUESTS, "");
        requests.iter().filter(|request| is_open(request)).map(|request| owner::key(request)).collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(request) = world.view.get(SIGNING_REQUESTS, &key.0, &key.1).filter(|r| is_open(r)) else {
            return out;
        };
        let read = world.facts.read_request.filter(|_| world.refused.is_none());
        let asked = read.and_then(|read| read(object::text(&request, &["spec", "request"])));
        let mutations = match (asked, object::text(&request, &["spec", "signerName"])) {
            (Some(asked), CLIENT) => self.client(world, &request, &asked, &mut out),
            (Some(asked), SERVING) => serving(world, &request, &asked),
            _ => Vec::new(),
        };
        out.mutations = mutations;
        out
    }
}

impl Approver {
    fn client(
        &self,
        world: &World<'_>,
        request: &Arc<Value>,
        asked: &Asked,
        out: &mut Outcome,
    ) -> Vec<Mutation> {
        let Some(name) = node(request, asked, "client auth") else { return Vec::new() };
        if !asked.dns.is_empty() || !asked.ips.is_empty() {
            return Vec::new();
        }
        if object::text(request, &["spec", "username"]) == asked.common_name {
            let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
            return grant(request, "selfnodeclient", message, world);
        }
        match self.is_another(world, request, asked, name) {
            Some(true) => {
                let message = format!(
                    "a node named {name} is alive: give the new one another name, or delete or stop that one first"
                );
                vec![decide(request, "Denied", "NodeNameInUse", &message, world)]
            }
            Some(false) => {
                let message = "Auto approving kubelet client certificate after SubjectAccessReview.";
                grant(request, "nodeclient", message, world)
            }
            None => {
                out.wake(after(world.now, PERIOD));
                Vec::new()
            }
        }
    }

    /// Whether the name that is asked for is another's; `None` as long as that is not known.
    fn is_another(&self, world: &World<'_>, request: &Value, asked: &Asked, name: &str) -> Option<bool> {
        let (view, uid) = (world.view, object::uid(request));
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory { doubts, granted } = &mut *memory;
        let at = self.clock.at(world.now);
        let requests = view.list(SIGNING_REQUESTS, "");
        doubts.retain(|uid, _| requests.iter().any(|r| object::uid(r) == uid && is_open(r)));
        granted.retain(|_, granted| at.saturating_sub(granted.since) < JOINS_WITHIN);
        let other = granted.get(name).filter(|granted| granted.uid != uid).map(|granted| granted.time);
        let other = other.or_else(|| granted_before(world, request, asked));
        let sign = sign_of_life(view, name);
        let is_over = |granted| died(view, name).is_some_and(|died| granted < died);
        let another = if sign.is_empty() && other.is_none_or(is_over) {
            Some(false)
        } else {
            let entry = doubts.entry(uid.to_owned());
            let doubt = entry.or_insert_with(|| Doubt { sign: sign.clone(), since: at });
            match sign.is_empty() {
                true => (at.saturating_sub(doubt.since) >= JOINS_WITHIN).then_some(false),
                false => (sign != doubt.sign).then_some(true),
            }
        };
        if another == Some(false) {
            let granting = Granted { uid: uid.to_owned(), time: world.now, since: at };
            granted.insert(name.to_owned(), granting);
        }
        another
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

fn grant(request: &Arc<Value>, subresource: &str, message: &str, world: &World<'_>) -> Vec<Mutation> {
    vec![Mutation::If(may(request, subresource)), decide(request, "Approved", "AutoApproved", message, world)]
}

/// What changes as long as a node lives; empty where there is none, or it is known to be dead.
fn sign_of_life(view: &dyn View, name: &str) -> String {
    let Some(node) = view.get(NODES, "", name).filter(|node| is_alive(node)) else { return String::new() };
    let lease = view.get(LEASES, LEASES_OF_NODES, name);
    let renewed = lease.as_ref().map_or("", |lease| object::text(lease, &["spec", "renewTime"]));
    let heartbeat = ready(&node).map_or("", |ready| object::text(ready, &["lastHeartbeatTime"]));
    format!("{} {renewed} {heartbeat}", object::uid(&node))
}

/// When a node was found to be dead.
fn died(view: &dyn View, name: &str) -> Option<Timestamp> {
    time(ready(&*view.get(NODES, "", name)?)?, "lastTransitionTime")
}

/// When somebody else was granted the same name just before: he may be about to register.
fn granted_before(world: &World<'_>, request: &Value, asked: &Asked) -> Option<Timestamp> {
    let read = world.facts.read_request?;
    let born = time(&request["metadata"], "creationTimestamp")?;
    let joins = |r: &Value| {
        object::text(r, &["spec", "signerName"]) == CLIENT
            && object::text(r, &["spec", "username"]) != asked.common_name
            && object::uid(r) != object::uid(request)
    };
    let granted = |r: &Value| super::condition(r, "Approved").and_then(|by| time(by, "lastUpdateTime"));
    let same = |r: &Value| {
        let other = read(object::text(r, &["spec", "request"]));
        other.is_some_and(|other| other.common_name == asked.common_name)
    };
    let requests = world.view.list(SIGNING_REQUESTS, "");
    let others = requests.iter().filter(|r| joins(r) && same(r)).filter_map(|r| granted(r));
    let latest = others.max()?;
    // One that came later is granted by a clock that was set, or by another process: it counts.
    let before = Duration::try_from(born.duration_since(latest)).unwrap_or_default();
    (before < JOINS_WITHIN).then_some(latest)
}

fn time(of: &Value, member: &str) -> Option<Timestamp> {
    object::text(of, &[member]).parse().ok()
}

fn ready(node: &Value) -> Option<&Value> {
    object::items(node, &["status", "conditions"]).find(|c| c["type"] == "Ready")
}

/// Whether a node tells of itself: who watches over nodes says of a silent one that its state is unknown.
fn is_alive(node: &Value) -> bool {
    ready(node).is_some_and(|ready| ready["status"] != "Unknown")
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
