//! `Lease`: who leads, and who is alive.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::object;
use serde_json::Value;

use crate::Kind;
use crate::apps::workload;
use crate::check;
use crate::column::{AGE, Column, NAME, text};

pub(super) struct Lease;

impl Kind for Lease {
    fn prepare_create(&self, object: &mut Value) {
        // Leader election by the control plane itself is not served.
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("strategy");
            spec.remove("preferredHolder");
        }
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        self.prepare_create(new);
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            let spec = object.at("spec");
            spec.at("leaseDurationSeconds").positive();
            spec.at("leaseTransitions").non_negative();
        })
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, text("Holder", "Who holds the lease."), AGE];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        workload::row(object, vec![object::text(object, &["spec", "holderIdentity"]).into()], now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules() {
        let texts = |spec: Value| -> Vec<String> {
            Lease.validate(&json!({"spec": spec})).iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(json!({"leaseDurationSeconds": 15, "leaseTransitions": 0})), Vec::<String>::new());
        assert_eq!(
            texts(json!({"leaseDurationSeconds": 0, "leaseTransitions": -1})),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ]
        );
    }

    #[test]
    fn row() {
        let lease = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "node-1"}});
        assert_eq!(
            Lease.cells(&lease, Timestamp::UNIX_EPOCH),
            [json!("a"), json!("node-1"), json!("<unknown>")]
        );
    }
}
