//! What the status of a job may be, and how it may change.

use jiff::Timestamp;
use proto_kube::field::{Error, Errors};
use proto_kube::object;
use serde_json::Value;

use super::{condition, indexes, is, is_indexed};
use crate::apps::workload::{self, number};
use crate::check::{self, Field};

/// What changed between two jobs.
struct Change {
    complete: bool,
    failed: bool,
    finished: bool,
    failure_target: bool,
    criteria: bool,
}

fn is_finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

impl Change {
    fn of(new: &Value, old: &Value) -> Self {
        let differs = |kind: &str| is(new, kind) != is(old, kind);
        Self {
            complete: differs("Complete"),
            failed: differs("Failed"),
            finished: is_finished(new) != is_finished(old),
            failure_target: differs("FailureTarget"),
            criteria: differs("SuccessCriteriaMet"),
        }
    }
}

/// What is wrong with the update of a job's status.
pub(super) fn validate(new: &Value, old: &Value) -> Errors {
    let change = Change::of(new, old);
    check::object(new, |job| {
        let status = job.at("status");
        let differs = |member: &str| !check::same_at(new, old, &["status", member]);
        counts(&status);
        conditions(&status, new, &change);
        times(&status, new, old, &change);
        finished(&job, new, &differs, &change);
        completed_indexes(&job, &differs);
        transitions(&job, new, old);
    })
}

fn counts(status: &Field<'_>) {
    workload::counts(status, &["active", "succeeded", "failed", "ready", "terminating"]);
    let uncounted = status.at("uncountedTerminatedPods");
    let mut seen: Vec<&str> = Vec::new();
    for pod in uncounted.at("succeeded").items().chain(uncounted.at("failed").items()) {
        if pod.is_empty() {
            pod.invalid("must not be empty");
        } else if seen.contains(&pod.text()) {
            pod.duplicate();
        } else {
            seen.push(pod.text());
        }
    }
}

fn conditions(status: &Field<'_>, job: &Value, change: &Change) {
    let conditions = status.at("conditions");
    let (complete, failed) = (is(job, "Complete"), is(job, "Failed"));
    let (target, criteria) = (is(job, "FailureTarget"), is(job, "SuccessCriteriaMet"));
    let rules = [
        (
            (change.complete || change.failed) && complete && failed,
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            (change.complete || change.failure_target) && complete && target,
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            change.failed && failed && !target,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            (change.complete || change.criteria) && complete && !criteria,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (criteria && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (criteria && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
        (
            object::at(job, &["spec", "successPolicy"]).is_some() && !criteria && complete,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    ];
    for (_, text) in rules.into_iter().filter(|(broken, _)| *broken) {
        conditions.fault(Error::invalid_whole(&conditions.path, text));
    }
}

fn times(status: &Field<'_>, new: &Value, old: &Value, change: &Change) {
    let differs = |member: &str| !check::same_at(new, old, &["status", member]);
    let (start, end) = (status.at("startTime"), status.at("completionTime"));
    let (started, ended) = (differs("startTime"), differs("completionTime"));
    if change.complete || ended {
        if end.is_set() && !is(new, "Complete") {
            end.invalid("cannot set completionTime when there is no Complete=True condition");
        }
        if !end.is_set() && is(new, "Complete") {
            end.required("completionTime is required for Complete jobs");
        }
    }
    let time = |at: &Field<'_>| at.text().parse::<Timestamp>().ok();
    if (started || ended) && time(&start).zip(time(&end)).is_some_and(|(start, end)| end < start) {
        end.invalid("must be equal to or after `startTime`");
    }
    if end.is_set() && !old["status"]["completionTime"].is_null() && ended {
        end.invalid(check::IMMUTABLE);
    }
    let resumes = is(old, "Suspended") && condition(new, "Suspended", "False");
    let was = !old["status"]["startTime"].is_null();
    if started && was && !resumes && new["spec"]["suspend"] != true {
        start.invalid_value(start.value.clone(), "field is immutable for unsuspended job once set");
    }
}

fn finished(job: &Field<'_>, new: &Value, differs: &impl Fn(&str) -> bool, change: &Change) {
    let (spec, status) = (job.at("spec"), job.at("status"));
    let ready = status.at("ready");
    if (differs("ready") || differs("active")) && ready.number_or_zero() > number(new, &["status", "active"])
    {
        ready.invalid("cannot set more ready pods than active");
    }
    if !is_finished(new) {
        return;
    }
    let active = status.at("active");
    if (change.finished || differs("active")) && active.number_or_zero() > 0 {
        active.invalid("active>0 is invalid for finished job");
    }
    let empty = spec.at("suspend").is_true() && spec.at("completions").number() == Some(0);
    if (change.finished || differs("startTime")) && !empty {
        status.at("startTime").needs_value("startTime is required for finished job");
    }
    let uncounted = status.at("uncountedTerminatedPods");
    let some = !uncounted.at("failed").is_empty() || !uncounted.at("succeeded").is_empty();
    if (change.finished || differs("uncountedTerminatedPods")) && some {
        uncounted.invalid("uncountedTerminatedPods needs to be empty for finished job");
    }
    let terminating = status.at("terminating");
    if (change.finished || differs("terminating")) && terminating.number_or_zero() > 0 {
        terminating.invalid("terminating>0 is invalid for finished job");
    }
}

fn completed_indexes(job: &Field<'_>, differs: &impl Fn(&str) -> bool) {
    let (spec, status) = (job.at("spec"), job.at("status"));
    let (completed, failed) = (status.at("completedIndexes"), status.at("failedIndexes"));
    let completions = spec.at("completions").number();
    if differs("completedIndexes") {
        if let Some(Err(why)) = completions.map(|n| indexes::parse(completed.text(), n)) {
            completed.invalid(format!("error parsing completedIndexes: {why}"));
        }
        if !completed.is_empty() && !is_indexed(&spec) {
            completed.invalid("cannot set non-empty completedIndexes when non-indexed completion mode");
        }
    }
    let per_index = spec.at("backoffLimitPerIndex").is_set();
    if differs("failedIndexes") && failed.is_set() {
        if let Some(Err(why)) = completions.filter(|_| per_index).map(|n| indexes::parse(failed.text(), n)) {
            failed.invalid(format!("error parsing failedIndexes: {why}"));
        }
        if !per_index {
            failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null");
        }
    }
    if (differs("failedIndexes") || differs("completedIndexes"))
        && let Some(index) = completions.and_then(|n| indexes::overlap(completed.text(), failed.text(), n))
    {
        failed.invalid(format!("failedIndexes and completedIndexes overlap at index: {index}"));
    }
}

fn transitions(job: &Field<'_>, new: &Value, old: &Value) {
    let (spec, status) = (job.at("spec"), job.at("status"));
    let conditions = status.at("conditions");
    let note = |text: String| conditions.fault(Error::invalid_whole(&conditions.path, text));
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(old, kind) && !is(new, kind) {
            note(format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    let elastic = is_indexed(&spec) && spec.at("completions").value == spec.at("parallelism").value;
    for (member, may_fall) in [("failed", false), ("succeeded", elastic)] {
        let at = status.at(member);
        if !may_fall && at.number_or_zero() < number(old, &["status", member]) {
            at.invalid_value(at.number_or_zero(), format!("cannot decrease the {member} counter"));
        }
    }
    let (met, was_met) = (is(new, "SuccessCriteriaMet"), is(old, "SuccessCriteriaMet"));
    if was_met && !met {
        note("cannot disable the SuccessCriteriaMet=True condition".to_owned());
    }
    if is(old, "Complete") && !was_met && met {
        note("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions".to_owned());
    }
}
