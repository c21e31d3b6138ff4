//! Actions on pods and service accounts, and questions that are answered and not kept.

use kinds::pod::{binding, eviction};
use proto_kube::status::{Result, Status};
use proto_kube::view::View;
use proto_kube::{GroupResource, Gvk, object, resource};
use serde_json::{Value, json};

use super::call::Call;
use super::delete;
use super::options::{Delete, Verb, Write};
use super::write::{self, ATTEMPTS, Admission};
use super::{Objects, body};
use crate::reply::{Body, Response};
use crate::reviews;

const PDB: GroupResource<'static> = GroupResource { group: "policy", resource: "poddisruptionbudgets" };

/// The body of an action, after mutating admission.
async fn action(call: &Call<'_>, body: Body, kind: &Gvk, subresource: &str) -> Result<(Write, Value)> {
    let bytes = body::read(call, body).await?;
    let options = Write::parse(&call.ctx.query, Verb::Create, &call.ctx.user_agent)?;
    let mut object = body::other(call, &bytes, kind, options.validation)?;
    if call.resource.namespaced {
        write::place(call, &mut object)?;
    }
    let admission = Admission {
        operation: admission::Operation::Create,
        subresource,
        old: None,
        options: &Value::Null,
        dry_run: options.dry_run,
    };
    let name = match call.path_name() {
        "" => object::name(&object).to_owned(),
        name => name.to_owned(),
    };
    admission.mutate(call, &name, &mut object)?;
    admission.judge(call, &name, &object)?;
    Ok((options, object))
}

/// Answers a question, or a binding that names its pod.
///
/// # Errors
/// What is wrong with it.
pub(crate) async fn answered(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let (options, object) = action(call, body, &call.resource.gvk(), "").await?;
    if call.resource.plural == "bindings" {
        let pods = resource::find("", "v1", "pods").ok_or_else(Status::no_route)?;
        assign(&call.on(pods), object::name(&object), &object, &options).await?;
        return call.answer(201, &Status::success(201).to_json());
    }
    let object = reviews::answer(call.server, call.ctx, call.resource, object).await?;
    call.answer(201, &object)
}

/// Answers the making of a service account's token.
///
/// # Errors
/// What is wrong with the request.
pub(crate) async fn token(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let kind = Gvk::new("authentication.k8s.io/v1", "TokenRequest");
    let (_, object) = action(call, body, &kind, "token").await?;
    let object = reviews::token(call.server, call.ctx, object).await?;
    call.answer(201, &object)
}

/// Answers the binding of a pod to a node.
///
/// # Errors
/// 404 without such a pod, 409 when it has a node or is being deleted, 500 for a bad target as upstream has it.
pub(crate) async fn bind(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let (options, binding) = action(call, body, &Gvk::new("v1", "Binding"), "binding").await?;
    let name = call.path_name();
    let found = object::name(&binding);
    if !found.is_empty() && found != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    assign(call, name, &binding, &options).await?;
    call.answer(201, &Status::success(201).to_json())
}

async fn assign(call: &Call<'_>, name: &str, binding: &Value, options: &Write) -> Result<()> {
    let errors = binding::validate(binding);
    match errors.as_slice() {
        [] => {}
        // Upstream has no better code for it.
        [error] => return Err(Status::unknown(error.to_string())),
        many => {
            let texts: Vec<String> = many.iter().map(ToString::to_string).collect();
            return Err(Status::unknown(format!("[{}]", texts.join(", "))));
        }
    }
    let change = |pod: &mut Value| {
        let resource = GroupResource { group: "", resource: "pods/binding" };
        binding::bind(pod, binding, call.ctx.now).map_err(|why| Status::conflict(resource, name, &why))
    };
    write::modify(call, name, options.dry_run, &change).await.map(drop)
}

/// Answers the eviction of a pod: a deletion that its disruption budget allows.
///
/// # Errors
/// 429 when the budget does not allow it, 500 when the pod has several budgets, and what a deletion answers.
pub(crate) async fn evict(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let (asked, wanted) = action(call, body, &Gvk::new("policy/v1", "Eviction"), "eviction").await?;
    let name = call.path_name();
    let found = object::name(&wanted);
    if found != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let wishes = object::at(&wanted, &["deleteOptions"]).cloned().unwrap_or_else(|| json!({}));
    let mut options = Delete::of(wishes)?;
    options.dry_run |= asked.dry_run;
    for _ in 0..ATTEMPTS {
        if evict_once(call, name, &options).await? {
            return call.answer(201, &Status::success(201).to_json());
        }
    }
    Err(write::busy(call, name))
}

/// Evicts a pod; `false` when it was judged to need no budget and has changed since.
async fn evict_once(call: &Call<'_>, name: &str, wishes: &Delete) -> Result<bool> {
    let view = Objects(&call.server.store);
    let pod = view.get(call.group_resource(), call.namespace, name);
    let pod = pod.ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    delete::preconditions(call, name, &pod, &wishes.object)?;
    let budgets = view.list(PDB, call.namespace);
    let budget = eviction::budget(&pod, budgets.iter().map(|budget| &**budget))?;
    let mut options = wishes.clone();
    match budget {
        Some(budget) => {
            let resource = resource::preferred(PDB).ok_or_else(Status::no_route)?;
            let take = |budget: &mut Value| eviction::take(budget, name, call.ctx.now);
            write::modify(&call.on(resource), object::name(budget), options.dry_run, &take).await?;
        }
        // Ready, it might need one: only the pod that was looked at may go.
        None => require_version(&mut options.object, &pod),
    }
    match mark_and_delete(call, name, &mut options).await {
        Err(status) if budget.is_none() && status.code == 409 => Ok(false),
        result => result.map(|()| true),
    }
}

async fn mark_and_delete(call: &Call<'_>, name: &str, options: &mut Delete) -> Result<()> {
    if !options.dry_run {
        let mark = |pod: &mut Value| {
            delete::preconditions(call, name, pod, &options.object)?;
            eviction::mark(pod, call.ctx.now);
            Ok(())
        };
        let marked = write::modify(call, name, false, &mark).await?;
        // The version that was asked for has become this one.
        if !object::text(&options.object, &["preconditions", "resourceVersion"]).is_empty() {
            require_version(&mut options.object, &marked);
        }
    }
    delete::delete(call, name, options).await.map(drop)
}

/// Has a deletion delete this version of a pod only.
fn require_version(options: &mut Value, pod: &Value) {
    options["preconditions"]["resourceVersion"] = pod["metadata"]["resourceVersion"].clone();
}
