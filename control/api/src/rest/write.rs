//! The one way of a write, in upstream's order: field management, mutating admission, the kind's strategy, validation,
//! validating admission, and one transaction with all that belongs together.

use std::time::Duration;

use admission::{Effects, Operation};
use proto_kube::field;
use proto_kube::status::{Result, Status};
use proto_kube::{GroupResource, object};
use serde_json::Value;
use store::{CommitError, Txn};

use super::call::Call;
use super::view::Objects;
use super::{Index, list, render, service};
use crate::random;
use crate::stored;

/// How often a write is tried that others keep getting in the way of.
pub(crate) const ATTEMPTS: usize = 100;
/// How long an event is kept.
const EVENT_TTL: Duration = Duration::from_secs(3_600);
/// What a client is told whose object is not the newest.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// What became of a write: the object in the version it is stored in.
pub(crate) struct Written {
    /// The object, with its resourceVersion.
    pub object: Value,
    /// Whether it is new.
    pub created: bool,
}

/// What happened to a transaction.
pub(crate) enum Commit {
    /// It is done, at this revision.
    Done(i64),
    /// The object itself is not what was read.
    Changed,
    /// Something else in the transaction is not what was read.
    Disturbed,
}

/// What admission is told of the write.
pub(crate) struct Admission<'a> {
    /// What the write does.
    pub operation: Operation,
    /// As `status`; empty for the object itself.
    pub subresource: &'a str,
    /// The object as it is stored.
    pub old: Option<&'a Value>,
    /// The options of the request.
    pub options: &'a Value,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
}

impl Admission<'_> {
    fn ask<T>(
        &self,
        call: &Call<'_>,
        name: &str,
        pass: impl FnOnce(&admission::Request<'_>, &Objects<'_>) -> Result<T>,
    ) -> Result<T> {
        let may = |verb: &str, resource: GroupResource<'_>, namespace: &str, name: &str| {
            call.may(verb, resource, namespace, name)
        };
        let request = admission::Request {
            operation: self.operation,
            resource: call.stored,
            subresource: self.subresource,
            namespace: call.namespace,
            name,
            user: &call.ctx.user,
            old: self.old,
            options: self.options,
            dry_run: self.dry_run,
            suffix: &random::suffix(),
            may: &may,
        };
        pass(&request, &Objects(&call.server.store))
    }

    /// Lets admission change an object.
    ///
    /// # Errors
    /// The refusal of a plug-in.
    pub(crate) fn mutate(&self, call: &Call<'_>, name: &str, object: &mut Value) -> Result<()> {
        let effects =
            self.ask(call, name, |request, view| admission::admit(request, object, view, call.ctx.now))?;
        call.warn(effects.warnings);
        Ok(())
    }

    /// Lets admission judge an object; what is to be written besides comes back.
    ///
    /// # Errors
    /// The refusal of a plug-in.
    pub(crate) fn judge(&self, call: &Call<'_>, name: &str, object: &Value) -> Result<Vec<store::Write>> {
        let Effects { warnings, charges, .. } =
            self.ask(call, name, |request, view| admission::validate(request, object, view, call.ctx.now))?;
        call.warn(warnings);
        charges.iter().map(charge).collect()
    }
}

/// What is to be written besides when a stored object is removed: what its service and its quotas get back.
///
/// # Errors
/// When a quota cannot be written.
pub(crate) fn release(call: &Call<'_>, object: &Value) -> Result<Vec<store::Write>> {
    let view = Objects(&call.server.store);
    let charges = admission::resource_quota::release(call.stored, object, &view, call.ctx.now);
    let mut writes = service::release(call, object);
    for given_back in &charges {
        writes.push(charge(given_back)?);
    }
    Ok(writes)
}

fn charge(charge: &admission::Charge) -> Result<store::Write> {
    let resource = proto_kube::resource::preferred(charge.resource);
    let key = resource.and_then(|r| r.key(&charge.namespace, &charge.name));
    let revision = charge.expect.parse();
    match (key, revision) {
        (Some(key), Ok(revision)) => Ok(store::Write::update(key, stored::encode(&charge.object), revision)),
        _ => Err(Status::internal(format!(
            "a charge on {} {} cannot be written",
            charge.resource, charge.name
        ))),
    }
}

