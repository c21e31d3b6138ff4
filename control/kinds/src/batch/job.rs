//! `Job`: pods that run to their end.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::{name, object};
use serde_json::{Value, json};

use crate::apps::workload::{self, number};
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, text};
use crate::deletion::Propagation;
use crate::{Kind, pod};

mod indexes;
mod policy;
mod rules;
mod status;
mod update;

pub(crate) use rules::domain_prefixed_path;
pub(super) use rules::template_rules;

/// The labels that a job's pods get, each with whether it holds the job's uid rather than its name. The short ones came
/// first.
const LABELS: [(&str, bool); 4] = [
    ("controller-uid", true),
    ("job-name", false),
    ("batch.kubernetes.io/controller-uid", true),
    (JOB_NAME, false),
];
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

pub(super) struct Job;

impl Kind for Job {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        if spec["completions"].is_null() && spec["parallelism"].is_null() {
            spec["completions"] = 1.into();
        }
        object::default(spec, "parallelism", 1);
        let limit = if spec["backoffLimitPerIndex"].is_null() { 6 } else { i32::MAX };
        object::default(spec, "backoffLimit", limit);
        object::default(spec, "completionMode", "NonIndexed");
        object::default(spec, "suspend", false);
        let replacement = if spec["podFailurePolicy"].is_null() { "TerminatingOrFailed" } else { "Failed" };
        object::default(spec, "podReplacementPolicy", replacement);
        object::default(spec, "manualSelector", false);
        default_template(spec);
        if is_unlabelled(object) {
            take_labels(object);
        }
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn prepare_create(&self, object: &mut Value) {
        if object["spec"]["manualSelector"] == true {
            return;
        }
        let labels = |value: &Value| object::at(value, &["metadata", "labels"]).cloned();
        let takes = is_unlabelled(object) || labels(object) == labels(&object["spec"]["template"]);
        let (uid, name) = (object::uid(object).to_owned(), object::name(object).to_owned());
        let template = workload::within(object, &["spec", "template", "metadata", "labels"]);
        for (label, is_uid) in LABELS {
            object::default(template, label, if is_uid { uid.as_str() } else { name.as_str() });
        }
        let selector = workload::within(object, &["spec", "selector", "matchLabels"]);
        object::default(selector, CONTROLLER_UID, uid);
        if takes {
            take_labels(object);
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            rules::generated_selector(&object, true);
            rules::spec(&object.at("spec"));
            rules::host_names(&object);
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| {
            let labels = &old["spec"]["template"]["metadata"]["labels"];
            let prefixed = [JOB_NAME, CONTROLLER_UID].iter().all(|label| !labels[*label].is_null());
            rules::generated_selector(&new, prefixed);
            rules::spec(&new.at("spec"));
            rules::host_names(&new);
            update::rules(&new.at("spec"), old);
        })
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Errors {
        status::validate(new, old)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() {
            warnings.extend(workload::name_warning(new));
        }
        warnings.extend(spec_warnings(new, old, &["spec"]));
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Status", "How far the job is."),
            text("Completions", "How many of the wanted pods have succeeded."),
            text("Duration", "How long the job ran or has been running."),
            AGE,
            workload::CONTAINERS,
            workload::IMAGES,
            workload::SELECTOR,
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let middle = vec![phase(object).into(), completions(object).into(), duration(object, now).into()];
        let mut cells = workload::row(object, middle, now);
        cells.extend(workload::wide_cells(&object["spec"]));
        cells
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("status.successful", number(object, &["status", "succeeded"]).to_string())]
    }

    fn default_propagation(&self) -> Propagation {
        Propagation::Orphan
    }
}

/// Sets what a client may leave out of the pods of a job's spec.
pub(super) fn default_template(spec: &mut Value) {
    let rules = spec.get_mut("podFailurePolicy").and_then(|policy| policy.get_mut("rules"));
    for rule in rules.and_then(Value::as_array_mut).into_iter().flatten() {
        let patterns = rule.get_mut("onPodConditions").and_then(Value::as_array_mut);
        patterns.into_iter().flatten().for_each(|pattern| workload::default_text(pattern, "status", "True"));
    }
    pod::template::default(workload::within(spec, &["template"]));
}

/// What to say of a job's spec at a path, when the object is new or a new generation.
pub(super) fn spec_warnings(new: &Value, old: Option<&Value>, path: &[&str]) -> Vec<String> {
    let generation = |object: &Value| number(object, &["metadata", "generation"]);
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let spec = object::at(new, path).unwrap_or(&Value::Null);
    let many = number(spec, &["completions"]) > 100_000 && number(spec, &["parallelism"]) > 10_000;
    if many && object::text(spec, &["completionMode"]) == "Indexed" {
        warnings.push(format!("{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail", path.join(".")));
    }
    let template: Vec<&str> = path.iter().copied().chain(["template"]).collect();
    warnings.extend(workload::template_warnings(new, old, &template));
    warnings
}

fn is_unlabelled(job: &Value) -> bool {
    object::labels(job).next().is_none()
}

/// A job without labels of its own has those of its template, even the ones that are made up.
fn take_labels(job: &mut Value) {
    let labels = object::at(job, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels {
        object::metadata(job).insert("labels".to_owned(), labels);
    }
}

/// Whether a condition has a status.
fn condition(job: &Value, kind: &str, status: &str) -> bool {
    object::items(job, &["status", "conditions"])
        .any(|c| object::text(c, &["type"]) == kind && object::text(c, &["status"]) == status)
}

fn is(job: &Value, kind: &str) -> bool {
    condition(job, kind, "True")
}

fn phase(job: &Value) -> &'static str {
    let first = |kinds: &[&'static str]| kinds.iter().find(|kind| is(job, kind)).copied();
    first(&["Complete", "Failed"])
        .or_else(|| object::is_terminating(job).then_some("Terminating"))
        .or_else(|| first(&["Suspended", "FailureTarget", "SuccessCriteriaMet"]))
        .unwrap_or("Running")
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, &["status", "succeeded"]);
    match (object::at(job, &["spec", "completions"]), number(job, &["spec", "parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel @ 2..) => format!("{succeeded}/1 of {parallel}"),
        _ => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let time = |member: &str| object::text(job, &["status", member]).parse::<Timestamp>().ok();
    let Some(start) = time("startTime") else { return String::new() };
    column::duration(time("completionTime").unwrap_or(now).duration_since(start).as_secs())
}

/// Whether the completion mode is `Indexed`.
fn is_indexed(spec: &Field<'_>) -> bool {
    spec.at("completionMode").text() == "Indexed"
}

/// What a pod of an indexed job is called.
fn host_name(job: &str, completions: i64) -> Option<String> {
    let name = format!("{job}-{}", completions - 1);
    (!name::label(&name).is_empty()).then_some(name)
}
