//! The API server of the model: what it has, what it has told its watchers, and how it answers when it is in trouble.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::pending::{Expected, Id, State};
use controllers::{Key, Mutation, Objects};
use fastrand::Rng;
use jiff::Timestamp;
use proto_kube::view::View as _;
use proto_kube::{GroupResource, Resource, Status, object, resource};
use serde_json::Value;

use crate::laws;

/// A resource by its group and plural.
pub(crate) type Of = (&'static str, &'static str);

/// The resource of this group and name.
pub(crate) fn served(group: &str, plural: &str) -> &'static Resource {
    resource::preferred(GroupResource { group, resource: plural }).expect("it is in the catalogue")
}

/// An object's namespace and name.
pub(crate) fn key(object: &Value) -> Key {
    (object::namespace(object).to_owned(), object::name(object).to_owned())
}

/// What a watcher is told.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) resource: &'static Resource,
    pub(crate) old: Option<Arc<Value>>,
    pub(crate) new: Option<Arc<Value>>,
}

/// No success.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection broke: done or not, nobody knows.
    Unanswered,
    /// The answer was no.
    Status(Status),
}

/// What an answer says, in a word or two.
pub(crate) fn said<T>(answer: &Result<T, Trouble>) -> String {
    match answer {
        Ok(_) => "yes".to_owned(),
        Err(Trouble::Unanswered) => "no answer".to_owned(),
        Err(Trouble::Status(status)) => format!("{} {}", status.code, status.message),
    }
}

/// The server.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) objects: Objects,
    /// All that has happened to a resource.
    logs: BTreeMap<Of, Vec<Change>>,
    /// What has happened since the laws were looked at.
    pub(crate) fresh: Vec<Change>,
    /// How many of a hundred requests go wrong.
    pub(crate) trouble: u32,
    /// A law that a request has broken.
    pub(crate) broken: Option<String>,
}

impl Server {
    pub(crate) fn get(&self, of: Of, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.objects.get(GroupResource { group: of.0, resource: of.1 }, namespace, name)
    }

    pub(crate) fn list(&self, of: Of) -> Vec<Arc<Value>> {
        self.objects.list(GroupResource { group: of.0, resource: of.1 }, "")
    }

    /// What has happened to a resource.
    pub(crate) fn log(&self, of: Of) -> &[Change] {
        self.logs.get(&of).map_or(&[], Vec::as_slice)
    }

    /// A request, which may go wrong. Gives what the caller's cache must show afterwards, and nothing where a condition
    /// does not hold.
    pub(crate) fn ask(
        &mut self,
        by: &str,
        mutation: &Mutation,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Result<Option<Option<Expected>>, Trouble> {
        if self.trouble == 0 || rng.u32(..100) >= self.trouble {
            return self.apply(by, mutation, now).map_err(Trouble::Status);
        }
        let status = match rng.u8(..6) {
            0 => Status::internal("a fault"),
            1 => Status::too_many_requests("a fault", 1),
            2 => Status::unavailable("a fault"),
            3 if !matches!(mutation, Mutation::Create(..) | Mutation::If(_)) => {
                let of = GroupResource { group: "", resource: "faults" };
                Status::conflict(of, "", "the object has been modified")
            }
            4 => return Err(Trouble::Unanswered),
            _ => {
                let _ = self.apply(by, mutation, now);
                return Err(Trouble::Unanswered);
            }
        };
        Err(Trouble::Status(status))
    }

    /// Does what a mutation asks for.
    pub(crate) fn apply(
        &mut self,
        by: &str,
        mutation: &Mutation,
        now: Timestamp,
    ) -> Result<Option<Option<Expected>>, Status> {
        if by == laws::COLLECTOR
            && let Err(broken) = laws::no_living_owner(self, mutation)
        {
            self.broken.get_or_insert(broken);
        }
        self.may_bind(mutation)?;
        if let Mutation::Clear(resource, namespace) = mutation {
            for object in self.objects.list(resource.group_resource(), namespace) {
                self.apply(by, &Mutation::Delete(resource, key(&object), Value::Null), now)?;
            }
            return Ok(Some(None));
        }
        let Some((resource, namespace, name)) = target(mutation) else {
            return match self.objects.apply(mutation, now) {
                Err(_) if matches!(mutation, Mutation::If(_)) => Ok(None),
                result => result.map(|()| Some(None)),
            };
        };
        let of = resource.group_resource();
        let old = self.objects.get(of, &namespace, &name);
        self.objects.apply(mutation, now)?;
        let new = self.objects.get(of, &namespace, &name);
        let same = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let change = Change { resource, old: old.clone(), new: new.clone() };
            self.logs.entry((resource.group, resource.plural)).or_default().push(change.clone());
            self.fresh.push(change);
        }
        let id = (resource, namespace, name);
        Ok(Some(match (mutation, new, old) {
            (Mutation::Post(..), ..) => Some(Expected { id, state: State::Unknown }),
            (Mutation::Delete(..), _, Some(old)) | (_, None, Some(old)) => {
                Some(Expected { id, state: State::Gone(object::uid(&old).to_owned()) })
            }
            (_, Some(new), _) => Some(Expected::written(resource, &new)),
            (_, None, None) => None,
        }))
    }

    /// A pod is bound once, and to stay: what the server sees to, not its objects.
    fn may_bind(&self, mutation: &Mutation) -> Result<(), Status> {
        let Mutation::Post(resource, (namespace, name), "binding", body) = mutation else { return Ok(()) };
        let Some(pod) = self.objects.get(resource.group_resource(), namespace, name) else { return Ok(()) };
        let bound = !object::text(&pod, &["spec", "nodeName"]).is_empty();
        let other = object::text(body, &["metadata", "uid"]) != object::uid(&pod);
        if bound || other || object::is_terminating(&pod) {
            return Err(Status::conflict(resource.group_resource(), name, "it cannot be bound"));
        }
        Ok(())
    }
}

/// What a mutation changes.
pub(crate) fn target(mutation: &Mutation) -> Option<Id> {
    match mutation {
        Mutation::Create(resource, object) | Mutation::Update(resource, _, object) => {
            let (namespace, name) = key(object);
            Some((resource, namespace, name))
        }
        Mutation::Merge(resource, (namespace, name), ..)
        | Mutation::Delete(resource, (namespace, name), _)
        | Mutation::Post(resource, (namespace, name), ..) => {
            Some((resource, namespace.clone(), name.clone()))
        }
        _ => None,
    }
}

/// A mutation in a line.
pub(crate) fn words(mutation: &Mutation) -> String {
    let at = target(mutation).map(|(r, namespace, name)| format!("{} {namespace}/{name}", r.singular));
    let at = at.unwrap_or_default();
    match mutation {
        Mutation::Create(..) => format!("create {at}"),
        Mutation::Update(_, sub, _) => format!("update {at} {}", sub.unwrap_or_default()),
        Mutation::Merge(_, _, sub, patch) => format!("merge {at} {} {patch}", sub.unwrap_or_default()),
        Mutation::Delete(_, _, options) => format!("delete {at} {options}"),
        Mutation::Post(_, _, sub, body) => format!("{sub} {at} {}", body["target"]["name"]),
        Mutation::Event(_, _, reason, message) => format!("tell {reason}: {message}"),
        other => format!("{other:?}"),
    }
}
