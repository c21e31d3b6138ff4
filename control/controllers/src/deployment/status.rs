//! What a deployment tells about itself.

use jiff::SignedDuration;
use proto_kube::object;
use serde_json::{Value, json};

use super::rollout::Rollout;
use super::set::{Set, sum};
use crate::replicas::FAILURE;
use crate::{Outcome, conditions};

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";

pub(super) const FOUND_NEW: &str = "FoundNewReplicaSet";
pub(super) const NEW_CREATED: &str = "NewReplicaSetCreated";
pub(super) const FAILED_CREATE: &str = "ReplicaSetCreateError";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const UPDATED: &str = "ReplicaSetUpdated";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

fn count(status: &Value, member: &str) -> i64 {
    object::number(status, &[member]).unwrap_or(0)
}

impl Rollout<'_> {
    /// Within how many seconds there must be progress.
    pub(super) fn deadline(&self) -> Option<i64> {
        object::number(self.deployment, &["spec", "progressDeadlineSeconds"])
            .filter(|s| *s != i64::from(i32::MAX))
    }

    /// Sets a condition, unless it says so already.
    pub(super) fn set_condition(&mut self, kind: &str, value: &str, reason: &str, message: String) {
        let now = conditions::stamp(self.world.now);
        let mut since = now.clone();
        if let Some(before) = conditions::get(&self.status, kind) {
            if before["status"] == value && before["reason"] == reason {
                return;
            }
            if before["status"] == value {
                since = before["lastTransitionTime"].clone();
            }
        }
        let condition = json!({
            "type": kind, "status": value, "reason": reason, "message": message,
            "lastUpdateTime": now, "lastTransitionTime": since,
        });
        conditions::put(&mut self.status, condition);
    }

    /// While a deployment is paused, nobody waits for its progress.
    pub(super) fn note_pause(&mut self) {
        if self.deadline().is_none() {
            return;
        }
        let reason =
            conditions::get(&self.status, PROGRESSING).map(|c| object::text(c, &["reason"]).to_owned());
        let reason = reason.unwrap_or_default();
        let paused = object::flag(self.deployment, &["spec", "paused"]);
        if paused && reason != TIMED_OUT && reason != PAUSED {
            self.set_condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned());
        } else if !paused && reason == PAUSED {
            self.set_condition(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".to_owned());
        }
    }

    /// The end: the status is made, sets that are not needed any more go. `progress` where a rollout is to be judged.
    pub(super) fn finish(mut self, progress: bool) -> Outcome {
        let before = self.status.clone();
        self.count_up();
        if progress {
            self.judge(&before);
            self.note_failure();
            if self.is_complete() {
                self.clean_up();
            }
            self.wake();
        }
        self.write()
    }

    fn count_up(&mut self) {
        let available = sum(&self.sets, |set| set.status("availableReplicas"));
        let new = self.new.map_or(0, |new| self.sets[new].status("replicas"));
        let generation = object::number(self.deployment, &["metadata", "generation"]).unwrap_or(0);
        let counts = [
            ("observedGeneration", generation),
            ("replicas", sum(&self.sets, |set| set.status("replicas"))),
            ("updatedReplicas", new),
            ("readyReplicas", sum(&self.sets, |set| set.status("readyReplicas"))),
            ("availableReplicas", available),
            ("unavailableReplicas", (sum(&self.sets, Set::replicas) - available).max(0)),
        ];
        for (member, number) in counts {
            conditions::count(&mut self.status, member, number);
        }
        // Known only if each set that has been looked at tells its own.
        let mut ending = Some(0);
        for set in &self.sets {
            let own = object::number(&set.object, &["status", "terminatingReplicas"]);
            match own {
                None if set.status("observedGeneration") == 0 => {}
                own => ending = ending.zip(own).map(|(sum, own)| sum + own),
            }
        }
        match ending {
            Some(ending) => self.status["terminatingReplicas"] = ending.into(),
            None => drop(self.status.as_object_mut().and_then(|status| status.remove("terminatingReplicas"))),
        }
        if available >= self.replicas - self.unavailable {
            let text = "Deployment has minimum availability.";
            self.set_condition(AVAILABLE, "True", "MinimumReplicasAvailable", text.to_owned());
        } else {
            let text = "Deployment does not have minimum availability.";
            self.set_condition(AVAILABLE, "False", "MinimumReplicasUnavailable", text.to_owned());
        }
    }

    fn is_complete(&self) -> bool {
        let whole = |member: &str| count(&self.status, member) == self.replicas;
        whole("updatedReplicas") && whole("replicas") && whole("availableReplicas")
    }

    /// Whether the rollout gets on, by comparison with what was told last.
    fn judge(&mut self, before: &Value) {
        let Some(deadline) = self.deadline() else {
            conditions::remove(&mut self.status, PROGRESSING);
            return;
        };
        let current = conditions::get(before, PROGRESSING).cloned().unwrap_or_default();
        let now = |member: &str| count(&self.status, member);
        if now("replicas") == now("updatedReplicas") && current["reason"] == NEW_AVAILABLE {
            return;
        }
        let what = match self.new {
            Some(new) => format!("ReplicaSet \"{}\"", self.sets[new].name()),
            None => format!("Deployment \"{}\"", object::name(self.deployment)),
        };
        let more = |member: &str| now(member) > count(before, member);
        let old = |status: &Value| count(status, "replicas") - count(status, "updatedReplicas");
        if self.is_complete() {
            self.set_condition(
                PROGRESSING,
                "True",
                NEW_AVAILABLE,
                format!("{what} has successfully progressed."),
            );
        } else if more("updatedReplicas")
            || old(&self.status) < old(before)
            || more("readyReplicas")
            || more("availableReplicas")
        {
            // The time of the update is that of the last progress, whatever the reason was.
            if current["status"] == "True"
                && let Some(all) = self.status["conditions"].as_array_mut()
            {
                all.iter_mut().filter(|c| c["type"] == PROGRESSING).for_each(|c| c["reason"] = Value::Null);
            }
            self.set_condition(PROGRESSING, "True", UPDATED, format!("{what} is progressing."));
        } else if self.is_overdue(deadline) {
            self.set_condition(PROGRESSING, "False", TIMED_OUT, format!("{what} has timed out progressing."));
        }
    }

    fn is_overdue(&self, deadline: i64) -> bool {
        let Some(condition) = conditions::get(&self.status, PROGRESSING) else { return false };
        match object::text(condition, &["reason"]) {
            NEW_AVAILABLE => false,
            TIMED_OUT => true,
            _ => object::time(condition, &["lastUpdateTime"])
                .and_then(|at| at.checked_add(SignedDuration::from_secs(deadline)).ok())
                .is_some_and(|end| end < self.world.now),
        }
    }

    /// When the rollout will be overdue, it is looked at again.
    fn wake(&mut self) {
        let (Some(deadline), Some(condition)) = (self.deadline(), conditions::get(&self.status, PROGRESSING))
        else {
            return;
        };
        if self.is_complete() || condition["reason"] == TIMED_OUT || condition["reason"] == NEW_AVAILABLE {
            return;
        }
        let end = object::time(condition, &["lastUpdateTime"])
            .and_then(|at| at.checked_add(SignedDuration::from_secs(deadline.saturating_add(1))).ok());
        if let Some(end) = end {
            self.out.wake(end);
        }
    }

    /// What a set cannot create, the deployment tells too; of several the new one's.
    fn note_failure(&mut self) {
        let new = self.new.map(|new| &self.sets[new]);
        let failure = new
            .into_iter()
            .chain(&self.sets)
            .find_map(|set| conditions::get(&set.object["status"], FAILURE).cloned());
        match failure {
            Some(failure) => {
                let (value, reason) =
                    (object::text(&failure, &["status"]), object::text(&failure, &["reason"]));
                let told = conditions::get(&self.status, FAILURE);
                if told.is_none_or(|told| told["status"] != value || told["reason"] != reason) {
                    let mut failure = failure.clone();
                    failure["lastUpdateTime"] = failure["lastTransitionTime"].clone();
                    conditions::put(&mut self.status, failure);
                }
            }
            None => conditions::remove(&mut self.status, FAILURE),
        }
    }
}
