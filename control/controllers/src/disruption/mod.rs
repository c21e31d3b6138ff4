//! Disruption budgets: how many pods may be evicted.

mod expected;
mod stale;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::selector::Labels;
use proto_kube::view::View;
use proto_kube::{GroupResource, object, pod};
use serde_json::{Map, Value, json};

use crate::conditions::{self, stamp};
use crate::resources::{BUDGETS, PODS};
use crate::write::{tell, update_status, warn};
use crate::{Controller, Key, Outcome, World, owner};

/// Those who look after budgets.
pub(crate) fn all() -> Vec<Box<dyn Controller>> {
    vec![Box::new(Budgets), Box::new(stale::Stale)]
}

/// How long a pod may take to be deleted after its eviction was allowed; then it counts again.
const DELETION: SignedDuration = SignedDuration::from_mins(2);

/// Keeps the status of budgets.
struct Budgets;

impl Controller for Budgets {
    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("policy", "poddisruptionbudgets"),
            ("", "pods"),
            ("apps", "replicasets"),
            ("apps", "deployments"),
            ("apps", "statefulsets"),
            ("", "replicationcontrollers"),
        ]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        let Some(object) = new.or(old) else { return Vec::new() };
        if of == BUDGETS {
            return vec![owner::key(object)];
        }
        let part = |object: &Value| match of {
            PODS => {
                let meta = &object["metadata"];
                json!([
                    meta["labels"],
                    meta["ownerReferences"],
                    object::is_terminating(object),
                    pod::is_ready(object)
                ])
            }
            _ => object["spec"]["replicas"].clone(),
        };
        if old.map(part) == new.map(part) {
            return Vec::new();
        }
        let budgets = view.list(BUDGETS, object::namespace(object));
        let concerns = |budget: &&Arc<Value>| {
            of != PODS || [old, new].into_iter().flatten().any(|pod| selects(budget, pod))
        };
        budgets.iter().filter(concerns).map(|budget| owner::key(budget)).collect()
    }

    fn reconcile(&self, world: &World<'_>, key: &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(budget) = world.view.get(BUDGETS, &key.0, &key.1) else { return out };
        let mut pods = world.view.list(PODS, &key.0);
        pods.retain(|pod| selects(&budget, pod));
        match expected::expected(world.view, &budget, &pods) {
            Ok(expected) => judge(world, &budget, &pods, &expected, &mut out),
            Err(why) => fail(world, &budget, &why, &mut out),
        }
        out
    }
}

fn selects(budget: &Value, pod: &Value) -> bool {
    Labels::of(&budget["spec"]["selector"]).ok().flatten().is_some_and(|selector| selector.selects(pod))
}

/// Writes what the budget allows.
fn judge(
    world: &World<'_>,
    budget: &Arc<Value>,
    pods: &[Arc<Value>],
    expected: &expected::Expected,
    out: &mut Outcome,
) {
    let evicted = evicted(world, budget, pods, out);
    let counts = |pod: &&Arc<Value>| {
        !object::is_terminating(pod) && !evicted.contains_key(object::name(pod)) && pod::is_ready(pod)
    };
    let healthy = i64::try_from(pods.iter().filter(counts).count()).unwrap_or(i64::MAX);
    let allowed = if expected.pods > 0 { (healthy - expected.healthy).max(0) } else { 0 };
    let (is, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let generation = object::at(budget, &["metadata", "generation"]).cloned().unwrap_or(json!(0));
    let mut status = budget["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    for (member, value) in [
        ("currentHealthy", healthy),
        ("desiredHealthy", expected.healthy),
        ("expectedPods", expected.pods),
        ("disruptionsAllowed", allowed),
    ] {
        status[member] = value.into();
    }
    status["observedGeneration"] = generation.clone();
    match evicted.is_empty() {
        true => drop(status.as_object_mut().map(|status| status.remove("disruptedPods"))),
        false => status["disruptedPods"] = evicted.into(),
    }
    condition(&mut status, is, reason, "", &generation, world.now);
    if status == budget["status"] {
        return;
    }
    let mut changed = (**budget).clone();
    changed["status"] = status;
    out.mutations.push(update_status(BUDGETS, changed));
    if pods.is_empty() {
        out.mutations.push(tell(budget, "NoPods", "No matching pods found".to_owned()));
    }
    if expected.unmanaged > 0 {
        let selector = &budget["spec"]["selector"];
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
        );
        out.mutations.push(warn(budget, "UnmanagedPods", message));
    }
}

/// The pods whose eviction was allowed and that are not deleted yet, with the time.
fn evicted(world: &World<'_>, budget: &Value, pods: &[Arc<Value>], out: &mut Outcome) -> Map<String, Value> {
    let told: BTreeMap<&str, &str> = object::at(budget, &["status", "disruptedPods"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, time)| Some((name.as_str(), time.as_str()?)))
        .collect();
    let mut evicted = Map::new();
    for pod in pods.iter().filter(|pod| !object::is_terminating(pod)) {
        let Some(time) = told.get(object::name(pod)) else { continue };
        let end = time.parse::<Timestamp>().ok().and_then(|time| time.checked_add(DELETION).ok());
        match end.filter(|end| *end > world.now) {
            Some(end) => {
                out.wake(end);
                evicted.insert(object::name(pod).to_owned(), (*time).into());
            }
            None => {
                let (namespace, name) = (object::namespace(budget), object::name(budget));
                let message =
                    format!("Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't");
                out.mutations.push(warn(pod, "NotDeleted", message));
            }
        }
    }
    evicted
}

/// Where nothing can be counted, nothing is allowed.
fn fail(world: &World<'_>, budget: &Arc<Value>, why: &str, out: &mut Outcome) {
    let mut changed = (**budget).clone();
    if !changed["status"].is_object() {
        changed["status"] = json!({});
    }
    changed["status"]["disruptionsAllowed"] = 0.into();
    let generation = object::at(budget, &["status", "observedGeneration"]).cloned().unwrap_or(json!(0));
    condition(&mut changed["status"], "False", "SyncFailed", why, &generation, world.now);
    if changed != **budget {
        let message = format!("Failed to calculate the number of expected pods: {why}");
        out.mutations =
            vec![update_status(BUDGETS, changed), warn(budget, "CalculateExpectedPodCountFailed", message)];
    }
}

fn condition(status: &mut Value, is: &str, reason: &str, message: &str, generation: &Value, now: Timestamp) {
    let old = conditions::get(status, "DisruptionAllowed");
    let since = old.filter(|old| old["status"] == is).map(|old| old["lastTransitionTime"].clone());
    let new = json!({"type": "DisruptionAllowed", "status": is, "reason": reason, "message": message,
        "observedGeneration": generation, "lastTransitionTime": since.unwrap_or_else(|| stamp(now))});
    if old != Some(&new) {
        conditions::put(status, new);
    }
}

#[cfg(test)]
mod tests;
