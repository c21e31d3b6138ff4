//! Reading, creating and replacing one object.

use proto_kube::status::{Result, Status};
use serde_json::Value;

use super::call::Call;
use super::options::{self, Verb, Write};
use super::owners::Owner;
use super::update::{self, Change};
use super::{body, index, list};
use crate::reply::{self, Body, Response};

/// Answers a read of one object.
///
/// # Errors
/// 404 when there is none, 504 when the revision asked for does not arrive.
pub(crate) async fn get(call: &Call<'_>) -> Result<Response> {
    let renderer = call.renderer()?;
    let store = &call.server.store;
    match options::revision(call.ctx.query.text("resourceVersion"), true)? {
        None => list::refresh(store).await?,
        Some(revision) => list::reach(store, revision).await?,
    }
    let name = call.path_name();
    let entry = store.get(&call.key(name)?).ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    Ok(reply::bytes(200, renderer.form.media.name(), renderer.object(&entry)))
}

/// Answers a create.
///
/// # Errors
/// What is wrong with the request, and what [`super::create::create`] answers.
pub(crate) async fn create(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let bytes = body::read(call, body).await?;
    let options = Write::parse(&call.ctx.query, Verb::Create, &call.ctx.user_agent)?;
    let mut object = body::object(call, &bytes, options.validation)?;
    wipe(&mut object);
    super::write::place(call, &mut object)?;
    let owner = Owner { call, kind: &call.resource.gvk(), subresource: "", manager: &options.manager };
    let object = owner.record(None, object);
    let written = super::create::create(call, &options, body::to_storage(call, object)).await?;
    call.answer_stored(201, written.object)
}

/// Drops what only the server sets.
fn wipe(object: &mut Value) {
    let metadata = proto_kube::object::metadata(object);
    for key in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(key);
    }
}

/// Answers an update of the object itself, or through a subresource whose body is the object.
///
/// # Errors
/// What is wrong with the request, and what [`update::update`] answers.
pub(crate) async fn update(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let bytes = body::read(call, body).await?;
    let options = Write::parse(&call.ctx.query, Verb::Update, &call.ctx.user_agent)?;
    let object = body::object(call, &bytes, options.validation)?;
    let subresource = call.subresource();
    let owner = Owner { call, kind: &call.resource.gvk(), subresource, manager: &options.manager };
    let make = |live: Option<&Value>| {
        let live = live.map(|live| {
            let mut live = live.clone();
            index::from_storage(call.resource, &mut live);
            live
        });
        Ok(body::to_storage(call, owner.record(live.as_ref(), object.clone())))
    };
    let creates = subresource.is_empty() && call.kind.creates_on_update();
    let change = Change { subresource, strategy: subresource, creates, replaces: true, make: &make };
    let written = update::update(call, &options, call.path_name(), &change).await?;
    call.answer_stored(if written.created { 201 } else { 200 }, written.object)
}
