//! Actions on pods and service accounts, and questions that are answered and not kept.

use jiff::{SignedDuration, Timestamp};
use proto_kube::field::{self, Path};
use proto_kube::selector::Labels;
use proto_kube::status::{Result, Status};
use proto_kube::view::View;
use proto_kube::{GroupResource, Gvk, object, resource};
use serde_json::{Value, json};

use super::call::Call;
use super::delete::{self, Deleted};
use super::options::{Delete, Verb, Write};
use super::write::{self, Admission};
use super::{Objects, body};
use crate::reply::{self, Body, Response};
use crate::reviews;

const PDB: GroupResource<'static> = GroupResource { group: "policy", resource: "poddisruptionbudgets" };
/// How many evictions may wait for the budget's controller.
const WAITING: usize = 2_000;
/// How long a refused eviction should wait before it tries again, in seconds.
const LATER: u32 = 10;

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

/// Answers what needs the agent of a node: the log of a pod that has no node yet is empty, all else is refused.
///
/// # Errors
/// 404 without such an object, 400 without a node, else 503.
pub(crate) fn stream(call: &Call<'_>) -> Result<Response> {
    let name = call.path_name();
    let missing = || Status::not_found(call.group_resource(), name);
    let object =
        Objects(&call.server.store).get(call.group_resource(), call.namespace, name).ok_or_else(missing)?;
    let (pod, subresource) = (call.resource.plural == "pods", call.subresource());
    match object::text(&object, &["spec", "nodeName"]) {
        "" if pod && subresource == "log" => {
            let mut response = Response::new(reply::full(""));
            *response.status_mut() = http::StatusCode::NO_CONTENT;
            Ok(response)
        }
        "" if pod => Err(Status::bad_request(format!("pod {name} does not have a host assigned"))),
        _ => {
            let resource = call.group_resource();
            Err(Status::unavailable(format!("{resource}/{subresource}: no node's agent can be reached yet")))
        }
    }
}

/// Answers the binding of a pod to a node.
///
/// # Errors
/// 404 without such a pod, 409 when it has a node or is being deleted, 422 for a bad target.
pub(crate) async fn bind(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let (options, binding) = action(call, body, &Gvk::new("v1", "Binding"), "binding").await?;
    let name = call.path_name();
    let found = object::name(&binding);
    if !found.is_empty() && found != name {
        let why = format!("name in URL does not match name in Binding object: {name} != {found}");
        return Err(Status::bad_request(why));
    }
    assign(call, name, &binding, &options).await?;
    call.answer(201, &Status::success(201).to_json())
}

async fn assign(call: &Call<'_>, name: &str, binding: &Value, options: &Write) -> Result<()> {
    let (kind, node) =
        (object::text(binding, &["target", "kind"]), object::text(binding, &["target", "name"]));
    let mut errors = field::Errors::new();
    if !matches!(kind, "" | "Node") {
        let path = Path::new("target.kind");
        errors.push(field::Error::not_supported(&path, kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(field::Error::required(&Path::new("target.name"), ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&Gvk::new("v1", "Binding"), name, &errors));
    }
    let change = |pod: &mut Value| {
        let taken = object::text(pod, &["spec", "nodeName"]);
        let precondition = |key: &str| {
            let asked = object::text(binding, &["metadata", key]);
            asked.is_empty() || asked == object::text(pod, &["metadata", key])
        };
        let why = if !precondition("uid") || !precondition("resourceVersion") {
            "Precondition failed: the pod is not the one that the binding means".to_owned()
        } else if object::is_terminating(pod) {
            format!("pod {name} is being deleted, cannot be assigned to a host")
        } else if !taken.is_empty() {
            format!("pod {name} is already assigned to node \"{taken}\"")
        } else if object::items(pod, &["spec", "schedulingGates"]).next().is_some() {
            format!("pod {name} has non-empty .spec.schedulingGates")
        } else {
            set_node(pod, node, binding, call.ctx.now);
            return Ok(());
        };
        let resource = GroupResource { group: "", resource: "pods/binding" };
        Err(Status::conflict(resource, name, &why))
    };
    write::modify(call, name, options.dry_run, &change).await.map(drop)
}

fn set_node(pod: &mut Value, node: &str, binding: &Value, now: Timestamp) {
    object::member(pod, "spec").insert("nodeName".to_owned(), node.into());
    for map in ["annotations", "labels"] {
        let Some(more) = object::at(binding, &["metadata", map]).and_then(Value::as_object) else { continue };
        let mut entries = object::at(pod, &["metadata", map]).cloned().unwrap_or_else(|| json!({}));
        if let Some(entries) = entries.as_object_mut() {
            entries.extend(more.clone());
        }
        object::metadata(pod).insert(map.to_owned(), entries);
    }
    let mut conditions: Vec<Value> = object::items(pod, &["status", "conditions"])
        .filter(|c| object::text(c, &["type"]) != "PodScheduled")
        .cloned()
        .collect();
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": kinds::meta::time(now),
    }));
    object::member(pod, "status").insert("conditions".to_owned(), conditions.into());
}

