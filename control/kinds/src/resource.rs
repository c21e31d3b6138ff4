//! The kinds of the group `resource.k8s.io`: devices, kept as data for a scheduler that knows them.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{Resource, object};
use serde_json::{Value, json};

use crate::Kind;
use crate::apps::workload;
use crate::check;
use crate::column::{AGE, Column, NAME, text};

/// Devices that pods use alike.
struct DeviceClass;

/// Devices that are wished for, by one claim or by the claims made from a template.
struct ResourceClaim {
    template: bool,
}

/// What a driver offers, of one node or of all.
struct ResourceSlice;

const PLAIN: &[Column] = &[NAME, AGE];

impl Kind for DeviceClass {
    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn columns(&self) -> &'static [Column] {
        PLAIN
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        workload::row(object, Vec::new(), now)
    }
}

impl Kind for ResourceClaim {
    fn default(&self, object: &mut Value) {
        let requests = if self.template { "/spec/spec/devices/requests" } else { "/spec/devices/requests" };
        for request in object.pointer_mut(requests).and_then(Value::as_array_mut).into_iter().flatten() {
            request.get_mut("exactly").filter(|exact| exact.is_object()).into_iter().for_each(count);
            let choices = request.get_mut("firstAvailable").and_then(Value::as_array_mut);
            choices.into_iter().flatten().filter(|choice| choice.is_object()).for_each(count);
        }
    }

    fn initial_status(&self) -> Option<Value> {
        (!self.template).then(|| json!({}))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |claim| claim.at("spec").unchanged(old))
    }

    fn columns(&self) -> &'static [Column] {
        const STATE: Column = text("State", "Whether its devices are chosen, and whether pods use them.");
        if self.template { PLAIN } else { &[NAME, STATE, AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let state = if self.template { Vec::new() } else { vec![state(object).into()] };
        workload::row(object, state, now)
    }
}

/// Sets how many devices a request is for.
fn count(request: &mut Value) {
    workload::default_text(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" && request.get("count").is_none_or(|n| *n == 0) {
        request["count"] = 1.into();
    }
}

fn state(claim: &Value) -> String {
    let allocated = object::at(claim, &["status", "allocation"]).is_some();
    let reserved = object::items(claim, &["status", "reservedFor"]).next().is_some();
    let terminating = object::is_terminating(claim);
    let states = [
        (terminating, "deleted"),
        (!allocated && !terminating, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    let states: Vec<&str> = states.into_iter().filter_map(|(holds, state)| holds.then_some(state)).collect();
    states.join(",")
}

impl Kind for ResourceSlice {
    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Node", "The node that has the devices; empty for those of all."),
            text("Driver", "The driver of the devices."),
            text("Pool", "The pool that the devices belong to."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let paths: [&[&str]; 3] = [&["spec", "nodeName"], &["spec", "driver"], &["spec", "pool", "name"]];
        workload::row(object, paths.iter().map(|path| object::text(object, path).into()).collect(), now)
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let text = |key: &str| object::text(object, &["spec", key]).to_owned();
        vec![("spec.nodeName", text("nodeName")), ("spec.driver", text("driver"))]
    }
}

/// The kind of a resource of this group; `None` for one that its schema alone describes.
pub(crate) fn kind(resource: &Resource) -> Option<&'static dyn Kind> {
    Some(match resource.kind {
        "DeviceClass" => &DeviceClass,
        "ResourceClaim" => &ResourceClaim { template: false },
        "ResourceClaimTemplate" => &ResourceClaim { template: true },
        "ResourceSlice" => &ResourceSlice,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        let kind = ResourceClaim { template: false };
        let mut claim = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu"}},
            {"name": "b", "firstAvailable": [{"name": "s", "allocationMode": "All"}]},
        ]}}});
        kind.default(&mut claim);
        let requests = claim["spec"]["devices"]["requests"].clone();
        assert_eq!(
            requests[0]["exactly"],
            json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1})
        );
        assert_eq!(requests[1]["firstAvailable"], json!([{"name": "s", "allocationMode": "All"}]));
        assert!(kind.validate_update(&claim, &claim).is_empty());
        assert_eq!(kind.validate_update(&json!({"spec": {}}), &claim).len(), 1);
        for (status, expected) in [
            (json!({}), "pending"),
            (json!({"allocation": {}}), "allocated"),
            (json!({"allocation": {}, "reservedFor": [{"uid": "u"}]}), "allocated,reserved"),
        ] {
            claim["status"] = status;
            assert_eq!(state(&claim), expected);
        }
        claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(kind.cells(&claim, Timestamp::UNIX_EPOCH)[1], "deleted,allocated,reserved");
    }
}
