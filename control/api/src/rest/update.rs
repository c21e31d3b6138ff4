//! The change of an object: what the client wants of it, held against what is stored, until nobody gets in between.

use std::sync::Arc;

use admission::Operation;
use kinds::{deletion, meta};
use proto_kube::field::{self, Path};
use proto_kube::object;
use proto_kube::status::{Result, Status};
use serde_json::Value;
use store::{Expect, Op};

use super::call::Call;
use super::create::create;
use super::options::Write;
use super::write::{self, ATTEMPTS, Admission, Commit, MODIFIED, Written};
use super::{Entry, list, owners, render, service, signing};
use crate::stored;

/// How an object is changed.
pub(crate) struct Change<'a> {
    /// As `status`; empty for the object itself.
    pub subresource: &'a str,
    /// Whose rules hold: those of the subresource, or with `scale` those of the object itself.
    pub strategy: &'a str,
    /// Whether a missing object is made.
    pub creates: bool,
    /// Whether the uid that the client sends is the one the object must have, as in a replacement.
    pub replaces: bool,
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
    Err(write::busy(call, name))
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
    write::place(call, object)?;
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
        if change.replaces {
            same_uid(call, name, &entry, &object, &old)?;
        }
        same_revision(call, name, &entry, &object)?;
        let admission = Admission {
            operation: Operation::Update,
            subresource: change.subresource,
            old: Some(&old),
            options: &Value::Null,
            dry_run: options.dry_run,
        };
        owners::dedup(call, &mut object);
        admission.mutate(call, name, &mut object)?;
        write::escalation(call, name, &object, Some(&old))?;
        meta::prepare_update(call.stored, change.strategy, &mut object, &old);
        signing::sign(call, &mut object, Some(&old));
        write::set_revision(&mut object, entry.mod_revision);
        let mut besides = Vec::new();
        if change.strategy.is_empty() {
            besides = service::allocate(call, &mut object, Some(&old))?;
        }
        write::check(call, name, &kinds::update_errors(call.resource, change.strategy, &object, &old))?;
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
            self.besides = write::release(call, &render::parse(&self.entry))?;
            Op::Delete
        } else {
            Op::Put { value, ttl: write::ttl(call) }
        };
        let mut writes = vec![store::Write { key: key.clone(), expect, op }];
        writes.append(&mut self.besides);
        let Commit::Done(revision) = write::commit(call, &key, writes).await? else { return Ok(None) };
        write::set_revision(&mut self.object, revision);
        Ok(Some(Written { object: self.object, created: false }))
    }
}

/// Refuses a replacement of another object than the one that is stored.
fn same_uid(call: &Call<'_>, name: &str, entry: &Entry, new: &Value, old: &Value) -> Result<()> {
    let (uid, found) = (object::uid(new), object::uid(old));
    if uid.is_empty() || uid == found {
        return Ok(());
    }
    let key = &entry.key;
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
    );
    Err(Status::conflict(call.group_resource(), name, &why))
}

/// Refuses a change of another version of the object than the one that is stored.
fn same_revision(call: &Call<'_>, name: &str, entry: &Entry, new: &Value) -> Result<()> {
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
            Err(_) => Err(Status::unknown(format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"))),
        },
    }
}
