//! `ConfigMap`.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors, Path};
use proto_kube::{name, object};
use serde_json::Value;

use super::secret::{MOST, bytes};
use crate::check::{self, Field};
use crate::column::{self, AGE, NAME, text};
use crate::{Column, Kind};

pub(super) struct ConfigMap;

const COLUMNS: &[Column] = &[NAME, text("Data", "How many entries there are."), AGE];

impl Kind for ConfigMap {
    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |map| {
            let (data, binary) = (map.at("data"), map.at("binaryData"));
            for (key, value) in data.entries() {
                entry(&value, key);
                if binary.value.get(key).is_some() {
                    value.invalid_value(key, "duplicate of key present in binaryData");
                }
            }
            binary.entries().for_each(|(key, value)| entry(&value, key));
            let size = data.entries().map(|(_, v)| v.text().len()).sum::<usize>()
                + binary.entries().map(|(_, v)| bytes(v.value).map_or(0, |b| b.len())).sum::<usize>();
            if size > MOST {
                // The fault is of the object as a whole, which upstream prints so.
                map.fault(Error::too_long(&Path::new("[]"), MOST));
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = check::object(new, |map| frozen(&map, old, &["data", "binaryData"]));
        errors.extend(self.validate(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, map: &Value, now: Timestamp) -> Vec<Value> {
        let count = |key| object::at(map, &[key]).and_then(Value::as_object).map_or(0, serde_json::Map::len);
        vec![object::name(map).into(), (count("data") + count("binaryData")).into(), column::age(map, now)]
    }
}

fn entry(value: &Field<'_>, key: &str) {
    name::config_key(key).into_iter().for_each(|fault| value.invalid_value(key, fault));
}

/// Rule: what is marked immutable stays so, mark included.
pub(super) fn frozen(object: &Field<'_>, old: &Value, members: &[&str]) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if old["immutable"] != Value::Bool(true) {
        return;
    }
    if !object.at("immutable").is_true() {
        object.at("immutable").forbidden(DETAIL);
    }
    for member in members {
        if !check::same_at(object.value, old, &[member]) {
            object.at(member).forbidden(DETAIL);
        }
    }
}
