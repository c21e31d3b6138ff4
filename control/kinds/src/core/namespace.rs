//! `Namespace`.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::check::{self, Field};
use crate::column::{self, AGE, NAME, text};
use crate::{Column, Kind, meta};

pub(super) struct Namespace;

const COLUMNS: &[Column] = &[NAME, text("Status", "Whether the namespace takes objects."), AGE];
const LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

/// Every namespace bears its name as a label, so that selectors can name it.
fn label(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    if !name.is_empty() {
        namespace["metadata"]["labels"][LABEL] = name.into();
    }
}

impl Kind for Namespace {
    fn default(&self, namespace: &mut Value) {
        label(namespace);
        object::default(namespace, "spec", json!({}));
        object::default(namespace, "status", json!({}));
        crate::pod::default::text(&mut namespace["status"], "phase", "Active");
    }

    fn name(&self, text: &str, prefix: bool) -> Vec<String> {
        meta::maybe_prefix(text, prefix, name::label)
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({"phase": "Active"}))
    }

    fn prepare_create(&self, namespace: &mut Value) {
        label(namespace);
        let mut finalizers: Vec<Value> = object::items(namespace, &["spec", "finalizers"]).cloned().collect();
        if !finalizers.contains(&FINALIZER.into()) {
            finalizers.push(FINALIZER.into());
        }
        object::member(namespace, "spec").insert("finalizers".to_owned(), finalizers.into());
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        meta::keep(new, old, &["spec"]);
    }

    fn prepare_subresource(&self, subresource: &str, new: &mut Value, old: &Value) {
        match subresource {
            "finalize" => meta::keep(new, old, &["status"]),
            _ => meta::only(new, old, &["status"]),
        }
    }

    fn validate(&self, namespace: &Value) -> Errors {
        check::object(namespace, |namespace| {
            let list = namespace.at("spec").at("finalizers");
            list.items().for_each(|finalizer| self::finalizer(&finalizer.shown_at(list.path.clone())));
        })
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> Errors {
        Errors::new()
    }

    fn validate_subresource(&self, subresource: &str, new: &Value, _old: &Value) -> Errors {
        check::object(new, |namespace| {
            if subresource == "finalize" {
                return namespace.at("spec").at("finalizers").items().for_each(|f| finalizer(&f));
            }
            let (phase, detail) = match object::is_terminating(new) {
                false => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
                true => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
            };
            let status = namespace.at("status");
            if status.at("phase").text() != phase {
                status.at("Phase").invalid_value(status.at("phase").text(), detail);
            }
        })
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, namespace: &Value, now: Timestamp) -> Vec<Value> {
        let phase = object::text(namespace, &["status", "phase"]);
        vec![object::name(namespace).into(), phase.into(), column::age(namespace, now)]
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["name", "status.phase"]
    }

    fn fields(&self, namespace: &Value) -> Vec<(&'static str, String)> {
        let phase = object::text(namespace, &["status", "phase"]).to_owned();
        vec![("name", object::name(namespace).to_owned()), ("status.phase", phase)]
    }

    fn terminate(&self, namespace: &mut Value) {
        namespace["status"]["phase"] = "Terminating".into();
    }

    fn is_held(&self, namespace: &Value) -> bool {
        object::items(namespace, &["spec", "finalizers"]).next().is_some()
    }
}

fn finalizer(finalizer: &Field<'_>) {
    finalizer.all_invalid(name::qualified(finalizer.text()));
    let standard = ["kubernetes", "orphan", "foregroundDeletion"].contains(&finalizer.text());
    if !finalizer.text().contains('/') && !standard {
        finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified");
    }
}