/// Carries out a transaction on the object at `key`.
///
/// # Errors
/// What the store refuses.
pub(crate) async fn commit(call: &Call<'_>, key: &str, writes: Vec<store::Write>) -> Result<Commit> {
    match call.server.store.commit(Txn { writes }).await {
        Ok(revision) => Ok(Commit::Done(revision)),
        Err(CommitError::Conflict { key: found, .. }) if found == key => Ok(Commit::Changed),
        Err(CommitError::Conflict { .. }) => Ok(Commit::Disturbed),
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: CommitError<Index>) -> Status {
    match error {
        CommitError::TooLarge { .. } => Status::entity_too_large(error),
        CommitError::Unavailable { .. } => Status::timeout(error.to_string()),
        CommitError::Full { .. } | CommitError::ReadOnly { .. } | CommitError::Closed => {
            Status::unavailable(error.to_string())
        }
        CommitError::Conflict { .. } | CommitError::Duplicate { .. } => Status::internal(error),
    }
}

/// How long the object is kept; `None` for ever.
pub(crate) fn ttl(call: &Call<'_>) -> Option<Duration> {
    (call.stored.group.is_empty() && call.stored.plural == "events").then_some(EVENT_TTL)
}

/// What a client is told when others keep getting in its way.
pub(crate) fn busy(call: &Call<'_>, name: &str) -> Status {
    Status::conflict(call.group_resource(), name, MODIFIED)
}

/// Refuses an object with faults.
///
/// # Errors
/// 422 with all of them.
pub(crate) fn check(call: &Call<'_>, name: &str, errors: &[field::Error]) -> Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&call.resource.gvk(), name, errors)) }
}

/// Refuses a role or binding that gives more than its writer has.
///
/// # Errors
/// 403 with what the writer lacks.
pub(crate) fn escalation(call: &Call<'_>, name: &str, new: &Value, old: Option<&Value>) -> Result<()> {
    let (server, resource) = (call.server, call.stored.group_resource());
    let look = |policy: &authz::rbac::Policy| policy.escalation(&call.ctx.user, resource, name, new, old);
    if resource.group == "rbac.authorization.k8s.io" {
        server.authority.with_policy(&server.store, look)
    } else {
        Ok(())
    }
}

/// Gives an object the namespace of the request.
///
/// # Errors
/// 400 when it has another one.
pub(crate) fn place(call: &Call<'_>, object: &mut Value) -> Result<()> {
    let found = object::namespace(object);
    if found == call.namespace {
        return Ok(());
    }
    if !found.is_empty() && !call.namespace.is_empty() {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    let metadata = object::metadata(object);
    if call.namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".to_owned(), call.namespace.into());
    }
    Ok(())
}

/// Writes the revision of an object into it.
pub(crate) fn set_revision(object: &mut Value, revision: i64) {
    object::metadata(object).insert("resourceVersion".to_owned(), revision.to_string().into());
}

/// Changes an object as the server itself sees fit: without the rules for clients.
///
/// # Errors
/// 404 when there is none, and what `change` answers.
pub(crate) async fn modify(
    call: &Call<'_>,
    name: &str,
    dry_run: bool,
    change: &(dyn Fn(&mut Value) -> Result<()> + Sync),
) -> Result<Value> {
    let key = call.key(name)?;
    list::refresh(&call.server.store).await?;
    for _ in 0..ATTEMPTS {
        let entry =
            call.server.store.get(&key).ok_or_else(|| Status::not_found(call.group_resource(), name))?;
        let mut object = render::parse(&entry);
        change(&mut object)?;
        if dry_run {
            return Ok(object);
        }
        let write = store::Write::update(key.as_str(), stored::encode(&object), entry.mod_revision);
        if let Commit::Done(revision) = commit(call, &key, vec![write]).await? {
            set_revision(&mut object, revision);
            return Ok(object);
        }
    }
    Err(busy(call, name))
}
