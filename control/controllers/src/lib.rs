//! What each controller changes next: a pure function of the cluster as it is, one file a controller. Who wants to run
//! them finds them in [`all`].
#![forbid(unsafe_code)]

mod account;
mod bootstrap;
mod certificate;
mod clock;
mod conditions;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
#[cfg(test)]
mod driven;
mod endpoint;
mod garbage;
mod history;
mod job;
#[cfg(test)]
mod model;
mod names;
mod namespaces;
mod node;
pub mod objects;
mod owner;
mod pods;
mod quota;
mod replicas;
mod replicaset;
mod replicationcontroller;
mod resources;
mod roles;
mod service_cidrs;
mod statefulset;
mod storage;
mod ttl;
mod write;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::{GroupResource, Resource, Status, view::View};
use serde_json::Value;

pub use objects::Objects;

/// What a controller works on at a time: an object, by namespace (empty for a cluster-scoped one) and name.
pub type Key = (String, String);

/// What the cluster was started with, as far as controllers must know it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The certificate, in PEM, that pods trust the API server by.
    pub root_ca: String,
    /// Ranges that nodes get their pods' addresses from, with the length of a node's prefix: at most one a family.
    pub pod_cidrs: Vec<(String, u8)>,
    /// Reads the `spec.request` of a signing request, with the eyes of whoever signs it: two readers might see different
    /// names. Without it no certificate is granted by itself.
    pub read_request: Option<fn(&str) -> Option<Asked>>,
    /// Counts a quota's use anew. Without it the API server alone counts.
    pub recount: Option<Recount>,
    /// Signs a text with a bootstrap token: text, identifier, secret. Without it `cluster-info` is not signed.
    pub sign: Option<fn(&str, &str, &str) -> String>,
}

/// A quota with another status, or nothing where it is right.
pub type Recount = fn(&Value, &dyn View, Timestamp) -> Option<Value>;

/// What is asked to be certified, as far as it matters who may have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations.
    pub organizations: Vec<String>,
    /// Host names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Whether names of other kinds are asked for.
    pub other_names: bool,
}

/// What a controller sees.
pub struct World<'a> {
    /// The objects, as of one moment. It may be behind, but never behind the controller's own last changes for the key.
    pub view: &'a dyn View,
    /// What never changes.
    pub facts: &'a Facts,
    /// The time.
    pub now: Timestamp,
    /// What the server refused when the key was last worked on. The controller is asked at once with it, so that it can
    /// tell people and, in this round, leave the change alone; then, whatever came of that, without it after a back-off.
    pub refused: Option<&'a Refused>,
}

/// A change that was not made. That the object is there already, is gone, or has changed meanwhile is no refusal: there
/// the controller is simply asked again.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What was asked for.
    pub mutation: Mutation,
    /// The server's answer.
    pub status: Status,
}

impl Refused {
    /// Whether it was refused because its namespace is being deleted: that is nobody's trouble.
    #[must_use]
    pub fn ends_with_namespace(&self) -> bool {
        write::ends_with_namespace(&self.status)
    }
}

/// A change that a controller wants. Each carries what makes it harmless when the world has moved on. One whose outcome
/// is not known, as the connection broke, is asked for again as it is before the key is looked at anew: a new decision
/// might choose another name for what has in fact been made.
#[derive(Debug, Clone, PartialEq)]
pub enum Mutation {
    /// Create this object; it is there already: as good.
    Create(&'static Resource, Value),
    /// Replace the object, or the named subresource, if its `resourceVersion` is still this one.
    Update(&'static Resource, Option<&'static str>, Value),
    /// Merge this (RFC 7396) into the object or its subresource; `metadata.uid` in it keeps it from hitting another object
    /// of the name, `metadata.resourceVersion` from hitting a later state.
    Merge(&'static Resource, Key, Option<&'static str>, Value),
    /// Delete the object if it is still this one: the `DeleteOptions` carry the uid as a precondition.
    Delete(&'static Resource, Key, Value),
    /// Create this at a subresource, as `eviction` or `binding`.
    Post(&'static Resource, Key, &'static str, Value),
    /// Delete all objects of a resource in a namespace, as one request.
    Clear(&'static Resource, String),
    /// Go on only if this holds. If not, the rest is left and the key is looked at again: it is no refusal.
    If(Condition),
    /// Sign an approved request for a certificate, or say in its status why not; only whoever holds the key can.
    Sign(Arc<Value>),
    /// Give a secret of the type `kubernetes.io/service-account-token` a token of the account that it names: one that is
    /// bound to the secret and as good as for ever, from a `TokenRequest`.
    Token(Arc<Value>),
    /// Tell people: (regarding, type, reason, message). Told once what stands before it in the outcome has happened.
    Event(Arc<Value>, &'static str, &'static str, String),
}

/// What is asked of the server itself, as the view may be behind.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// There is no such object; none of this uid, where one is given. For an empty name: none at all in the namespace.
    Absent(&'static Resource, Key, Option<String>),
    /// Somebody may do something: a `SubjectAccessReview` with this `spec` is answered so.
    Allowed(Value),
}

/// What reconciling a key came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// In this order; the first that fails ends the rest, and the key is looked at again. Creations that stand together,
    /// or deletions, may be made side by side; events between them do not part them.
    pub mutations: Vec<Mutation>,
    /// When to look again though nothing has changed.
    pub again: Option<Timestamp>,
}

impl Outcome {
    /// To be looked at again at `time`, or earlier where that is already wanted.
    pub fn wake(&mut self, time: Timestamp) {
        self.again = Some(self.again.map_or(time, |again| again.min(time)));
    }
}

/// A controller. Reconciling again after its mutations have been applied yields none; only what is done in steps for
/// people to follow, as a rolling update, takes a few more.
pub trait Controller: Send + Sync {
    /// As upstream names its service account in kube-system, so that the bootstrap policy fits: `replicaset-controller`.
    fn name(&self) -> &'static str;

    /// What it reads, as (group, plural).
    fn watches(&self) -> &'static [(&'static str, &'static str)];

    /// Whether it needs all of an object that it reads. Otherwise it may be shown no more than what
    /// [`object::narrow`](proto_kube::object::narrow) leaves of it, and must not replace it: that would empty it.
    fn needs(&self, of: GroupResource<'_>, _object: &Value) -> bool {
        of != resources::PODS
    }

    /// The keys that a change concerns; `old` is none for a new object, `new` for one that is gone.
    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key>;

    /// What to change for a key.
    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome;
}

/// All controllers, by name.
#[must_use]
pub fn all() -> Vec<Box<dyn Controller>> {
    let mut all: Vec<Box<dyn Controller>> = vec![
        Box::new(cronjob::CronJobs),
        Box::new(daemonset::DaemonSets::default()),
        Box::new(deployment::Deployments),
        Box::new(job::Jobs),
        Box::new(replicaset::ReplicaSets),
        Box::new(replicationcontroller::ReplicationControllers),
        Box::new(statefulset::StatefulSets),
        Box::new(ttl::TtlAfterFinished),
    ];
    all.extend(account::all());
    all.extend(bootstrap::all());
    all.extend(certificate::all());
    all.extend(disruption::all());
    all.extend(endpoint::all());
    all.extend(garbage::all());
    all.push(Box::new(namespaces::Namespaces));
    all.extend(node::all());
    all.push(Box::new(quota::Quotas::default()));
    all.push(Box::new(roles::Aggregation));
    all.push(Box::new(service_cidrs::ServiceCidrs));
    all.extend(storage::all());
    all
}
