//! The making of an object: its name, its metadata, its rules, and the transaction with all that belongs to it.

use admission::Operation;
use kinds::meta;
use proto_kube::object;
use proto_kube::status::{Result, Status};
use serde_json::Value;
use store::{Expect, Op};

use super::call::Call;
use super::options::Write;
use super::write::{self, ATTEMPTS, Admission, Commit, Written};
use super::{list, owners, render, service, signing};
use crate::random;
use crate::stored;

/// How often a generated name may be taken before the client is told.
const NAMES: usize = 8;

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
    Err(write::busy(call, object::name(&object)))
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
        write::escalation(call, "", &object, None)?;
        meta::prepare_create(call.stored, &mut object, &random::uid(), fastrand::u64(..), call.ctx.now);
        signing::sign(call, &mut object, None);
        write::place(call, &mut object)?;
        let name = object::name(&object).to_owned();
        let mut besides = service::allocate(call, &mut object, None)?;
        write::check(call, &name, &kinds::create_errors(call.resource, &object))?;
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
            op: Op::Put { value, ttl: write::ttl(call) },
        }];
        writes.extend(self.besides.iter().cloned());
        write::commit(call, &self.key, writes).await
    }

    fn done(mut self, options: &Write, revision: i64) -> Written {
        if !options.dry_run {
            write::set_revision(&mut self.object, revision);
        }
        Written { object: self.object, created: true }
    }
}
