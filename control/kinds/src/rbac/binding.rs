//! `RoleBinding` and `ClusterRoleBinding`: who may do what a role allows.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use super::GROUP;
use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, text, wide};

pub(super) struct Binding {
    pub(super) namespaced: bool,
}

impl Kind for Binding {
    fn default(&self, object: &mut Value) {
        workload::default_text(workload::within(object, &["roleRef"]), "apiGroup", GROUP);
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            if ["User", "Group"].contains(&object::text(subject, &["kind"])) {
                workload::default_text(subject, "apiGroup", GROUP);
            }
        }
    }

    fn name(&self, text: &str, _prefix: bool) -> Vec<String> {
        name::path_segment(text)
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            let role = object.at("roleRef");
            in_group(&role.at("apiGroup"));
            let kinds: &[&str] = if self.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
            if !kinds.contains(&role.at("kind").text()) {
                role.at("kind").not_supported(kinds);
            }
            role.at("name").needs_shape(name::path_segment);
            object.at("subjects").items().for_each(|subject| self.subject(&subject));
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        errors.extend(check::object(new, |new| {
            let role = new.at("roleRef");
            if !check::same(role.value, &old["roleRef"]) {
                let part = |member: &str| role.at(member).text().to_owned();
                let shown = json!({"APIGroup": part("apiGroup"), "Kind": part("kind"), "Name": part("name")});
                role.invalid_value(shown, "cannot change roleRef");
            }
        }));
        errors
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Role", "What may be done."),
            AGE,
            wide(text("Users", "The users who may do it.")),
            wide(text("Groups", "The groups whose members may do it.")),
            wide(text("ServiceAccounts", "The service accounts that may do it.")),
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let role = |member: &str| object::text(object, &["roleRef", member]);
        let of = |kind: &str| -> Value {
            let all = object::items(object, &["subjects"]).filter(|s| object::text(s, &["kind"]) == kind);
            let name = |subject: &Value| {
                let name = object::text(subject, &["name"]);
                match kind {
                    "ServiceAccount" => format!("{}/{name}", object::text(subject, &["namespace"])),
                    _ => name.to_owned(),
                }
            };
            all.map(name).collect::<Vec<_>>().join(", ").into()
        };
        vec![
            object::name(object).into(),
            format!("{}/{}", role("kind"), role("name")).into(),
            column::age(object, now),
            of("User"),
            of("Group"),
            of("ServiceAccount"),
        ]
    }
}

impl Binding {
    fn subject(&self, subject: &Field<'_>) {
        let (name, group) = (subject.at("name"), subject.at("apiGroup"));
        name.needs("");
        match subject.at("kind").text() {
            "ServiceAccount" => {
                name.shaped(name::subdomain);
                if !group.is_empty() {
                    group.not_supported(&[""]);
                }
                if !self.namespaced {
                    subject.at("namespace").needs("");
                }
            }
            "User" | "Group" => in_group(&group),
            _ => subject.at("kind").not_supported(&["ServiceAccount", "User", "Group"]),
        }
    }
}

fn in_group(group: &Field<'_>) {
    if group.text() != GROUP {
        group.not_supported(&[GROUP]);
    }
}
