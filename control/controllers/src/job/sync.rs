//! One look at a job: what of it is done, whether it is over, what comes next.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proto_kube::{object, pod};
use serde_json::{Value, json};

use super::indexes::{self, Indexes};
use super::policy::{self, Verdict};
use super::{COMPLETE, FAILED, FAILURE, SUCCESS, is_tracked, untrack};
use crate::{Mutation, Outcome, World, conditions, owner, pods, write};

/// Why and how a job ends.
#[derive(Debug, Clone)]
pub(super) struct End {
    /// The condition that tells it: an interim one, until all pods are gone and counted, or the last.
    pub(super) kind: &'static str,
    pub(super) reason: String,
    pub(super) message: String,
}

impl End {
    fn new(kind: &'static str, reason: &str, message: &str) -> Self {
        Self { kind, reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// Pods that are in the status to be counted, by uid.
#[derive(Default)]
pub(super) struct Uncounted {
    pub(super) succeeded: BTreeSet<String>,
    pub(super) failed: BTreeSet<String>,
}

impl Uncounted {
    fn of(job: &Value) -> Self {
        let list = |member| {
            object::items(job, &["status", "uncountedTerminatedPods", member])
                .filter_map(|uid| uid.as_str().map(str::to_owned))
                .collect()
        };
        Self { succeeded: list("succeeded"), failed: list("failed") }
    }
}

pub(super) struct Sync<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) job: &'a Arc<Value>,
    pub(super) pods: Vec<Arc<Value>>,
    pub(super) active: Vec<Arc<Value>>,
    pub(super) uncounted: Uncounted,
    /// How many have succeeded and failed, with those that are not yet counted.
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    /// Of an indexed job: those that the status tells, those that have succeeded, and where the limit is one for each
    /// index those that have failed.
    pub(super) told_indexes: Indexes,
    pub(super) succeeded_indexes: Indexes,
    pub(super) failed_indexes: Option<Indexes>,
    /// How many pods run, are ready, are going.
    pub(super) running: i64,
    pub(super) ready: i64,
    pub(super) terminating: i64,
    /// The pods that are told to go in this round: they change, so nothing else is done with them.
    pub(super) dropped: BTreeSet<String>,
    pub(super) end: Option<End>,
    pub(super) status: Value,
    pub(super) out: Outcome,
    /// What is told when the status is written.
    pub(super) told: Vec<Mutation>,
}

fn length<T>(list: &[T]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

impl<'a> Sync<'a> {
    pub(super) fn new(
        world: &'a World<'a>,
        job: &'a Arc<Value>,
        pods: Vec<Arc<Value>>,
        out: Outcome,
    ) -> Self {
        let active: Vec<_> = pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let mut status = job["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        let count = |which: fn(&Value) -> bool, of: &[Arc<Value>]| {
            i64::try_from(of.iter().filter(|pod| which(pod)).count()).unwrap_or(i64::MAX)
        };
        let mut sync = Self {
            running: length(&active),
            ready: count(pod::is_ready, &active),
            terminating: count(pods::is_ending, &pods),
            uncounted: Uncounted::of(job),
            world,
            job,
            pods,
            active,
            succeeded: 0,
            failed: 0,
            told_indexes: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            dropped: BTreeSet::new(),
            end: None,
            status,
            out,
            told: Vec::new(),
        };
        sync.count();
        sync
    }

    pub(super) fn spec(&self, member: &str) -> Option<i64> {
        object::number(self.job, &["spec", member])
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.job["spec"]["completionMode"] == "Indexed"
    }

    pub(super) fn completions(&self) -> i64 {
        self.spec("completions").unwrap_or(0)
    }

    pub(super) fn is_suspended(&self) -> bool {
        object::flag(self.job, &["spec", "suspend"])
    }

    /// Whether a pod that is going is replaced only once it has ended.
    pub(super) fn waits_for_end(&self) -> bool {
        self.job["spec"]["podReplacementPolicy"] == "Failed"
            || object::at(self.job, &["spec", "podFailurePolicy"]).is_some()
    }

    /// Whether a pod has failed. One that is deleted may never get as far as to say so.
    pub(super) fn is_failed(&self, pod: &Value) -> bool {
        match object::text(pod, &["status", "phase"]) {
            "Failed" => true,
            "Succeeded" => false,
            _ => object::is_terminating(pod) && !self.waits_for_end(),
        }
    }

    /// Whether a pod has succeeded. One that was told to go and was noted as failed for that may still say so: too late.
    fn has_succeeded(&self, pod: &Value) -> bool {
        pod["status"]["phase"] == "Succeeded" && !self.uncounted.failed.contains(object::uid(pod))
    }

    /// Whether a pod is one of those whose end counts.
    pub(super) fn is_valid(&self, pod: &Value) -> bool {
        is_tracked(pod) && (!self.is_indexed() || indexes::of(pod, self.completions()).is_some())
    }

    fn count(&mut self) {
        let new = |known: &BTreeSet<String>, which: &dyn Fn(&Value) -> bool| {
            let pods = self.pods.iter().filter(|pod| self.is_valid(pod) && !known.contains(object::uid(pod)));
            i64::try_from(pods.filter(|pod| which(pod)).count()).unwrap_or(i64::MAX)
        };
        let told = |member: &str| object::number(self.job, &["status", member]).unwrap_or(0);
        let of = |uids: &BTreeSet<String>| i64::try_from(uids.len()).unwrap_or(i64::MAX);
        let succeeded = new(&self.uncounted.succeeded, &|pod| self.has_succeeded(pod));
        let failed = new(&self.uncounted.failed, &|pod| {
            self.is_failed(pod) && policy::verdict(self.job, pod) != Verdict::Ignore
        });
        let failed = told("failed") + failed + of(&self.uncounted.failed);
        let succeeded = told("succeeded") + succeeded + of(&self.uncounted.succeeded);
        (self.succeeded, self.failed) = (succeeded, failed);
        if self.is_indexed() {
            self.count_indexes();
        }
    }

    fn count_indexes(&mut self) {
        let completions = self.completions();
        let told = |member: &str| Indexes::parse(object::text(self.job, &["status", member]), completions);
        let of = |which: &dyn Fn(&Value) -> bool| {
            let pods = self.pods.iter().filter(|pod| is_tracked(pod) && which(pod));
            Indexes::of(pods.filter_map(|pod| indexes::of(pod, completions)))
        };
        self.told_indexes = told("completedIndexes");
        self.succeeded_indexes = self.told_indexes.with(&of(&|pod| self.has_succeeded(pod)));
        self.succeeded = self.succeeded_indexes.total();
        if let Some(limit) = self.spec("backoffLimitPerIndex") {
            let failed = of(&|pod| self.is_failed(pod) && self.fails_index(pod, limit));
            self.failed_indexes = Some(told("failedIndexes").with(&failed));
        }
    }

    fn fails_index(&self, pod: &Value, limit: i64) -> bool {
        match policy::verdict(self.job, pod) {
            Verdict::FailIndex => true,
            Verdict::Ignore => false,
            _ => super::manage::failures(pod).0 >= limit,
        }
    }

    pub(super) fn go(mut self) -> Outcome {
        if self.status.get("startTime").is_none_or(Value::is_null) && !self.is_suspended() {
            self.status["startTime"] = conditions::stamp(self.world.now);
        }
        pods::failure(self.world, self.job, &mut self.out);
        self.end = self.find_end();
        if self.end.is_some() {
            let lost = matches!(self.end.as_ref().map(|end| end.kind), Some(FAILURE | FAILED));
            for pod in std::mem::take(&mut self.active) {
                self.drop(&pod, lost);
            }
        } else {
            if !object::is_terminating(self.job) && !pods::held(self.world) {
                self.manage();
            }
            let complete = match self.spec("completions") {
                None => self.succeeded > 0 && self.running == 0,
                Some(completions) => self.succeeded >= completions && self.running == 0,
            };
            if complete {
                let text = "Reached expected number of succeeded pods";
                self.end = Some(End::new(SUCCESS, "CompletionsReached", text));
            } else if !object::is_terminating(self.job) {
                self.note_suspension();
            }
        }
        self.track()
    }

    /// Has a pod deleted. Where its end is not to be counted, it loses its mark first.
    pub(super) fn drop(&mut self, pod: &Arc<Value>, counts: bool) {
        if !counts && is_tracked(pod) {
            self.out.mutations.push(untrack(pod));
        }
        self.out.mutations.push(owner::delete(crate::resources::PODS, pod));
        let text = format!("Deleted pod: {}", object::name(pod));
        self.out.mutations.push(write::tell(self.job, "SuccessfulDelete", text));
        self.running -= 1;
        self.ready -= i64::from(pod::is_ready(pod));
        self.terminating += 1;
        self.dropped.insert(object::uid(pod).to_owned());
    }

    /// Whether the job is at an end, of itself or by what went wrong. What has been decided before is not judged again.
    fn find_end(&mut self) -> Option<End> {
        let told = |kind| conditions::get(&self.status, kind).filter(|c| c["status"] == "True");
        let again = |kind, told: &Value| {
            End::new(kind, object::text(told, &["reason"]), object::text(told, &["message"]))
        };
        if let Some(told) = told(SUCCESS) {
            return Some(again(COMPLETE, told));
        }
        if let Some(told) = told(FAILURE) {
            return Some(again(FAILED, told));
        }
        let refuses = |pod: &Arc<Value>| match policy::verdict(self.job, pod) {
            Verdict::FailJob(text) if self.is_failed(pod) => Some(text),
            _ => None,
        };
        if let Some(text) = self.pods.iter().find_map(refuses) {
            return Some(End::new(FAILURE, "PodFailurePolicy", &text));
        }
        let limit = self.spec("backoffLimit").unwrap_or(6);
        if self.failed > limit || self.restarts_too_often(limit) {
            let text = "Job has reached the specified backoff limit";
            return Some(End::new(FAILURE, "BackoffLimitExceeded", text));
        }
        if let Some(deadline) = self.deadline() {
            if deadline <= self.world.now {
                let text = "Job was active longer than specified deadline";
                return Some(End::new(FAILURE, "DeadlineExceeded", text));
            }
            self.out.wake(deadline);
        }
        if self.is_indexed() { self.find_end_of_indexes() } else { None }
    }

    fn find_end_of_indexes(&self) -> Option<End> {
        let completions = self.completions();
        if let Some(failed) = self.failed_indexes.as_ref().map(Indexes::total).filter(|failed| *failed > 0) {
            if self.spec("maxFailedIndexes").is_some_and(|most| failed > most) {
                let text = "Job has exceeded the specified maximal number of failed indexes";
                return Some(End::new(FAILURE, "MaxFailedIndexesExceeded", text));
            }
            if failed + self.succeeded_indexes.total() >= completions {
                return Some(End::new(FAILURE, "FailedIndexes", "Job has failed indexes"));
            }
        }
        let text = policy::is_content(self.job, &self.succeeded_indexes, completions)?;
        Some(End::new(SUCCESS, "SuccessPolicy", &text))
    }

    /// Whether containers that are restarted within their pods have been so more often than allowed.
    fn restarts_too_often(&self, limit: i64) -> bool {
        if self.job["spec"]["template"]["spec"]["restartPolicy"] != "OnFailure" {
            return false;
        }
        let restarts = |pod: &Arc<Value>| -> i64 {
            ["initContainerStatuses", "containerStatuses"]
                .into_iter()
                .flat_map(|list| object::items(pod, &["status", list]))
                .filter_map(|status| object::number(status, &["restartCount"]))
                .sum()
        };
        let runs =
            |pod: &&Arc<Value>| matches!(object::text(pod, &["status", "phase"]), "Running" | "Pending");
        let all: i64 = self.pods.iter().filter(runs).map(restarts).sum();
        all > 0 && all >= limit
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec("activeDeadlineSeconds").filter(|_| !self.is_suspended())?;
        let start = object::time(&self.status, &["startTime"])?;
        start.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    fn note_suspension(&mut self) {
        let told = conditions::get(&self.status, "Suspended").map(|c| c["status"] == "True");
        if self.is_suspended() && told != Some(true) {
            self.set_condition("Suspended", "True", "JobSuspended", "Job suspended");
            self.told.push(write::tell(self.job, "Suspended", "Job suspended".to_owned()));
            if let Some(status) = self.status.as_object_mut() {
                status.remove("startTime");
            }
        } else if !self.is_suspended() && told == Some(true) {
            self.set_condition("Suspended", "False", "JobResumed", "Job resumed");
            self.told.push(write::tell(self.job, "Resumed", "Job resumed".to_owned()));
            self.status["startTime"] = conditions::stamp(self.world.now);
        }
    }

    pub(super) fn set_condition(&mut self, kind: &str, value: &str, reason: &str, message: &str) {
        let now = conditions::stamp(self.world.now);
        let condition = json!({
            "type": kind, "status": value, "reason": reason, "message": message,
            "lastProbeTime": now, "lastTransitionTime": now,
        });
        let all = self.status["conditions"].as_array_mut();
        match all.and_then(|all| all.iter_mut().find(|c| c["type"] == kind)) {
            Some(before) => *before = condition,
            None => conditions::put(&mut self.status, condition),
        }
    }
}
