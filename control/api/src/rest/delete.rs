//! Deletions: of one object, and of all that a selector admits.

use admission::Operation;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use kinds::deletion::{self, Deletion};
use proto_kube::status::{Result, Status};
use proto_kube::{GroupResource, object};
use serde_json::Value;
use store::{Expect, Op};

use super::call::Call;
use super::list::{self, Scope};
use super::options::Delete;
use super::write::{self, ATTEMPTS, Admission, Commit};
use super::{Entry, body, render};
use crate::reply::{self, Body, Response};
use crate::stored;

/// What to tell who deletes a job and does not say what becomes of its pods.
const PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// How many objects of a collection are on their way to the store at once.
const AT_ONCE: usize = 64;

/// What became of a deletion.
pub(crate) enum Deleted {
    /// The object is gone, or would be; as it was last.
    Gone(Value),
    /// The object waits; as it is stored now.
    Waits(Value),
}

/// Deletes an object.
///
/// # Errors
/// 404 when there is none, 409 when a precondition does not hold, and what admission refuses.
pub(crate) async fn delete(call: &Call<'_>, name: &str, options: &Delete) -> Result<Deleted> {
    let key = call.key(name)?;
    list::refresh(&call.server.store).await?;
    for _ in 0..ATTEMPTS {
        let entry =
            call.server.store.get(&key).ok_or_else(|| Status::not_found(call.group_resource(), name))?;
        if let Some(deleted) = delete_once(call, name, options, &entry).await? {
            return Ok(deleted);
        }
    }
    Err(write::busy(call, name))
}

/// What became of a deletion; `None` when others got in the way.
async fn delete_once(
    call: &Call<'_>,
    name: &str,
    options: &Delete,
    entry: &Entry,
) -> Result<Option<Deleted>> {
    let old = render::parse(entry);
    preconditions(call, name, &old, &options.object)?;
    let admission = Admission {
        operation: Operation::Delete,
        subresource: "",
        old: Some(&old),
        options: &options.object,
        dry_run: options.dry_run,
    };
    admission.mutate(call, name, &mut Value::Null)?;
    let mut besides = admission.judge(call, name, &Value::Null)?;
    let mut object = old.clone();
    let outcome = deletion::delete(call.kind, &mut object, &options.object, call.ctx.now);
    let (key, expect) = (entry.key.to_string(), Expect::Revision(entry.mod_revision));
    let op = match outcome {
        Deletion::Unchanged => return Ok(Some(Deleted::Waits(old))),
        _ if options.dry_run && outcome == Deletion::Now => return Ok(Some(Deleted::Gone(old))),
        _ if options.dry_run => return Ok(Some(Deleted::Waits(object))),
        Deletion::Waits => Op::Put { value: stored::encode(&object), ttl: write::ttl(call) },
        Deletion::Now => {
            besides.extend(write::release(call, &old)?);
            Op::Delete
        }
    };
    let mut writes = vec![store::Write { key: key.clone(), expect, op }];
    writes.append(&mut besides);
    let Commit::Done(revision) = write::commit(call, &key, writes).await? else { return Ok(None) };
    write::set_revision(&mut object, revision);
    Ok(Some(match outcome {
        Deletion::Now => {
            end(call, &mut object, &options.object);
            Deleted::Gone(object)
        }
        _ => Deleted::Waits(object),
    }))
}

