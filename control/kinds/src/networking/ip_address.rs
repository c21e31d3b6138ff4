//! `IPAddress`: an address of a service, and whose it is.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{GroupResource, name, object};
use serde_json::Value;

use super::address;
use crate::Kind;
use crate::check::{self, Field};
use crate::column::{Column, NAME, text};

pub(super) struct IpAddress;

impl Kind for IpAddress {
    fn name(&self, text: &str, _prefix: bool) -> Vec<String> {
        address::canonical_fault(text).into_iter().collect()
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            let parent = object.at("spec").at("parentRef");
            if parent.needs_value("") {
                rules(&parent);
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        errors.extend(check::object(new, |new| new.at("spec").at("parentRef").unchanged(old)));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, text("ParentRef", "What the address belongs to.")];
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let parent = object::at(object, &["spec", "parentRef"]).map(|parent| {
            let part = |member: &str| object::text(parent, &[member]);
            let resource = GroupResource { group: part("group"), resource: part("resource") };
            let parts = [&resource.to_string().to_lowercase(), part("namespace"), part("name")];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
        });
        vec![object::name(object).into(), parent.unwrap_or_else(|| "<none>".to_owned()).into()]
    }
}

fn rules(parent: &Field<'_>) {
    parent.at("group").shaped(name::subdomain);
    parent.at("resource").needs_shape(name::path_segment);
    parent.at("name").needs_shape(name::path_segment);
    parent.at("namespace").shaped(name::path_segment);
}
