//! `CSINode`: the storage drivers of a node.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::Value;

use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field, IMMUTABLE};
use crate::column::{AGE, Column, NAME, integer};
use crate::pod::volume::driver;

const ID_MOST: usize = 256;

pub(super) struct CsiNode;

impl Kind for CsiNode {
    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| drivers(&object.at("spec").at("drivers")))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            let list = new.at("spec").at("drivers");
            drivers(&list);
            let fixed = |driver: &Value| {
                let mut driver = driver.clone();
                crate::meta::put(&mut driver, "allocatable", None);
                driver
            };
            for before in object::items(old, &["spec", "drivers"]) {
                for now in list.items().filter(|now| now.value["name"] == before["name"]) {
                    if !check::same(&fixed(now.value), &fixed(before)) {
                        list.invalid_value(fixed(now.value), IMMUTABLE);
                    }
                }
            }
        })
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, integer("Drivers", "How many drivers the node has."), AGE];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        workload::row(object, vec![object::items(object, &["spec", "drivers"]).count().into()], now)
    }
}

fn drivers(drivers: &Field<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for item in drivers.items() {
        let (at, id) = (item.at("name"), item.at("nodeID"));
        driver(&at);
        id.needs("");
        if id.text().len() > ID_MOST {
            id.invalid(format!("must be {ID_MOST} characters or less"));
        }
        item.at("allocatable").at("count").non_negative();
        if seen.contains(&at.text()) {
            at.duplicate();
        }
        seen.push(at.text());
        let mut keys: Vec<&str> = Vec::new();
        for key in item.at("topologyKeys").items() {
            // Upstream names the driver, not the key.
            let at = key.shown_at(item.path.clone());
            at.needs("");
            if keys.contains(&at.text()) {
                at.duplicate();
            }
            keys.push(at.text());
            at.all_invalid(name::qualified(at.text()));
        }
    }
}