/// Marks a removed object of a kind with grace periods as one whose time is up, for the answer.
fn end(call: &Call<'_>, object: &mut Value, options: &Value) {
    let asked = object::at(options, &["gracePeriodSeconds"]).and_then(Value::as_i64);
    if object::is_terminating(object) || call.kind.grace(object, asked).is_none() {
        return;
    }
    let metadata = object::metadata(object);
    let generation = metadata.get("generation").and_then(Value::as_i64).map(|g| g + 1);
    metadata.extend(generation.map(|g| ("generation".to_owned(), g.into())));
    metadata.insert("deletionTimestamp".to_owned(), kinds::meta::time(call.ctx.now).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
}

/// Whether an object is the one that the client means.
///
/// # Errors
/// 409 when it is not.
pub(crate) fn preconditions(call: &Call<'_>, name: &str, old: &Value, options: &Value) -> Result<()> {
    let kind = GroupResource { group: call.resource.group, resource: call.resource.kind };
    let asked = |key: &str| object::text(options, &["preconditions", key]).to_owned();
    let (uid, found) = (asked("uid"), object::uid(old));
    if !uid.is_empty() && uid != found {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({found}). The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(kind, name, &why));
    }
    let (version, found) = (asked("resourceVersion"), object::text(old, &["metadata", "resourceVersion"]));
    if !version.is_empty() && version != found {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({found}). The object might have been modified"
        );
        return Err(Status::conflict(kind, name, &why));
    }
    Ok(())
}

/// The options of a deletion: the body, or the query when there is none.
async fn read(call: &Call<'_>, body: Body) -> Result<Delete> {
    let bytes = body::read(call, body).await?;
    let media = call.header("content-type");
    let options = match bytes.is_empty() {
        true => Delete::parse(&call.ctx.query)?,
        false => Delete::of(body::options(media, &bytes, "DeleteOptions")?)?,
    };
    let says = |key: &str| object::at(&options.object, &[key]).is_some_and(|value| !value.is_null());
    if (call.resource.group, call.resource.plural) == ("batch", "jobs")
        && !says("propagationPolicy")
        && !says("orphanDependents")
    {
        call.warn([PODS_STAY.to_owned()]);
    }
    Ok(options)
}

/// Answers a deletion of one object.
///
/// # Errors
/// What is wrong with the request, and what [`delete`] answers.
pub(crate) async fn one(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let options = read(call, body).await?;
    match delete(call, call.path_name(), &options).await? {
        Deleted::Waits(object) => {
            let cascading = object::at(&options.object, &["orphanDependents"]) == Some(&Value::Bool(false));
            call.answer_stored(if cascading { 202 } else { 200 }, object)
        }
        Deleted::Gone(object) if returns_object(call) => call.answer_stored(200, object),
        Deleted::Gone(object) => call.answer(200, &success(call, &object).to_json()),
    }
}

/// Of which resources the deleted object itself is the answer.
fn returns_object(call: &Call<'_>) -> bool {
    const CORE: &[&str] = &[
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "podtemplates",
        "resourcequotas",
        "serviceaccounts",
        "services",
    ];
    let plural = call.resource.plural;
    match call.resource.group {
        "" => CORE.contains(&plural),
        "storage.k8s.io" => plural != "csistoragecapacities",
        _ => false,
    }
}

fn success(call: &Call<'_>, object: &Value) -> Status {
    let mut status = Status::success(200).with_detail("name", object::name(object));
    if !call.resource.group.is_empty() {
        status = status.with_detail("group", call.resource.group);
    }
    status.with_detail("kind", call.resource.plural).with_detail("uid", object::uid(object))
}

/// Answers a deletion of all that the selectors admit: the list of what was there.
///
/// # Errors
/// What is wrong with the request, and the first refusal of a deletion; the others may have happened.
pub(crate) async fn many(call: &Call<'_>, body: Body) -> Result<Response> {
    let renderer = call.renderer()?;
    let selection = call.selection(false)?;
    let options = read(call, body).await?;
    let scope = Scope::of(call, &selection)?;
    let found = list::select(&call.server.store, &scope, &selection).await?;
    let deletions: Vec<_> =
        found.entries.iter().map(|entry| one_of_many(call, &options, entry).boxed()).collect();
    stream::iter(deletions).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    if found.entries.is_empty() && renderer.streams() {
        return Ok(reply::bytes(200, renderer.form.media.name(), renderer.list(&found.page, &[])));
    }
    Ok(list::answer(renderer, found))
}

/// Deletes an object of a collection; that it is gone already is as good.
async fn one_of_many(call: &Call<'_>, options: &Delete, entry: &Entry) -> Result<()> {
    let index = entry.index();
    let call = call.within(&index.namespace);
    match delete(&call, &index.name, options).await {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}
