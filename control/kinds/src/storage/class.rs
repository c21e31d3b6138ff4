//! `StorageClass` and `VolumeAttributesClass`: kinds of volumes that a driver makes.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors};
use proto_kube::{name, object};
use serde_json::Value;

use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, text};
use crate::pod::warnings::old_label;

const PARAMETERS_MOST: usize = 512;
const PARAMETERS_BYTES: usize = 256 << 10;
const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) struct StorageClass;
pub(super) struct VolumeAttributesClass;

impl Kind for StorageClass {
    fn default(&self, object: &mut Value) {
        object::default(object, "reclaimPolicy", "Delete");
        object::default(object, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |class| {
            provisioner(&class.at("provisioner"));
            parameters(&class.at("parameters"));
            let policy = class.at("reclaimPolicy");
            if !policy.is_empty() {
                policy.maybe_one_of(&["Delete", "Retain"]);
            }
            class.at("volumeBindingMode").one_of(&["Immediate", "WaitForFirstConsumer"]);
            topologies(&class.at("allowedTopologies"));
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        errors.extend(check::object(new, |class| {
            for member in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                class.at(member).unchanged(old);
            }
        }));
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        check::object(new, |class| {
            let terms = class.at("allowedTopologies").items();
            let keys = terms.flat_map(|term| term.at("matchLabelExpressions").items()).map(|e| e.at("key"));
            warnings.extend(keys.filter_map(|key| Some(format!("{}: {}", key.path, old_label(key.text())?))));
        });
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Provisioner", "Which driver makes the volumes."),
            text("ReclaimPolicy", "What becomes of a volume when its claim is deleted."),
            text("VolumeBindingMode", "When a volume is made."),
            text("AllowVolumeExpansion", "Whether volumes may grow."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let default =
            object::annotations(object).any(|(key, value)| DEFAULT.contains(&key) && value == "true");
        let or = |member: &str, missing: &str| match object::text(object, &[member]) {
            "" => Value::from(missing),
            text => text.into(),
        };
        vec![
            format!("{}{}", object::name(object), if default { " (default)" } else { "" }).into(),
            object::text(object, &["provisioner"]).into(),
            or("reclaimPolicy", "Delete"),
            or("volumeBindingMode", "Immediate"),
            (object["allowVolumeExpansion"] == true).into(),
            column::age(object, now),
        ]
    }
}

impl Kind for VolumeAttributesClass {
    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |class| {
            provisioner(&class.at("driverName"));
            parameters(&class.at("parameters"));
            class.at("parameters").needs("must contain at least one key/value pair");
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = check::object(new, |class| {
            for member in ["driverName", "parameters"] {
                if !check::same_at(new, old, &[member]) {
                    class.at(member).forbidden(format!("updates to {member} are forbidden."));
                }
            }
        });
        errors.extend(self.validate(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, text("DriverName", "Whose volumes it is for."), AGE];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        workload::row(object, vec![object::text(object, &["driverName"]).into()], now)
    }
}

fn provisioner(at: &Field<'_>) {
    if at.needs("") {
        for fault in name::qualified(&at.text().to_lowercase()) {
            at.invalid_value(at.text().to_lowercase(), fault);
        }
    }
}

fn parameters(parameters: &Field<'_>) {
    if parameters.len() > PARAMETERS_MOST {
        parameters.fault(Error::too_long(&parameters.path, PARAMETERS_MOST));
        return;
    }
    let mut bytes = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            parameters.invalid_value(key, "field can not be empty.");
        }
        bytes += key.len() + value.text().len();
    }
    if bytes > PARAMETERS_BYTES {
        parameters.fault(Error::too_long(&parameters.path, PARAMETERS_BYTES));
    }
}

fn topologies(terms: &Field<'_>) {
    let mut seen: Vec<Vec<(&str, Vec<&str>)>> = Vec::new();
    for term in terms.items() {
        let expressions = term.at("matchLabelExpressions");
        let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
        for expression in expressions.items() {
            let (key, values) = (expression.at("key"), expression.at("values"));
            values.needs("");
            values.distinct();
            key.all_invalid(name::qualified(key.text()));
            if all.iter().any(|(other, _)| *other == key.text()) {
                key.duplicate();
            }
            let mut values: Vec<&str> =
                values.items().map(|v| v.value.as_str().unwrap_or_default()).collect();
            values.sort_unstable();
            all.push((key.text(), values));
        }
        all.sort();
        if seen.contains(&all) {
            expressions.fault(Error::duplicate(&expressions.path, ""));
        }
        seen.push(all);
    }
}
