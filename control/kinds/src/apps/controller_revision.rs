//! `ControllerRevision`: what a template was once.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{Gvk, object};
use serde_json::Value;

use super::workload::{self, number};
use crate::Kind;
use crate::check::{self, Field};
use crate::column::{AGE, Column, NAME, text};

pub(super) struct ControllerRevision;

impl Kind for ControllerRevision {
    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            object.at("revision").non_negative();
            let data = object.at("data");
            match data.value {
                Value::Null => data.required("data is mandatory"),
                Value::Object(_) => {}
                _ => data.required("data must be a valid JSON object"),
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new: Field<'_>| {
            new.at("revision").non_negative();
            if new.at("data").value != &old["data"] {
                new.at("data").invalid(check::IMMUTABLE);
            }
        })
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Controller", "What the revision is of."),
            text("Revision", "The number of the revision."),
            AGE,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut owners = object::items(object, &["metadata", "ownerReferences"]);
        let owner = owners.find(|owner| owner["controller"] == true).map(|owner| {
            let kind = Gvk::new(object::text(owner, &["apiVersion"]), object::text(owner, &["kind"]));
            let name = object::text(owner, &["name"]);
            match kind.group.as_str() {
                "" => format!("{}/{name}", kind.kind.to_lowercase()),
                group => format!("{}.{group}/{name}", kind.kind.to_lowercase()),
            }
        });
        let owner = owner.unwrap_or_else(|| "<none>".to_owned());
        workload::row(object, vec![owner.into(), number(object, &["revision"]).into()], now)
    }
}
