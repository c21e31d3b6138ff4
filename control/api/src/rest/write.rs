//! The one way of a write, in upstream's order: field management, mutating admission, the kind's strategy, validation,
//! validating admission, and one transaction with all that belongs together.

use std::sync::Arc;
use std::time::Duration;

use admission::{Effects, Operation};
use kinds::{deletion, meta};
use proto_kube::field::{self, Path};
use proto_kube::status::{Result, Status};
use proto_kube::{GroupResource, object};
use serde_json::Value;
use store::{CommitError, Expect, Op, Txn};

use super::call::Call;
use super::options::Write;
use super::view::Objects;
use super::{Entry, Index, list, owners, render, service};
use crate::random;
use crate::stored;

/// How often a write is tried that others keep getting in the way of.
pub(crate) const ATTEMPTS: usize = 100;
/// How often a generated name may be taken before the client is told.
const NAMES: usize = 8;
/// How long an event is kept.
const EVENT_TTL: Duration = Duration::from_secs(3_600);
/// What a client is told whose object is not the newest.
const MODIFIED: &str =
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

fn check(call: &Call<'_>, name: &str, errors: &[field::Error]) -> Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&call.resource.gvk(), name, errors)) }
}

/// Refuses a role or binding that gives more than its writer has.
fn escalation(call: &Call<'_>, name: &str, new: &Value, old: Option<&Value>) -> Result<()> {
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

/// Stores a new object; `object` is decoded, defaulted and of the version that is stored.
///
/// # Errors
/// 409 when the name is taken, 422 when it breaks rules, and what admission refuses.
pub(crate) async fn create(call: &Call<'_>, options: &Write, object: Value) -> Result<Written> {
    if call.resource.namespaced && call.namespace.is_empty() {
        let why = "an empty namespace may not be set during creation";
        return Err(Status::bad_request(why));
    }
    list::refresh(&call.server.store).await?;
    let warned = call.warned();
    let generated = object::name(&object).is_empty();
    let mut names = 0;
    for _ in 0..ATTEMPTS {
        call.unwarn(warned);
        let new = Creation::prepare(call, options, object.clone())?;
        match new.store(call, options).await? {
            Commit::Done(revision) => return Ok(new.done(options, revision)),
            Commit::Changed => {
                names += 1;
                if !generated {
                    return Err(taken(call, &new.name));
                }
                if names == NAMES {
                    return Err(exhausted(call, &new.name));
                }
            }
            Commit::Disturbed => {}
        }
    }
    Err(busy(call, object::name(&object)))
}

fn taken(call: &Call<'_>, name: &str) -> Status {
    let mut status = Status::already_exists(call.group_resource(), name);
    let there = call.key(name).ok().and_then(|key| call.server.store.get(&key));
    if there.is_some_and(|entry| object::is_terminating(&render::parse(&entry))) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

fn exhausted(call: &Call<'_>, name: &str) -> Status {
    let mut status = Status::already_exists(call.group_resource(), name).with_detail("retryAfterSeconds", 1);
    status.message.push_str(", the server was not able to generate a unique name for the object");
    status
}

/// A new object on its way to the store.
struct Creation {
    name: String,
    key: String,
    object: Value,
    /// What is written in the same transaction.
    besides: Vec<store::Write>,
}

impl Creation {
    fn prepare(call: &Call<'_>, options: &Write, object: Value) -> Result<Self> {
        let admission = Admission {
            operation: Operation::Create,
            subresource: "",
            old: None,
            options: &Value::Null,
            dry_run: options.dry_run,
        };
        let mut object = object;
        owners::dedup(call, &mut object);
        let asked = object::name(&object).to_owned();
        admission.mutate(call, &asked, &mut object)?;
        escalation(call, "", &object, None)?;
        meta::prepare_create(call.stored, &mut object, &random::uid(), fastrand::u64(..), call.ctx.now);
        place(call, &mut object)?;
        let name = object::name(&object).to_owned();
        let mut besides = service::allocate(call, &mut object, None)?;
        check(call, &name, &kinds::create_errors(call.stored, &object))?;
        call.warn(call.kind.warnings(&object, None));
        besides.extend(admission.judge(call, &name, &object)?);
        let key = call.key(&name)?;
        Ok(Self { name, key, object, besides })
    }

    async fn store(&self, call: &Call<'_>, options: &Write) -> Result<Commit> {
        if options.dry_run {
            let there = call.server.store.get(&self.key).is_some();
            return Ok(if there { Commit::Changed } else { Commit::Done(0) });
        }
        let value = stored::encode(&self.object);
        let mut writes = vec![store::Write {
            key: self.key.clone(),
            expect: Expect::Absent,
            op: Op::Put { value, ttl: ttl(call) },
        }];
        writes.extend(self.besides.iter().cloned());
        commit(call, &self.key, writes).await
    }

    fn done(mut self, options: &Write, revision: i64) -> Written {
        if !options.dry_run {
            set_revision(&mut self.object, revision);
        }
        Written { object: self.object, created: true }
    }
}

/// How an object is changed.
pub(crate) struct Change<'a> {
    /// As `status`; empty for the object itself.
    pub subresource: &'a str,
    /// Whose rules hold: those of the subresource, or with `scale` those of the object itself.
    pub strategy: &'a str,
    /// Whether a missing object is made.
    pub creates: bool,
    /// What the client sends for the object as it is stored (`None` when there is none), in the version that is
    /// stored, decoded and defaulted, its managed fields set.
    pub make: &'a (dyn Fn(Option<&Value>) -> Result<Value> + Sync),
}

/// Changes an object.
///
/// # Errors
/// 404 when there is none, 409 when it is not what the client thinks it is, 422 when it breaks rules, and what
/// admission refuses.
pub(crate) async fn update(
    call: &Call<'_>,
    options: &Write,
    name: &str,
    change: &Change<'_>,
) -> Result<Written> {
    let key = call.key(name)?;
    list::refresh(&call.server.store).await?;
    let warned = call.warned();
    for _ in 0..ATTEMPTS {
        call.unwarn(warned);
        let Some(entry) = call.server.store.get(&key) else {
            if !change.creates {
                return Err(Status::not_found(call.group_resource(), name));
            }
            match create_by_update(call, options, name, change).await {
                // Somebody else was quicker; what was a creation is an update now.
                Err(status) if status.reason == "AlreadyExists" && !options.dry_run => continue,
                other => return other,
            }
        };
        if let Some(written) =
            Update::prepare(call, options, name, change, entry)?.store(call, options).await?
        {
            return Ok(written);
        }
    }
    Err(busy(call, name))
}

async fn create_by_update(
    call: &Call<'_>,
    options: &Write,
    name: &str,
    change: &Change<'_>,
) -> Result<Written> {
    call.authorize("create")?;
    let mut new = (change.make)(None)?;
    let uid = object::uid(&new);
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Status::conflict(call.group_resource(), name, &why));
    }
    check_name(call, &mut new, name)?;
    create(call, options, new).await
}