/// Answers the eviction of a pod: a deletion that its disruption budget allows.
///
/// # Errors
/// 429 when the budget does not allow it, 500 when the pod has several budgets, and what a deletion answers.
pub(crate) async fn evict(call: &Call<'_>, body: Body) -> Result<Response> {
    call.renderer()?;
    let (_, eviction) = action(call, body, &Gvk::new("policy/v1", "Eviction"), "eviction").await?;
    let name = call.path_name();
    let found = object::name(&eviction);
    if found != name {
        let why = format!("name in URL does not match name in Eviction object: {name} != {found}");
        return Err(Status::bad_request(why));
    }
    let wishes = object::at(&eviction, &["deleteOptions"]).cloned().unwrap_or_else(|| json!({}));
    let options = Delete::of(wishes)?;
    let view = Objects(&call.server.store);
    let pod = view.get(call.group_resource(), call.namespace, name);
    let pod = pod.ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    if !is_free(&pod) {
        let budgets: Vec<_> =
            view.list(PDB, call.namespace).into_iter().filter(|pdb| covers(pdb, &pod)).collect();
        match budgets.as_slice() {
            [] => {}
            [budget] => charge(call, &pod, budget, options.dry_run).await?,
            _ => {
                let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::unknown(why));
            }
        }
    }
    match delete::delete(call, name, &options).await? {
        Deleted::Gone(_) | Deleted::Waits(_) => call.answer(201, &Status::success(201).to_json()),
    }
}

/// Whether the pod's end disrupts nothing.
fn is_free(pod: &Value) -> bool {
    object::is_terminating(pod)
        || matches!(object::text(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending")
}

/// Whether a budget is about a pod. An empty selector is about all.
fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = object::at(budget, &["spec", "selector"]).unwrap_or(&Value::Null);
    matches!(Labels::of(selector), Ok(Some(labels)) if labels.selects(pod))
}

fn is_ready(pod: &Value) -> bool {
    object::items(pod, &["status", "conditions"])
        .any(|c| object::text(c, &["type"]) == "Ready" && object::text(c, &["status"]) == "True")
}

/// Takes one disruption from a budget.
async fn charge(call: &Call<'_>, pod: &Value, budget: &Value, dry_run: bool) -> Result<()> {
    let number = |path: &[&str]| object::at(budget, path).and_then(Value::as_i64).unwrap_or(0);
    let enough = number(&["status", "currentHealthy"]) >= number(&["status", "desiredHealthy"])
        && number(&["status", "desiredHealthy"]) > 0;
    let policy = object::text(budget, &["spec", "unhealthyPodEvictionPolicy"]);
    if !is_ready(pod) && (policy == "AlwaysAllow" || enough) {
        return Ok(());
    }
    let budgets = resource::preferred(PDB).ok_or_else(Status::no_route)?;
    let now = call.ctx.now;
    let change = |budget: &mut Value| decrement(budget, object::name(pod), now);
    write::modify(&call.on(budgets), object::name(budget), dry_run, &change).await.map(drop)
}

/// Takes one disruption from a budget for a pod.
///
/// # Errors
/// 429 when there is none left, or the budget's controller has not seen its latest version.
fn decrement(budget: &mut Value, pod: &str, now: Timestamp) -> Result<()> {
    let name = object::name(budget).to_owned();
    let number = |path: &[&str]| object::at(budget, path).and_then(Value::as_i64).unwrap_or(0);
    let refusal = |cause: String| {
        let cause = json!([{"reason": "DisruptionBudget", "message": cause}]);
        let why = "Cannot evict pod as it would violate the pod's disruption budget.";
        Err(Status::too_many_requests(why, LATER).with_detail("causes", cause))
    };
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        return refusal(format!("The disruption budget {name} is still being processed by the server."));
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    let waiting = object::at(budget, &["status", "disruptedPods"]).and_then(Value::as_object);
    if allowed < 0 {
        return Err(Status::forbidden(PDB, &name, "pdb disruptions allowed is negative"));
    }
    if waiting.is_some_and(|pods| pods.len() > WAITING) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(PDB, &name, why));
    }
    if allowed == 0 {
        let (desired, current) =
            (number(&["status", "desiredHealthy"]), number(&["status", "currentHealthy"]));
        return refusal(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        ));
    }
    let mut waiting = waiting.cloned().unwrap_or_default();
    waiting.insert(pod.to_owned(), kinds::meta::time(now).into());
    let generation = number(&["metadata", "generation"]);
    let status = object::member(budget, "status");
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    status.insert("disruptedPods".to_owned(), waiting.into());
    if allowed == 1 {
        let mut conditions = status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        conditions.retain(|c| object::text(c, &["type"]) != "DisruptionAllowed");
        conditions.push(json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": generation, "lastTransitionTime": kinds::meta::time(now + SignedDuration::ZERO),
        }));
        status.insert("conditions".to_owned(), conditions.into());
    }
    Ok(())
}
