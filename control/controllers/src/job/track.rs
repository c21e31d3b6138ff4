//! Counting pods once each. A pod keeps its finalizer until its uid stands in the status; the uid stays there until the
//! finalizer is seen to be gone, and only then is the pod part of the count. Whoever is killed in between goes on where
//! the other stopped.

use std::collections::BTreeSet;

use proto_kube::object;
use serde_json::{Value, json};

use super::policy::{self, Verdict};
use super::sync::{End, Sync};
use super::{COMPLETE, FAILED, FAILURE, SUCCESS, indexes, is_tracked, untrack};
use crate::resources::JOBS;
use crate::{Mutation, Outcome, conditions, write};

/// How many uids the status holds at most: it must not grow without bounds.
const UNCOUNTED_MAX: usize = 500;

impl Sync<'_> {
    /// The status, and after it the pods that may go.
    pub(super) fn track(mut self) -> Outcome {
        self.settle_uncounted();
        let free = self.release();
        if let Some(failed) = &self.failed_indexes {
            self.status["failedIndexes"] = failed.to_string().into();
        }
        conditions::count(&mut self.status, "active", self.running);
        self.status["ready"] = self.ready.into();
        self.status["terminating"] = self.terminating.into();
        let list =
            |uids: &BTreeSet<String>| uids.iter().map(|uid| Value::from(uid.as_str())).collect::<Value>();
        let mut uncounted = json!({});
        for (member, uids) in [("succeeded", &self.uncounted.succeeded), ("failed", &self.uncounted.failed)] {
            if !uids.is_empty() {
                uncounted[member] = list(uids);
            }
        }
        self.status["uncountedTerminatedPods"] = uncounted;
        self.finish(free.is_empty());
        if self.status != self.job["status"] {
            let mut new = (**self.job).clone();
            new["status"] = self.status;
            self.out.mutations.push(write::update_status(JOBS, new));
        }
        self.out.mutations.extend(self.told);
        self.out.mutations.extend(free);
        self.out
    }

    /// What has lost its finalizer is counted.
    fn settle_uncounted(&mut self) {
        let tracked: BTreeSet<&str> =
            self.pods.iter().filter(|pod| is_tracked(pod)).map(|pod| object::uid(pod)).collect();
        for (member, uids) in
            [("succeeded", &mut self.uncounted.succeeded), ("failed", &mut self.uncounted.failed)]
        {
            let before = uids.len();
            uids.retain(|uid| tracked.contains(uid.as_str()));
            let counted = i64::try_from(before - uids.len()).unwrap_or(0);
            let sum = object::number(&self.status, &[member]).unwrap_or(0) + counted;
            conditions::count(&mut self.status, member, sum);
        }
    }

    /// Notes the pods that have come to their end in the status, and has them lose their finalizers.
    fn release(&mut self) -> Vec<Mutation> {
        let awaiting: BTreeSet<String> =
            self.awaiting().values().map(|pod| object::uid(pod).to_owned()).collect();
        let lost = matches!(self.end.as_ref().map(|end| end.kind), Some(FAILURE | FAILED));
        let going = object::is_terminating(self.job) || self.end.is_some();
        let (mut free, mut new) = (Vec::new(), BTreeSet::new());
        for pod in self.pods.iter().filter(|pod| is_tracked(pod)) {
            let uid = object::uid(pod);
            let succeeded = pod["status"]["phase"] == "Succeeded";
            let failed = self.is_failed(pod);
            if !(going || succeeded || failed && !awaiting.contains(uid)) {
                continue;
            }
            // A pod that is told to go in this round changes under our hands; its finalizer goes in the next.
            if !self.dropped.contains(uid) {
                free.push(untrack(pod));
            }
            if succeeded && !self.uncounted.failed.contains(uid) {
                if !self.is_indexed() {
                    self.uncounted.succeeded.insert(uid.to_owned());
                } else if let Some(index) = indexes::of(pod, self.completions())
                    && !self.told_indexes.has(index)
                {
                    new.insert(index);
                }
            } else if (failed || lost)
                && self.is_valid(pod)
                && !self.uncounted.succeeded.contains(uid)
                && policy::verdict(self.job, pod) != Verdict::Ignore
            {
                self.uncounted.failed.insert(uid.to_owned());
            }
            if new.len() + self.uncounted.succeeded.len() + self.uncounted.failed.len() >= UNCOUNTED_MAX {
                break;
            }
        }
        if self.is_indexed() {
            let all = self.told_indexes.with(&indexes::Indexes::of(new));
            conditions::count(&mut self.status, "succeeded", all.total());
            match all.to_string() {
                none if none.is_empty() => {
                    drop(self.status.as_object_mut().and_then(|s| s.remove("completedIndexes")))
                }
                text => self.status["completedIndexes"] = text.into(),
            }
        }
        free
    }

    /// Says that the job is at its end: first that it will be, then, when all pods are counted and gone, that it is.
    fn finish(&mut self, all_free: bool) {
        let Some(End { kind, reason, message }) = self.end.take() else { return };
        if kind == SUCCESS || kind == FAILURE {
            self.set_condition(kind, "True", &reason, &message);
        }
        let waits = !self.uncounted.succeeded.is_empty() || !self.uncounted.failed.is_empty();
        if waits || !all_free || self.terminating > 0 {
            return;
        }
        if kind == SUCCESS || kind == COMPLETE {
            self.set_condition(COMPLETE, "True", &reason, &message);
            self.status["completionTime"] = conditions::stamp(self.world.now);
            let succeeded = object::number(&self.status, &["succeeded"]).unwrap_or(0);
            if self.spec("completions").is_some_and(|completions| succeeded > completions) {
                let text = "Too many succeeded pods running after completion count reached";
                self.told.push(write::warn(self.job, "TooManySucceededPods", text.to_owned()));
            }
            self.told.push(write::tell(self.job, "Completed", "Job completed".to_owned()));
        } else {
            self.set_condition(FAILED, "True", &reason, &message);
            self.told.push(write::warn(self.job, known(&reason), message));
        }
    }
}

/// The reason of an event, of those that a job fails for.
fn known(reason: &str) -> &'static str {
    const ALL: [&str; 5] = [
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "FailedIndexes",
        "MaxFailedIndexesExceeded",
        "PodFailurePolicy",
    ];
    ALL.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}