/// Refuses an object that is not the one the path names.
fn check_name(call: &Call<'_>, object: &mut Value, name: &str) -> Result<()> {
    place(call, object)?;
    match object::name(object) {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        found if found != name => Err(Status::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({name})"
        ))),
        _ => Ok(()),
    }
}

/// A changed object on its way to the store.
struct Update {
    entry: Arc<Entry>,
    object: Value,
    besides: Vec<store::Write>,
    /// Whether nothing keeps the object any more: it waited for its deletion.
    due: bool,
}

impl Update {
    fn prepare(
        call: &Call<'_>,
        options: &Write,
        name: &str,
        change: &Change<'_>,
        entry: Arc<Entry>,
    ) -> Result<Self> {
        let old = render::parse(&entry);
        let mut object = (change.make)(Some(&old))?;
        check_name(call, &mut object, name)?;
        preconditions(call, name, &entry, &object, &old)?;
        let admission = Admission {
            operation: Operation::Update,
            subresource: change.subresource,
            old: Some(&old),
            options: &Value::Null,
            dry_run: options.dry_run,
        };
        owners::dedup(call, &mut object);
        admission.mutate(call, name, &mut object)?;
        escalation(call, name, &object, Some(&old))?;
        meta::prepare_update(call.stored, change.strategy, &mut object, &old);
        set_revision(&mut object, entry.mod_revision);
        let mut besides = Vec::new();
        if change.strategy.is_empty() {
            besides = service::allocate(call, &mut object, Some(&old))?;
        }
        check(call, name, &kinds::update_errors(call.stored, change.strategy, &object, &old))?;
        call.warn(call.kind.warnings(&object, Some(&old)));
        patch::apply::keep_times(&mut object, &old);
        besides.extend(admission.judge(call, name, &object)?);
        let due = object::is_terminating(&old) && deletion::is_due(call.kind, &object);
        Ok(Self { entry, object, besides, due })
    }

    /// What the object became; `None` when others got in the way.
    async fn store(mut self, call: &Call<'_>, options: &Write) -> Result<Option<Written>> {
        let value = stored::encode(&self.object);
        let nothing = value == self.entry.value && self.besides.is_empty() && !self.due;
        if nothing || options.dry_run {
            return Ok(Some(Written { object: self.object, created: false }));
        }
        let (key, expect) = (self.entry.key.to_string(), Expect::Revision(self.entry.mod_revision));
        let op = if self.due {
            self.besides = release(call, &render::parse(&self.entry))?;
            Op::Delete
        } else {
            Op::Put { value, ttl: ttl(call) }
        };
        let mut writes = vec![store::Write { key: key.clone(), expect, op }];
        writes.append(&mut self.besides);
        let Commit::Done(revision) = commit(call, &key, writes).await? else { return Ok(None) };
        set_revision(&mut self.object, revision);
        Ok(Some(Written { object: self.object, created: false }))
    }
}

/// Refuses an object that names another one than is stored, or another version of it.
fn preconditions(call: &Call<'_>, name: &str, entry: &Entry, new: &Value, old: &Value) -> Result<()> {
    let (uid, found) = (object::uid(new), object::uid(old));
    if !uid.is_empty() && uid != found {
        let key = &entry.key;
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
        );
        return Err(Status::conflict(call.group_resource(), name, &why));
    }
    match object::text(new, &["metadata", "resourceVersion"]) {
        "" | "0" if call.kind.unconditional_update() => Ok(()),
        "" | "0" => {
            let path = Path::new("metadata.resourceVersion");
            let error = field::Error::invalid(&path, 0, "must be specified for an update");
            let mut gvk = call.resource.gvk();
            call.resource.plural.clone_into(&mut gvk.kind);
            Err(Status::invalid(&gvk, name, &[error]))
        }
        text => match text.parse::<i64>() {
            Ok(revision) if revision == entry.mod_revision => Ok(()),
            Ok(_) => Err(Status::conflict(call.group_resource(), name, MODIFIED)),
            Err(_) => Err(Status::bad_request(format!(
                "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))),
        },
    }
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
