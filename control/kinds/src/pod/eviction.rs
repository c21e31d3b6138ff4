//! The `eviction` of a pod: a deletion that respects the budgets of disruptions.

use jiff::Timestamp;
use proto_kube::selector::Labels;
use proto_kube::{GroupResource, Status, object};
use serde_json::{Value, json};

use crate::meta;

/// What an eviction comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Eviction {
    /// The pod is deleted; no budget counts it.
    Free,
    /// The pod is deleted once this budget, which now counts it, is stored.
    Counted(Value),
}

/// How many pods a budget remembers as being evicted.
const MOST: usize = 2000;
const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Decides on the eviction of a pod, given all budgets of its namespace.
///
/// # Errors
/// 429 when a budget has no room, 500 when several budgets select the pod, 403 when the budget is broken.
pub fn decide(pod: &Value, budgets: &[&Value], now: Timestamp) -> Result<Eviction, Status> {
    let phase = object::text(pod, &["status", "phase"]);
    if ["Succeeded", "Failed", "Pending"].contains(&phase) || object::is_terminating(pod) {
        return Ok(Eviction::Free);
    }
    let selects = |budget: &&&Value| {
        let selector = object::at(budget, &["spec", "selector"]).map(Labels::of);
        matches!(selector, Some(Ok(Some(labels))) if labels.selects(pod))
    };
    let mut matching = budgets.iter().filter(selects);
    let Some(budget) = matching.next() else { return Ok(Eviction::Free) };
    if matching.next().is_some() {
        return Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let ready = object::items(pod, &["status", "conditions"])
        .any(|c| object::text(c, &["type"]) == "Ready" && object::text(c, &["status"]) == "True");
    let number = |path: &[&str]| object::at(budget, path).and_then(Value::as_i64).unwrap_or(0);
    let healthy = number(&["status", "currentHealthy"]);
    let desired = number(&["status", "desiredHealthy"]);
    let unhealthy = match object::text(budget, &["spec", "unhealthyPodEvictionPolicy"]) {
        "AlwaysAllow" => true,
        _ => healthy >= desired && desired > 0,
    };
    if !ready && unhealthy {
        return Ok(Eviction::Free);
    }
    count(pod, budget, now).map(Eviction::Counted)
}

fn count(pod: &Value, budget: &Value, now: Timestamp) -> Result<Value, Status> {
    let name = object::name(budget);
    let number = |path: &[&str]| object::at(budget, path).and_then(Value::as_i64).unwrap_or(0);
    let refuse = |message: String| {
        Status::too_many_requests(VIOLATES, 0)
            .with_detail("retryAfterSeconds", 10)
            .with_detail("causes", json!([{"reason": "DisruptionBudget", "message": message}]))
    };
    let budgets = GroupResource { group: "policy", resource: "poddisruptionbudgets" };
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        return Err(refuse(format!("The disruption budget {name} is still being processed by the server.")));
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    if allowed < 0 {
        return Err(Status::forbidden(budgets, name, "pdb disruptions allowed is negative"));
    }
    let known = object::at(budget, &["status", "disruptedPods"]).and_then(Value::as_object);
    if known.map_or(0, serde_json::Map::len) > MOST {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(budgets, name, why));
    }
    if allowed == 0 {
        let (needs, has) = (number(&["status", "desiredHealthy"]), number(&["status", "currentHealthy"]));
        let message =
            format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently");
        return Err(refuse(message));
    }
    let mut counted = budget.clone();
    counted["status"]["disruptionsAllowed"] = (allowed - 1).into();
    counted["status"]["disruptedPods"][object::name(pod)] = meta::time(now).into();
    Ok(counted)
}
