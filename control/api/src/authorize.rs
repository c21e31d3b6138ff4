//! Whether a request may pass: the node authorizer, then RBAC, over what the store holds at this moment.
//!
//! There is no task that follows the store: whoever asks first takes in what has happened since. A role that was
//! written is in force for the next request, whoever sends it.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use authz::{Attributes, Decision, MASTERS, node, rbac};
use proto_kube::selector::Fields;
use proto_kube::{GroupResource, Resource, Status, User, resource};
use serde_json::Value;
use store::{Range, Watch};

use crate::info::RequestInfo;
use crate::query::Query;
use crate::rest;
use crate::server::Store;

const RBAC: &str = "rbac.authorization.k8s.io";
const POLICY: [(&str, &str); 4] =
    [(RBAC, "clusterroles"), (RBAC, "clusterrolebindings"), (RBAC, "roles"), (RBAC, "rolebindings")];
const GRAPH: [(&str, &str); 4] = [
    ("", "pods"),
    ("", "persistentvolumes"),
    ("", "serviceaccounts"),
    ("storage.k8s.io", "volumeattachments"),
];

/// Who may do what, as of now.
#[derive(Default)]
pub struct Authority {
    rules: RwLock<Followed<rbac::Policy>>,
    /// Followed from the first request of a node on: a cluster without nodes pays nothing for it.
    graph: RwLock<Followed<node::Graph>>,
}

/// Something made of objects, and where they come from.
#[derive(Default)]
struct Followed<T> {
    made: T,
    sources: Vec<Source>,
    /// The store's revision up to which everything is taken in.
    revision: i64,
}

struct Source {
    resource: &'static Resource,
    watch: Watch<rest::Index>,
}

