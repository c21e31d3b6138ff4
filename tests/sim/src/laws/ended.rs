//! What has ended.

use agent_core::pod;
use k8s_openapi::api::core::v1::Pod;
use proto_kube::object;
use serde_json::Value;

/// The container of a pod that has ended for good and would come back with this status: the API server refuses that.
pub(crate) fn comes_back(of: &Value, status: &Value) -> Option<String> {
    let exits = |status: &Value| -> Vec<(String, i64)> {
        let exit = |told: &Value| object::number(told, &["state", "terminated", "exitCode"]);
        let all = object::items(status, &["containerStatuses"]);
        all.filter_map(|told| Some((object::text(told, &["name"]).to_owned(), exit(told)?))).collect()
    };
    let next = exits(status);
    let lost = |name: &str| !next.iter().any(|(known, _)| known == name);
    let gone: Vec<(String, i64)> = exits(&of["status"]).into_iter().filter(|(name, _)| lost(name)).collect();
    if gone.is_empty() {
        return None;
    }
    let of: Pod = serde_json::from_value(of.clone()).ok()?;
    let for_good = |(name, exit_code): &(String, i64)| {
        let spec = pod::containers(&of).iter().find(|spec| spec.name == *name);
        spec.is_some_and(|spec| !pod::restarts(&of, spec, i32::try_from(*exit_code).unwrap_or(1)))
    };
    gone.into_iter().find(for_good).map(|(name, _)| name)
}
