//! What the kinds that run pods from a template have in common.

use jiff::Timestamp;
use proto_kube::selector::Labels;
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::check::Field;
use crate::column::{Column, text, wide};
use crate::{column, meta, pod, scale};

/// Sets a text that is missing or empty.
pub(crate) fn default_text(object: &mut Value, key: &str, text: &str) {
    if object::text(object, &[key]).is_empty() {
        object[key] = text.into();
    }
}

/// The object at a path of members, made on the way.
pub(crate) fn within<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(object, |value, key| {
        object::member(value, key);
        &mut value[*key]
    })
}

/// Rule: the selector of a workload is there and not empty, and selects the pods of its template. `wrong` says what a
/// selector is that cannot be read. Tells whether it could be.
pub(crate) fn selector(spec: &Field<'_>, kind: &str, wrong: &str) -> bool {
    let selector = spec.at("selector");
    let before = selector.count();
    if selector.needs_value("") {
        meta::label_selector(&selector);
        let readable = selector.count() == before;
        if selector.at("matchLabels").is_empty() && selector.at("matchExpressions").is_empty() {
            selector.invalid(format!("empty selector is invalid for {kind}"));
        } else if !readable {
            selector.invalid(wrong);
            return false;
        }
    }
    selects(spec, false);
    true
}

/// Rule: the selector selects the pods of the template; one that is empty selects all, one that is missing none, unless
/// `lenient`.
pub(crate) fn selects(spec: &Field<'_>, lenient: bool) {
    let Ok(selector) = Labels::of(spec.at("selector").value) else { return };
    let labels = spec.at("template").at("metadata").at("labels");
    let admitted = match selector {
        None => lenient,
        Some(selector) => selector.admits(|key| labels.value.get(key)?.as_str()),
    };
    if !admitted {
        labels.invalid_value(labels.value.clone(), "`selector` does not match template `labels`");
    }
}

/// Rule: the template's pods are restarted for ever; `kind` is the word in the message.
pub(crate) fn runs_forever(template: &Field<'_>, kind: &str) {
    let spec = template.at("spec");
    if spec.at("restartPolicy").text() != "Always" {
        spec.at("restartPolicy").not_supported(&["Always"]);
    }
    if spec.at("activeDeadlineSeconds").is_set() {
        let text = format!("activeDeadlineSeconds in {kind} is not Supported");
        spec.at("activeDeadlineSeconds").forbidden(text);
    }
}

/// Rule: the number of a status does not fall.
pub(crate) fn not_decremented(at: &Field<'_>, old: Option<i64>) {
    if old.is_some_and(|old| at.number_or_zero() < old) {
        at.invalid_value(at.number_or_zero(), "cannot be decremented");
    }
}

/// Rule: numbers of a status that are not less than zero.
pub(crate) fn counts(status: &Field<'_>, members: &[&str]) {
    members.iter().for_each(|member| status.at(member).non_negative());
}

/// Rule: numbers of a status that are not more than `most`; each comes with what to say.
pub(crate) fn no_more(status: &Field<'_>, members: &[&str], most: &str, text: &str) {
    for at in members.iter().map(|member| status.at(member)) {
        if at.number_or_zero() > status.at(most).number_or_zero() {
            at.invalid_value(at.number_or_zero(), text);
        }
    }
}

/// Puts members of the old metadata into the new, or drops those that it did not have.
pub(crate) fn keep_metadata(new: &mut Value, old: &Value, members: &[&str]) {
    let metadata = object::metadata(new);
    for member in members {
        match object::at(old, &["metadata", member]) {
            Some(value) => drop(metadata.insert((*member).to_owned(), value.clone())),
            None => drop(metadata.remove(*member)),
        }
    }
}

/// Keeps of an update through `status` nothing else: not even what clients may say in the metadata.
pub(crate) fn only_status(new: &mut Value, old: &Value) {
    meta::only(new, old, &["status"]);
    keep_metadata(new, old, &["labels", "annotations", "finalizers", "ownerReferences"]);
}

/// What to say of a name that pods cannot have as host names.
pub(crate) fn name_warning(object: &Value) -> Option<String> {
    let faults = name::label(object::name(object));
    (!faults.is_empty()).then(|| format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
        faults.join(" ")
    ))
}

/// What to say of an object whose name is in the names of its pods, and of its template.
pub(crate) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        warnings.extend(name_warning(new));
    }
    warnings.extend(template_warnings(new, old, &["spec", "template"]));
    warnings
}

/// What to say of a template, when the object is new or a new generation.
pub(crate) fn template_warnings(new: &Value, old: Option<&Value>, path: &[&str]) -> Vec<String> {
    let generation = |object: &Value| object::at(object, &["metadata", "generation"]).and_then(Value::as_i64);
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    let template = |object| object::at(object, path);
    let at = proto_kube::field::Path::new(&path.join("."));
    pod::template::warnings(&at, template(new).unwrap_or(&Value::Null), old.and_then(template))
}

/// The columns that only the wide output shows: the template's containers.
pub(crate) const CONTAINERS: Column = wide(text("Containers", "The names of the template's containers."));
/// And their images.
pub(crate) const IMAGES: Column = wide(text("Images", "The images of the template's containers."));
/// And whose pods they are.
pub(crate) const SELECTOR: Column = wide(text("Selector", "Which pods belong to the object."));

/// The cells of [`CONTAINERS`], [`IMAGES`] and [`SELECTOR`].
pub(crate) fn wide_cells(spec: &Value) -> Vec<Value> {
    let containers =
        object::at(spec, &["template", "spec"]).map_or([json!(""), json!("")], column::containers);
    let mut cells = Vec::from(containers);
    cells.push(selector_cell(spec, &["selector"]));
    cells
}

/// A selector as the text of a cell.
pub(crate) fn selector_cell(object: &Value, path: &[&str]) -> Value {
    column::or_none(&object::at(object, path).map_or_else(String::new, scale::selector_text))
}

/// A number at a path; zero when there is none.
pub(crate) fn number(object: &Value, path: &[&str]) -> i64 {
    object::at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

/// The scale of a workload with `spec.selector`.
pub(crate) fn scale_of(object: &Value) -> Option<Value> {
    Some(scale::of(
        object,
        &object::at(object, &["spec", "selector"]).map_or_else(String::new, scale::selector_text),
    ))
}

/// The name and age that begin and end a row.
pub(crate) fn row(object: &Value, middle: Vec<Value>, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![object::name(object).into()];
    cells.extend(middle);
    cells.push(column::age(object, now));
    cells
}
