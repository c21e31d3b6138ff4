//! How many pods there should be, and how many of them healthy.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto_kube::object::{self, Controller};
use proto_kube::view::View;
use proto_kube::{Gvk, resource};
use serde_json::Value;

use crate::resources::{DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS};

/// What a budget counts on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) pods: i64,
    pub(super) healthy: i64,
    /// Pods that nobody makes anew.
    pub(super) unmanaged: usize,
}

/// What a budget counts on for the pods that it selects.
///
/// # Errors
/// When it counts in shares of what somebody wants who cannot be asked.
pub(super) fn expected(view: &dyn View, budget: &Value, pods: &[Arc<Value>]) -> Result<Expected, String> {
    let (most_away, least) = (&budget["spec"]["maxUnavailable"], &budget["spec"]["minAvailable"]);
    if !most_away.is_null() {
        let (pods, unmanaged) = scale(view, pods)?;
        return Ok(Expected { pods, healthy: (pods - of(most_away, pods)?).max(0), unmanaged });
    }
    if let Some(least) = least.as_i64() {
        let pods = i64::try_from(pods.len()).unwrap_or(i64::MAX);
        return Ok(Expected { pods, healthy: least, unmanaged: 0 });
    }
    if least.is_null() {
        return Ok(Expected::default());
    }
    let (pods, unmanaged) = scale(view, pods)?;
    Ok(Expected { pods, healthy: of(least, pods)?, unmanaged })
}

/// A number, or a share of `all`, rounded up.
fn of(value: &Value, all: i64) -> Result<i64, String> {
    if let Some(number) = value.as_i64() {
        return Ok(number);
    }
    let text = value.as_str().unwrap_or_default();
    let percent = text.strip_suffix('%').and_then(|text| text.parse::<i64>().ok());
    let percent = percent.ok_or_else(|| format!("invalid type: string is not a percentage: {text:?}"))?;
    Ok((percent * all + 99).div_euclid(100))
}

/// How many pods the controllers of these pods want together, and how many pods have none.
fn scale(view: &dyn View, pods: &[Arc<Value>]) -> Result<(i64, usize), String> {
    let (mut scales, mut unmanaged): (BTreeMap<String, i64>, usize) = (BTreeMap::new(), 0);
    for pod in pods {
        let Some(controller) = object::controller(pod) else {
            unmanaged += 1;
            continue;
        };
        let found = find(view, object::namespace(pod), &controller)?;
        let (uid, scale) =
            found.ok_or_else(|| format!("found no controllers for pod {:?}", object::name(pod)))?;
        scales.insert(uid, scale);
    }
    Ok((scales.values().sum(), unmanaged))
}

/// Who decides how many there are, and how many that is: of a replica set that a deployment made, the deployment.
///
/// # Errors
/// Of its kind nobody says how many there should be.
fn find(
    view: &dyn View,
    namespace: &str,
    controller: &Controller<'_>,
) -> Result<Option<(String, i64)>, String> {
    let group = controller.api_version.split_once('/').map_or("", |(group, _)| group);
    let of = match (group, controller.kind) {
        ("apps" | "extensions", "ReplicaSet") => REPLICA_SETS,
        ("apps" | "extensions", "Deployment") => DEPLOYMENTS,
        ("apps", "StatefulSet") => STATEFUL_SETS,
        ("", "ReplicationController") => REPLICATION_CONTROLLERS,
        _ => {
            let kind = Gvk::new(controller.api_version, controller.kind);
            let Some(resource) = resource::of_kind(&kind) else { return Ok(None) };
            return Err(format!("{} does not implement the scale subresource", resource.group_resource()));
        }
    };
    let found = view.get(of, namespace, controller.name).filter(|o| object::uid(o) == controller.uid);
    let Some(found) = found else { return Ok(None) };
    if of == REPLICA_SETS
        && let Some(deployment) = object::controller(&found).filter(|c| c.kind == "Deployment")
    {
        return find(view, namespace, &deployment);
    }
    Ok(Some((object::uid(&found).to_owned(), found["spec"]["replicas"].as_i64().unwrap_or(1))))
}