/// Takes in objects one by one.
trait Take: Default {
    fn put(&mut self, resource: GroupResource<'_>, object: &Value);
    fn remove(&mut self, resource: GroupResource<'_>, namespace: &str, name: &str);
}

impl Take for rbac::Policy {
    fn put(&mut self, resource: GroupResource<'_>, object: &Value) {
        Self::put(self, resource, object);
    }
    fn remove(&mut self, resource: GroupResource<'_>, namespace: &str, name: &str) {
        Self::remove(self, resource, namespace, name);
    }
}

impl Take for node::Graph {
    fn put(&mut self, resource: GroupResource<'_>, object: &Value) {
        Self::put(self, resource, object);
    }
    fn remove(&mut self, resource: GroupResource<'_>, namespace: &str, name: &str) {
        Self::remove(self, resource, namespace, name);
    }
}

impl<T: Take> Followed<T> {
    /// Takes in what has happened; begins anew where the past is gone.
    fn catch_up(&mut self, store: &Store, from: &[(&str, &str)]) {
        let revision = store.revision();
        let followed = !self.sources.is_empty() && self.sources.iter_mut().all(|s| s.take(&mut self.made));
        if !followed {
            self.begin(store, from);
        }
        self.revision = revision;
    }

    fn begin(&mut self, store: &Store, from: &[(&str, &str)]) {
        self.made = T::default();
        self.sources.clear();
        for (group, plural) in from {
            let resource = resource::preferred(GroupResource { group, resource: plural });
            let Some((resource, prefix)) = resource.and_then(|r| Some((r, r.prefix()?))) else { continue };
            // Without a revision or a limit, a range reads the present, which is never compacted.
            let Ok(page) = store.range(&prefix, Range::default()) else { continue };
            for entry in &page.entries {
                if let Ok(object) = serde_json::from_slice(&entry.value) {
                    self.made.put(resource.group_resource(), &object);
                }
            }
            if let Ok(watch) = store.watch(&prefix, page.revision) {
                self.sources.push(Source { resource, watch });
            }
        }
    }
}

impl Source {
    /// `false` when the past that comes next is gone.
    fn take<T: Take>(&mut self, made: &mut T) -> bool {
        loop {
            let Ok(batch) = self.watch.try_next() else { return false };
            if batch.events.is_empty() {
                return true;
            }
            for event in &batch.events {
                let object = event.entry.as_ref().and_then(|e| serde_json::from_slice(&e.value).ok());
                match object {
                    Some(object) => made.put(self.resource.group_resource(), &object),
                    None => {
                        let (namespace, name) = parts(self.resource, event.key());
                        made.remove(self.resource.group_resource(), namespace, name);
                    }
                }
            }
        }
    }
}

/// Namespace and name of an object's key.
fn parts<'a>(resource: &Resource, key: &'a str) -> (&'a str, &'a str) {
    let rest = resource.prefix().and_then(|prefix| key.strip_prefix(prefix.as_str())).unwrap_or(key);
    rest.split_once('/').unwrap_or(("", rest))
}

fn fresh<'a, T: Take>(
    lock: &'a RwLock<Followed<T>>,
    store: &Store,
    from: &[(&str, &str)],
) -> RwLockReadGuard<'a, Followed<T>> {
    let read = lock.read().unwrap_or_else(PoisonError::into_inner);
    if read.revision == store.revision() && !read.sources.is_empty() {
        return read;
    }
    drop(read);
    lock.write().unwrap_or_else(PoisonError::into_inner).catch_up(store, from);
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl Authority {
    /// Runs something over the roles and bindings as they are now, as the escalation check of RBAC writes does.
    pub fn with_policy<R>(&self, store: &Store, look: impl FnOnce(&rbac::Policy) -> R) -> R {
        look(&fresh(&self.rules, store, &POLICY).made)
    }

    /// Whether `user` may do what is asked, and why.
    pub fn decide(&self, store: &Store, user: &User, asked: &Attributes<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut by_node = String::new();
        if user.node().is_some() {
            match fresh(&self.graph, store, &GRAPH).made.authorize(user, asked) {
                Decision::NoOpinion(reason) => by_node = reason,
                decided => return decided,
            }
        }
        match fresh(&self.rules, store, &POLICY).made.authorize(user, asked) {
            Decision::NoOpinion(reason) if !by_node.is_empty() => {
                Decision::NoOpinion(if reason.is_empty() { by_node } else { format!("{by_node}; {reason}") })
            }
            decided => decided,
        }
    }

    /// Lets a request pass, or says who may not do what, and what would allow it.
    ///
    /// # Errors
    /// The 403 that answers the request.
    pub fn authorize(&self, store: &Store, user: &User, asked: &Attributes<'_>) -> Result<(), Status> {
        self.permit(store, user, asked).map(drop)
    }

    /// As [`Authority::authorize`], with the reason why a request may pass.
    ///
    /// # Errors
    /// The 403 that answers the request.
    pub fn permit(&self, store: &Store, user: &User, asked: &Attributes<'_>) -> Result<String, Status> {
        match self.decide(store, user, asked) {
            Decision::Allow(reason) => Ok(reason),
            Decision::Deny(reason) => Err(asked.forbidden(user, &[&reason])),
            Decision::NoOpinion(reason) => {
                let help = self.with_policy(store, |policy| policy.suggest(user, asked));
                Err(asked.forbidden(user, &[&reason, &help]))
            }
        }
    }
}

/// The field selector that authorization looks at: that of a list, watch or deletion of a collection.
#[must_use]
pub fn selector(info: &RequestInfo, query: &Query) -> Option<Fields> {
    let text = query.text("fieldSelector");
    let listing = matches!(info.verb, "list" | "watch" | "deletecollection");
    (listing && !text.is_empty()).then(|| Fields::parse(text).ok()).flatten()
}

/// A request as authorization sees it.
#[must_use]
pub fn attributes<'a>(info: &'a RequestInfo, fields: Option<&'a Fields>) -> Attributes<'a> {
    match &info.target {
        Some(target) => Attributes {
            verb: info.verb,
            group: &target.group,
            version: &target.version,
            resource: &target.resource,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: &target.name,
            path: None,
            fields,
        },
        None => Attributes { verb: info.verb, path: Some(&info.path), ..Attributes::default() },
    }
}
