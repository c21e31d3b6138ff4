//! What is wrong with an object's metadata.

use std::collections::BTreeSet;

use proto_kube::field::{Error, Errors, Path};
use proto_kube::{Resource, name};
use serde_json::Value;

use crate::check::{self, Field};

/// The most bytes that all annotations of an object may have together.
const ANNOTATIONS: usize = 256 << 10;

/// Checks a name, or a `generateName`, whose last dash stands for what is made up.
#[must_use]
pub fn maybe_prefix(text: &str, prefix: bool, shape: fn(&str) -> Vec<String>) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(start) if prefix && !start.is_empty() => shape(&format!("{start}a")),
        _ => shape(text),
    }
}

/// What is wrong with the metadata of an object.
#[must_use]
pub fn validate(resource: &Resource, object: &Value) -> Errors {
    check::object(object, |object| {
        let meta = object.at("metadata");
        let kind = crate::of(resource);
        let (name, generated) = (meta.at("name"), meta.at("generateName"));
        if !generated.is_empty() {
            generated.all_invalid(kind.name(generated.text(), true));
        }
        if name.needs("name or generateName is required") {
            let faults = kind.name(name.text(), false);
            // What every name must be is said only of one that is right for its kind.
            let faults = if faults.is_empty() { name::path_segment(name.text()) } else { faults };
            name.all_invalid(faults);
        }
        let namespace = meta.at("namespace");
        if resource.namespaced {
            namespace.needs_shape(name::label);
        } else if !namespace.is_empty() {
            namespace.forbidden("not allowed on this type");
        }
        meta.at("generation").non_negative();
        rest(&meta);
    })
}

fn rest(meta: &Field<'_>) {
    labels(&meta.at("labels"));
    annotations(&meta.at("annotations"));
    owners(&meta.at("ownerReferences"));
    finalizers(&meta.at("finalizers"));
    managed(&meta.at("managedFields"));
}

/// Rule: a map of labels.
pub fn labels(labels: &Field<'_>) {
    for (key, value) in labels.entries() {
        for fault in name::qualified(key) {
            labels.invalid_value(key, fault);
        }
        for fault in name::label_value(value.text()) {
            labels.invalid_value(value.text(), fault);
        }
    }
}

/// Rule: a map of annotations.
pub fn annotations(annotations: &Field<'_>) {
    let mut bytes = 0;
    for (key, value) in annotations.entries() {
        bytes += key.len() + value.text().len();
        for fault in name::qualified(&key.to_lowercase()) {
            annotations.invalid_value(key, fault);
        }
    }
    if bytes > ANNOTATIONS {
        annotations.fault(Error::too_long(&annotations.path, ANNOTATIONS));
    }
}

fn owners(owners: &Field<'_>) {
    let mut controller: Option<String> = None;
    for owner in owners.items() {
        // Upstream names the list, not the item.
        let part = |key: &str| owner.at(key).shown_at(owners.path.child(key));
        let version = part("apiVersion");
        let parts: Vec<&str> = version.text().split('/').collect();
        if parts.len() > 2 || parts.last().is_none_or(|last| last.is_empty()) {
            version.invalid("version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if part(key).is_empty() {
                part(key).invalid("must not be empty");
            }
        }
        if version.text() == "v1" && owner.at("kind").text() == "Event" {
            owners.invalid_value(owner.value.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.at("controller").is_true() {
            let this = format!("{}/{}", owner.at("kind").text(), owner.at("name").text());
            match &controller {
                Some(first) => owners.invalid(format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                )),
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(finalizers: &Field<'_>) {
    let has = |name: &str| finalizers.items().any(|f| f.text() == name);
    for finalizer in finalizers.items() {
        for fault in name::qualified(finalizer.text()) {
            finalizers.invalid_value(finalizer.text(), fault);
        }
        if !finalizer.text().contains('/')
            && !["kubernetes", "orphan", "foregroundDeletion"].contains(&finalizer.text())
        {
            finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified");
        }
    }
    if has("orphan") && has("foregroundDeletion") {
        finalizers.invalid("finalizer orphan and foregroundDeletion cannot be both set");
    }
}

fn managed(fields: &Field<'_>) {
    for entry in fields.items() {
        let operation = entry.at("operation");
        if !["Apply", "Update"].contains(&operation.text()) {
            operation.invalid("must be `Apply` or `Update`");
        }
        let kind = entry.at("fieldsType");
        if !kind.is_empty() && kind.text() != "FieldsV1" {
            kind.invalid("must be `FieldsV1`");
        }
        let manager = entry.at("manager");
        manager.at_most(128);
        if let Some(at) = manager.text().chars().position(|c| c.is_control()) {
            let c = manager.text().chars().nth(at).map_or_else(String::new, |c| c.escape_debug().to_string());
            manager.invalid(format!("invalid character {c:?} (at position {at})"));
        }
        entry.at("subresource").at_most(256);
    }
}

/// What is wrong with the change of an object's metadata. An update must name its resource version; the caller puts the
/// current one in where the client may leave it out.
#[must_use]
pub fn validate_update(resource: &Resource, new: &Value, old: &Value) -> Errors {
    check::object(new, |object| {
        let meta = object.at("metadata");
        let was = &old["metadata"];
        if !was["deletionTimestamp"].is_null() {
            no_new_finalizers(&meta.at("finalizers"), &was["finalizers"]);
        }
        for key in [
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            meta.at(key).unchanged(old);
        }
        if meta.at("name").is_empty() && resource.namespaced {
            meta.at("name").required("name or generateName is required");
        }
        rest(&meta);
    })
}

fn no_new_finalizers(now: &Field<'_>, before: &Value) {
    let before: BTreeSet<&str> = before.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let extra: BTreeSet<&str> = now
        .items()
        .filter(|f| !f.value.as_str().is_some_and(|text| before.contains(text)))
        .map(|f| f.value.as_str().unwrap_or_default())
        .collect();
    if !extra.is_empty() {
        let extra = extra.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
        now.forbidden(format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{extra}}}"
        ));
    }
}

/// Rule: a `LabelSelector`.
pub fn label_selector(selector: &Field<'_>) {
    labels(&selector.at("matchLabels"));
    for expression in selector.at("matchExpressions").items() {
        let (key, operator, values) =
            (expression.at("key"), expression.at("operator"), expression.at("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                values.required("must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => operator.invalid("not a valid selector operator"),
        }
        key.all_invalid(name::qualified(key.text()));
        for value in values.items() {
            value.all_invalid(name::label_value(value.text()));
        }
    }
}

/// What is wrong with a `LabelSelector` at a path.
#[must_use]
pub fn selector_errors(selector: &Value, path: &Path) -> Errors {
    check::at(selector, path, |selector| label_selector(&selector))
}
