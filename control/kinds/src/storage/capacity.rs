//! `CSIStorageCapacity`: how much room a driver has for a class in a part of the cluster.

use proto_kube::field::Errors;
use proto_kube::name;
use proto_kube::quantity::Amount;
use serde_json::Value;

use crate::check;
use crate::pod::warnings::old_label;
use crate::{Kind, meta};

pub(super) struct CsiStorageCapacity;

impl Kind for CsiStorageCapacity {
    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            meta::label_selector(&object.at("nodeTopology"));
            object.at("storageClassName").all_invalid(name::subdomain(object.at("storageClassName").text()));
            let capacity = object.at("capacity");
            if capacity.quantity().is_some_and(|amount| amount < Amount::default()) {
                capacity.invalid("must be greater than or equal to 0");
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        errors.extend(check::object(new, |new| {
            new.at("nodeTopology").unchanged(old);
            new.at("storageClassName").unchanged(old);
        }));
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        check::object(new, |capacity| {
            let nodes = capacity.at("nodeTopology");
            for key in nodes.at("matchExpressions").items().map(|expression| expression.at("key")) {
                warnings.extend(
                    old_label(key.text()).map(|text| format!("{}: {} is {text}", key.path, key.text())),
                );
            }
            for (label, _) in nodes.at("matchLabels").entries() {
                let at = nodes.path.child("matchLabels").child(label);
                warnings.extend(old_label(label).map(|text| format!("{at}: {text}")));
            }
        });
        warnings
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}
