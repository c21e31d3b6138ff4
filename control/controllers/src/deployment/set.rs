//! A ReplicaSet of a deployment, as it is and as it shall be.

use std::cmp::Ordering;
use std::sync::Arc;

use proto_kube::object;
use serde_json::Value;

use crate::resources::{REPLICA_SETS, served};
use crate::{Mutation, write};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The size of the deployment when the set was last scaled with it.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// That size with the surge.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

pub(super) struct Set {
    /// As it is; `None` for one to be created.
    pub(super) seen: Option<Arc<Value>>,
    /// As it shall be.
    pub(super) object: Value,
    /// What is to be told when it has become so.
    pub(super) told: Vec<Mutation>,
}

impl Set {
    pub(super) fn of(seen: Arc<Value>) -> Self {
        Self { object: (*seen).clone(), seen: Some(seen), told: Vec::new() }
    }

    pub(super) fn name(&self) -> &str {
        object::name(&self.object)
    }

    /// How many pods it shall have.
    pub(super) fn replicas(&self) -> i64 {
        object::number(&self.object, &["spec", "replicas"]).unwrap_or(1)
    }

    /// A count of its status.
    pub(super) fn status(&self, member: &str) -> i64 {
        object::number(&self.object, &["status", member]).unwrap_or(0)
    }

    /// How many available pods can be counted on: those that it shall not have will go, though its status still tells of
    /// them.
    pub(super) fn available(&self) -> i64 {
        self.status("availableReplicas").min(self.replicas())
    }

    /// Which in the order of templates; `None` where the annotation is no number.
    pub(super) fn revision(&self) -> Option<i64> {
        object::annotation(&self.object, REVISION).map_or(Some(0), |text| text.parse().ok())
    }

    /// A count in an annotation.
    pub(super) fn noted(&self, key: &str) -> Option<i64> {
        object::annotation(&self.object, key)?.parse::<i32>().ok().filter(|n| *n >= 0).map(i64::from)
    }

    /// Sets an annotation.
    pub(super) fn note(&mut self, key: &str, value: &str) {
        object::member(&mut self.object["metadata"], "annotations").insert(key.to_owned(), value.into());
    }

    /// Older before newer.
    pub(super) fn by_age(&self, other: &Self) -> Ordering {
        let key = |set: &Self| {
            let created = object::time(&set.object, &["metadata", "creationTimestamp"]);
            (created.is_none(), created, set.name().to_owned())
        };
        key(self).cmp(&key(other))
    }

    /// The write that makes it so, with what is told then.
    pub(super) fn write(self, out: &mut Vec<Mutation>) {
        match self.seen {
            None => out.push(Mutation::Create(served(REPLICA_SETS), self.object)),
            Some(seen) if *seen == self.object => return,
            Some(_) => out.push(write::update(REPLICA_SETS, self.object)),
        }
        out.extend(self.told);
    }
}

/// The sum of something over sets.
pub(super) fn sum(sets: &[Set], of: impl Fn(&Set) -> i64) -> i64 {
    sets.iter().map(of).sum()
}
