//! The `scale` subresource: the replicas of an object as an object of its own.

use ::patch::apply::Replicas;
use jiff::Timestamp;
use kinds::column::{self, Column};
use proto_kube::status::{Result, Status};
use proto_kube::{Gvk, object};
use serde_json::Value;

use super::call::Call;
use super::options::{Verb, Write};
use super::owners::Owner;
use super::patching::Patch;
use super::update::{self, Change};
use super::{body, list, render};
use crate::reply::{Body, Response};

/// The columns of a scale in a table.
pub(crate) const COLUMNS: &[Column] = &[
    column::text("Name", "The name of the scaled object."),
    column::integer("Desired", "How many replicas are wished for."),
    column::integer("Available", "How many replicas there are."),
    column::AGE,
];

/// The cells of a scale in a table.
pub(crate) fn cells(scale: &Value, now: Timestamp) -> Vec<Value> {
    let replicas = |of: &str| object::at(scale, &[of, "replicas"]).cloned().unwrap_or_else(|| 0.into());
    vec![object::name(scale).into(), replicas("spec"), replicas("status"), column::age(scale, now)]
}

fn kind() -> Gvk {
    Gvk::new("autoscaling/v1", "Scale")
}

fn of(call: &Call<'_>, object: &Value) -> Result<Value> {
    call.kind.scale(object).ok_or_else(Status::no_route)
}

/// Answers a read.
///
/// # Errors
/// 404 when there is no such object.
pub(crate) async fn get(call: &Call<'_>) -> Result<Response> {
    list::refresh(&call.server.store).await?;
    let name = call.path_name();
    let entry = call.server.store.get(&call.key(name)?);
    let entry = entry.ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    call.answer(200, &of(call, &render::parse(&entry))?)
}

/// Answers an update.
///
/// # Errors
/// What is wrong with the scale, and what [`update::update`] answers.
pub(crate) async fn update(call: &Call<'_>, body: Body) -> Result<Response> {
    let bytes = body::read(call, body).await?;
    let options = Write::parse(&call.ctx.query, Verb::Update, &call.ctx.user_agent)?;
    let scale = body::other(call, &bytes, &kind(), options.validation)?;
    let kind = kind();
    let owner = Owner { call, kind: &kind, subresource: "scale", manager: &options.manager };
    change(call, &options, &|live| Ok(owner.record(Some(live), scale.clone()))).await
}

/// Answers a patch.
///
/// # Errors
/// What is wrong with the patch, and what [`update::update`] answers.
pub(crate) async fn patch(call: &Call<'_>, body: Body) -> Result<Response> {
    let patch = Patch::read(call, body).await?;
    let kind = kind();
    let owner = patch.owner(call, &kind, "scale");
    let make = |live: &Value| {
        let patched = patch.applied(&owner, Some(live))?;
        Ok(patch.recorded(&owner, Some(live), patch.decode(call, &kind, patched)?))
    };
    change(call, &patch.options, &make).await
}

/// Changes the replicas to those of the scale that `make` gives for the scale there is.
async fn change(
    call: &Call<'_>,
    options: &Write,
    make: &(dyn Fn(&Value) -> Result<Value> + Sync),
) -> Result<Response> {
    let name = call.path_name();
    let version = call.stored.api_version();
    let replicas = Replicas { version: &version, paths: &[(&version, &["spec", "replicas"])] };
    let owners =
        |object: &Value| object::at(object, &["metadata", "managedFields"]).cloned().unwrap_or_default();
    let into = |live: Option<&Value>| {
        let live = live.ok_or_else(|| Status::not_found(call.group_resource(), name))?;
        let mut scale = of(call, live)?;
        object::metadata(&mut scale).insert("managedFields".to_owned(), replicas.to_scale(&owners(live)));
        let scale = make(&scale)?;
        let found = object::name(&scale);
        if !found.is_empty() && found != name {
            let why = format!("the name of the object ({found}) does not match the name on the URL ({name})");
            return Err(Status::bad_request(why));
        }
        let errors = kinds::scale::validate(&scale);
        if !errors.is_empty() {
            return Err(Status::invalid(&kind(), object::name(&scale), &errors));
        }
        let mut new = live.clone();
        kinds::scale::set(&mut new, &scale);
        let metadata = object::metadata(&mut new);
        for key in ["uid", "resourceVersion"] {
            metadata
                .extend(object::at(&scale, &["metadata", key]).map(|value| (key.to_owned(), value.clone())));
        }
        metadata.insert("managedFields".to_owned(), replicas.to_parent(&owners(live), &owners(&scale)));
        Ok(new)
    };
    let change = Change { subresource: "scale", strategy: "", creates: false, replaces: true, make: &into };
    let written = update::update(call, options, name, &change).await?;
    call.answer(200, &of(call, &written.object)?)
}
