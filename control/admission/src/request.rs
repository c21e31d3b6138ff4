//! What is asked, and what comes of it.

use proto_kube::{GroupResource, Resource, User};
use serde_json::Value;

/// What a request does to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Also an action on a subresource: `pods/binding`, `serviceaccounts/token`.
    Create,
    /// Also each kind of patch.
    Update,
    /// Of one object; a collection's deletion asks for each.
    Delete,
    /// A stream to a pod: `exec`, `attach`, `portforward`, `proxy`.
    Connect,
}

/// A write on its way to the store.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What it does.
    pub operation: Operation,
    /// Of which resource.
    pub resource: &'a Resource,
    /// As `status`; empty for the object itself.
    pub subresource: &'a str,
    /// Empty for a cluster-scoped object.
    pub namespace: &'a str,
    /// Empty when it is still to be made from `generateName`.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a User,
    /// The object as it is stored, for an update or a deletion.
    pub old: Option<&'a Value>,
    /// The decoded `CreateOptions`, `UpdateOptions` or `DeleteOptions`; null for none.
    pub options: &'a Value,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    /// Five random characters, for names of what is added to the object.
    pub suffix: &'a str,
    /// Whether the user may do a verb on an object: verb, resource, namespace, name.
    pub may: &'a dyn Fn(&str, GroupResource<'_>, &str, &str) -> bool,
}

/// What comes of a write that is admitted.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// For `Warning` headers, in order.
    pub warnings: Vec<String>,
    /// For the audit event: key and value.
    pub audit: Vec<(String, String)>,
    /// What else must be written in the same transaction.
    pub charges: Vec<Charge>,
}

/// An object that changes together with the one that is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Charge {
    /// Of which resource.
    pub resource: GroupResource<'static>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The `resourceVersion` that it must still have: as the view showed it.
    pub expect: String,
    /// The object as it then is.
    pub object: Value,
}
