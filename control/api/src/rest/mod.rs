//! The verbs on objects: what a request below a served group and version does.

use std::sync::Arc;

use proto_kube::GroupResource;
use proto_kube::resource::{Resource, Storage};
use proto_kube::status::{Result, Status};
use serde_json::json;

use crate::relay;
use crate::reply::{self, Body, Request, Response};
use crate::server::{Context, Server};
pub(crate) use call::Call;

mod body;
mod call;
mod create;
mod delete;
mod index;
mod list;
mod negotiate;
mod options;
mod owners;
mod patching;
mod pods;
mod render;
mod scale;
mod service;
mod signing;
mod state;
mod update;
mod verbs;
mod view;
mod watch;
mod write;
mod yaml;

pub use index::Index;
pub use state::State;
pub use view::Objects;

/// An object as it is stored.
pub type Entry = store::Entry<Index>;

/// Answers a request below a served group and version.
pub async fn handle(server: &Arc<Server>, ctx: Context, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let asked = relay::Asked {
        method: parts.method.clone(),
        uri: parts.uri.clone(),
        upgrade: parts.extensions.remove(),
        client: parts.extensions.get::<relay::Client>().map(|client| client.0),
    };
    let Some(target) = &ctx.info.target else { return reply::no_such_page() };
    let call = match Call::new(server, &ctx, &parts.headers, target) {
        Ok(call) => call,
        Err(status) => return reply::status(&status),
    };
    let mut response = match answer(&call, asked, body).await {
        Ok(response) => response,
        Err(status) => refuse(&call, &status),
    };
    call.add_warnings(&mut response);
    response
}

/// A refusal in the form that the client asks for, or in JSON when there is no such form.
fn refuse(call: &Call<'_>, status: &Status) -> Response {
    let Ok(renderer) = call.renderer() else { return reply::status(status) };
    let mut response = reply::status(status);
    let media = renderer.form.media.name();
    let body = reply::bytes(status.code, media, renderer.body(&status.to_json()));
    let (parts, body) = body.into_parts();
    *response.body_mut() = body;
    if let Some(media) = parts.headers.get(http::header::CONTENT_TYPE) {
        response.headers_mut().insert(http::header::CONTENT_TYPE, media.clone());
    }
    response
}

async fn answer(call: &Call<'_>, asked: relay::Asked, body: Body) -> Result<Response> {
    if !is_placed(call) {
        return Err(Status::no_route());
    }
    let verb = call.ctx.info.verb;
    match call.subresource() {
        "" => on_objects(call, verb, body).await,
        name => {
            let subresource = call.resource.subresource(name).ok_or_else(Status::no_route)?;
            // A proxy passes on methods for which there are no verbs.
            if !subresource.verbs.contains(&verb) && name != "proxy" {
                return Err(no_method());
            }
            if relay::is_ours(name) {
                return relay::answer(call, asked, body).await;
            }
            on_subresource(call, name, verb, body).await
        }
    }
}

/// 405, as upstream words it where no path has the method.
fn no_method() -> Status {
    let mut status = Status::method_not_allowed(GroupResource { group: "", resource: "" }, "");
    status.message = "the server does not allow this method on the requested resource".to_owned();
    status.details = json!({});
    status
}

/// Whether the path has a namespace where the resource has one, and a name where the verb needs one.
fn is_placed(call: &Call<'_>) -> bool {
    let (target, Resource { namespaced, plural, .. }) = (call.target, call.resource);
    let named = !call.path_name().is_empty();
    if *namespaced {
        !named || !target.namespace.is_empty()
    } else {
        target.namespace.is_empty() || *plural == "namespaces"
    }
}

async fn on_objects(call: &Call<'_>, verb: &str, body: Body) -> Result<Response> {
    let named = !call.path_name().is_empty();
    let kept = matches!(call.resource.storage, Storage::Kept(_));
    match verb {
        "create" if !kept && !named => pods::answered(call, body).await,
        _ if !kept => Err(no_method()),
        "get" if named => verbs::get(call).await,
        "list" if !named => list::list(call).await,
        "watch" => watch::watch(call).await,
        "deletecollection" if !call.resource.verbs().contains(&verb) => Err(no_method()),
        "create" | "deletecollection" if call.resource.namespaced && call.namespace.is_empty() => {
            Err(no_method())
        }
        "create" if !named => verbs::create(call, body).await,
        "update" if named => verbs::update(call, body).await,
        "patch" if named => patching::patch(call, body).await,
        "delete" if named => delete::one(call, body).await,
        "deletecollection" if !named => delete::many(call, body).await,
        _ => Err(no_method()),
    }
}

async fn on_subresource(call: &Call<'_>, name: &str, verb: &str, body: Body) -> Result<Response> {
    match (name, verb) {
        ("scale", "get") => scale::get(call).await,
        ("scale", "update") => scale::update(call, body).await,
        ("scale", _) => scale::patch(call, body).await,
        ("binding", _) => pods::bind(call, body).await,
        ("eviction", _) => pods::evict(call, body).await,
        ("token", _) => pods::token(call, body).await,
        (_, "get") => verbs::get(call).await,
        (_, "update") => verbs::update(call, body).await,
        (_, "patch") => patching::patch(call, body).await,
        _ => Err(no_method()),
    }
}

#[cfg(test)]
mod tests;
