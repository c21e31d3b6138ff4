//! The `eviction` of a pod: a deletion that respects the budgets of disruptions.

use jiff::Timestamp;
use proto_kube::selector::Labels;
use proto_kube::{GroupResource, Status, object};
use serde_json::{Value, json};

use crate::meta;

/// How many pods a budget remembers as being evicted.
const MOST: usize = 2000;
/// After how many seconds a client may ask again.
const LATER: u32 = 10;
const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const SEVERAL: &str =
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

fn number(object: &Value, path: &[&str]) -> i64 {
    object::at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

/// The budget, of all in the pod's namespace, that must have room for the pod's eviction; `None` when the eviction
/// disrupts nothing.
///
/// # Errors
/// 500 when several budgets are about the pod.
pub fn budget<'a>(
    pod: &Value,
    budgets: impl IntoIterator<Item = &'a Value>,
) -> Result<Option<&'a Value>, Status> {
    let phase = object::text(pod, &["status", "phase"]);
    if object::is_terminating(pod) || ["Succeeded", "Failed", "Pending"].contains(&phase) {
        return Ok(None);
    }
    let mut matching = budgets.into_iter().filter(|budget| selects(budget, pod));
    let Some(budget) = matching.next() else { return Ok(None) };
    if matching.next().is_some() {
        return Err(Status::unknown(SEVERAL));
    }
    Ok(Some(budget).filter(|budget| is_ready(pod) || !spares_unready(budget)))
}

/// Whether a budget is about a pod. An empty selector is about all.
fn selects(budget: &Value, pod: &Value) -> bool {
    let selector = object::at(budget, &["spec", "selector"]).unwrap_or(&Value::Null);
    matches!(Labels::of(selector), Ok(Some(labels)) if labels.selects(pod))
}

fn is_ready(pod: &Value) -> bool {
    object::items(pod, &["status", "conditions"])
        .any(|c| object::text(c, &["type"]) == "Ready" && object::text(c, &["status"]) == "True")
}

/// Whether a budget lets a pod go that is not ready: always, or while enough others are.
fn spares_unready(budget: &Value) -> bool {
    let (healthy, desired) =
        (number(budget, &["status", "currentHealthy"]), number(budget, &["status", "desiredHealthy"]));
    object::text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || healthy >= desired && desired > 0
}

/// Takes one disruption from a budget for the pod of a name.
///
/// # Errors
/// 429 when there is none left or the budget's controller has not seen its latest version, 403 when it is broken.
pub fn take(budget: &mut Value, pod: &str, now: Timestamp) -> Result<(), Status> {
    let name = object::name(budget).to_owned();
    let budgets = GroupResource { group: "policy", resource: "poddisruptionbudgets" };
    let refuse = |message: String| {
        let cause = json!([{"reason": "DisruptionBudget", "message": message}]);
        Err(Status::too_many_requests(VIOLATES, LATER).with_detail("causes", cause))
    };
    let generation = number(budget, &["metadata", "generation"]);
    if number(budget, &["status", "observedGeneration"]) < generation {
        return refuse(format!("The disruption budget {name} is still being processed by the server."));
    }
    let allowed = number(budget, &["status", "disruptionsAllowed"]);
    if allowed < 0 {
        return Err(Status::forbidden(budgets, &name, "pdb disruptions allowed is negative"));
    }
    let known = object::at(budget, &["status", "disruptedPods"]).and_then(Value::as_object);
    if known.map_or(0, serde_json::Map::len) > MOST {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(budgets, &name, why));
    }
    if allowed == 0 {
        let desired = number(budget, &["status", "desiredHealthy"]);
        let current = number(budget, &["status", "currentHealthy"]);
        return refuse(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        ));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"][pod] = meta::time(now).into();
    if allowed == 1 {
        let used_up = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": generation, "lastTransitionTime": meta::time(now),
        });
        super::binding::set_condition(budget, used_up);
    }
    Ok(())
}

/// Says on a pod that it goes because of its eviction: who owns it need not count its end as a failure.
pub fn mark(pod: &mut Value, now: Timestamp) {
    let (kind, status, reason) = ("DisruptionTarget", "True", "EvictionByEvictionAPI");
    let old =
        object::items(pod, &["status", "conditions"]).find(|c| c["type"] == kind && c["status"] == status);
    let since = old.map_or_else(|| meta::time(now).into(), |old| old["lastTransitionTime"].clone());
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": "Eviction API: evicting",
        "lastProbeTime": null, "lastTransitionTime": since,
    });
    super::binding::set_condition(pod, condition);
}
