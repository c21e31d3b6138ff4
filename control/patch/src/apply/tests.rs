//! Apply and update on real kinds, rule by rule.

use jiff::Timestamp;
use proto_kube::{Gvk, Status, schema};
use serde_json::{Value, json};

use super::*;

mod rules;
mod updates;

/// When a test begins; each write tells its seconds after it.
const START: i64 = 1_800_000_000;

/// A write of deployments.
struct Writer {
    kind: Gvk,
    filter: Filter,
}

impl Writer {
    fn new(api_version: &str, kind: &str) -> Self {
        Self { kind: Gvk::new(api_version, kind), filter: Filter::All }
    }

    fn write<'a>(&'a self, manager: &'a str, at: i64) -> Write<'a> {
        Write {
            table: schema::table(),
            kind: &self.kind,
            manager,
            subresource: "",
            filter: &self.filter,
            convert: &one_version,
            now: Timestamp::from_second(START + at).expect("in range"),
        }
    }

    fn apply(&self, manager: &str, at: i64, live: Option<&Value>, config: &Value) -> Value {
        self.write(manager, at).apply(live, config, false).expect("no conflict")
    }

    fn refused(&self, manager: &str, live: Option<&Value>, config: &Value) -> Status {
        self.write(manager, 9).apply(live, config, false).expect_err("a conflict").into()
    }
}

fn deployments() -> Writer {
    Writer::new("apps/v1", "Deployment")
}

fn deployment(spec: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"}, "spec": spec,
    })
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

fn config_maps() -> Writer {
    Writer::new("v1", "ConfigMap")
}

/// Each manager with how it wrote, through what, when, and what it owns.
fn managers(object: &Value) -> Vec<(String, String)> {
    proto_kube::object::items(object, &["metadata", "managedFields"])
        .map(|entry| {
            let of = |key| text(entry, &[key]);
            let time = of("time").get(17..19).unwrap_or("-");
            let set = crate::fields::Set::from_value(&entry["fieldsV1"]).expect("written by us");
            let who = [of("manager"), of("operation"), of("subresource"), time].join(" ");
            (who, set.print())
        })
        .collect()
}

#[track_caller]
fn owned(object: &Value, wanted: &[(&str, &str)]) {
    let found = managers(object);
    let found: Vec<_> = found.iter().map(|(who, set)| (who.as_str(), set.as_str())).collect();
    assert_eq!(found, wanted);
}
