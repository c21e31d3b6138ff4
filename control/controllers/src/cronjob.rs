//! CronJobs: a job each time that a schedule says so.

mod due;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proto_kube::cron::Schedule;
use proto_kube::{GroupResource, object, view::View, zone};
use serde_json::{Value, json};

use crate::job::is_finished;
use crate::resources::{CRON_JOBS, JOBS, served};
use crate::{Condition, Controller, Key, Mutation, Outcome, World, conditions, owner, write};
use due::Missed;

/// The annotation of a job that tells the time it was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// It is looked again a little after the time, lest it is a little before.
const LATER: SignedDuration = SignedDuration::from_millis(100);

pub(crate) struct CronJobs;

impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("batch", "cronjobs"), ("batch", "jobs")]
    }

    fn keys(
        &self,
        view: &dyn View,
        of: GroupResource<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Vec<Key> {
        if of == JOBS {
            return owner::keys(view, CRON_JOBS, [old, new], |_| None);
        }
        new.or(old).map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, (namespace, name): &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(cron) = world.view.get(CRON_JOBS, namespace, name) else { return out };
        let jobs = world.view.controlled(JOBS, namespace, object::uid(&cron));
        let mut status = cron["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        Look { world, cron: &cron, jobs, status, gone: BTreeSet::new(), out: &mut out }.go();
        out
    }
}

/// One look at a cron job.
struct Look<'a> {
    world: &'a World<'a>,
    cron: &'a Arc<Value>,
    jobs: Vec<Arc<Value>>,
    status: Value,
    /// The jobs that are deleted in this round.
    gone: BTreeSet<String>,
    out: &'a mut Outcome,
}

impl Look<'_> {
    fn go(mut self) {
        self.forget_missing();
        self.note_jobs();
        if !object::is_terminating(self.cron) {
            self.schedule();
        }
        self.clean_up();
        self.list_active();
        if self.status != self.cron["status"] {
            let mut new = (**self.cron).clone();
            new["status"] = self.status;
            self.out.mutations.push(write::update_status(CRON_JOBS, new));
        }
    }

    fn warn(&mut self, reason: &'static str, text: String) {
        self.out.mutations.push(write::warn(self.cron, reason, text));
    }

    fn tell(&mut self, reason: &'static str, text: String) {
        self.out.mutations.push(write::tell(self.cron, reason, text));
    }

    fn is_listed(&self, uid: &str) -> bool {
        object::items(self.cron, &["status", "active"]).any(|job| job["uid"] == uid)
    }

    /// Whether the job is one that this controller has made, or knows of. Somebody else may have made others.
    fn is_ours(&self, job: &Value) -> bool {
        object::annotation(job, SCHEDULED).is_some() || self.is_listed(object::uid(job))
    }

    /// Jobs that run according to the status but are not there. The server is asked, as the view may be behind. One that is
    /// there but no longer this one's is not missing.
    fn forget_missing(&mut self) {
        let known: BTreeSet<&str> = self.jobs.iter().map(|job| object::uid(job)).collect();
        let all = object::items(self.cron, &["status", "active"]);
        let is_there = |job: &Value| {
            let found = self.world.view.get(JOBS, object::namespace(self.cron), object::text(job, &["name"]));
            found.is_some_and(|found| object::uid(&found) == object::text(job, &["uid"]))
        };
        let missing: Vec<_> = all
            .filter(|job| !known.contains(object::text(job, &["uid"])) && !is_there(job))
            .cloned()
            .collect();
        for job in missing {
            let name = object::text(&job, &["name"]).to_owned();
            let key = (object::namespace(self.cron).to_owned(), name.clone());
            let uid = object::text(&job, &["uid"]).to_owned();
            self.out.mutations.push(Mutation::If(Condition::Absent(served(JOBS), key, Some(uid))));
            self.tell("MissingJob", format!("Active job went missing: {name}"));
        }
    }

    /// What the jobs tell: those that are over, and those that somebody else has made.
    fn note_jobs(&mut self) {
        for job in self.jobs.clone() {
            let (name, listed) = (object::name(&job), self.is_listed(object::uid(&job)));
            let end =
                ["Complete", "Failed"].into_iter().find(|kind| conditions::is_true(&job["status"], kind));
            let Some(end) = end else {
                if !listed && object::annotation(&job, SCHEDULED).is_none() {
                    let text = format!("Saw a job that the controller did not create or forgot: {name}");
                    self.warn("UnexpectedJob", text);
                }
                continue;
            };
            if listed {
                self.tell("SawCompletedJob", format!("Saw completed job: {name}, condition: {end}"));
            }
            let completed = object::time(&job, &["status", "completionTime"]).filter(|_| end == "Complete");
            if completed > object::time(&self.status, &["lastSuccessfulTime"]) {
                self.status["lastSuccessfulTime"] = job["status"]["completionTime"].clone();
            }
        }
    }

    fn schedule(&mut self) {
        let named = object::text(self.cron, &["spec", "timeZone"]).to_owned();
        let zone = match named.as_str() {
            "" => TimeZone::UTC,
            name => match zone::find(name) {
                Ok(zone) => zone,
                Err(why) => {
                    return self.warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {why}"));
                }
            },
        };
        if object::flag(self.cron, &["spec", "suspend"]) {
            return;
        }
        let text = object::text(self.cron, &["spec", "schedule"]).to_owned();
        match Schedule::parse(&text) {
            Err(why) => self.warn("UnparseableSchedule", format!("unparseable schedule: {text:?} : {why}")),
            Ok(schedule) => {
                self.start(&text, &schedule, &zone);
                let from = self.last().max(Some(self.world.now)).unwrap_or(self.world.now);
                if let Some(next) = schedule.next(from, &zone) {
                    self.out.wake(next.checked_add(LATER).unwrap_or(next));
                }
            }
        }
    }

    /// When a job was last made, by the status.
    fn last(&self) -> Option<Timestamp> {
        object::time(&self.status, &["lastScheduleTime"])
    }

    /// Makes the job that is due, if there is one and nothing stands against it.
    fn start(&mut self, text: &str, schedule: &Schedule, zone: &TimeZone) {
        let now = self.world.now;
        let deadline = object::number(self.cron, &["spec", "startingDeadlineSeconds"]);
        let deadline = deadline.map(SignedDuration::from_secs);
        let since = self.last().or_else(|| object::time(self.cron, &["metadata", "creationTimestamp"]));
        // What lies before the deadline would not be started any more.
        let earliest = deadline.and_then(|deadline| now.checked_sub(deadline).ok());
        let since = since.unwrap_or(now).max(earliest.unwrap_or(Timestamp::MIN));
        let due = match due::latest(schedule, zone, since, now) {
            Ok((Some(due), missed)) => {
                if missed == Missed::Many {
                    let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
                    self.warn("TooManyMissedTimes", text.to_owned());
                }
                due
            }
            Ok((None, _)) => return,
            Err(why) => return self.warn("InvalidSchedule", format!("invalid schedule: {text} : {why}")),
        };
        if deadline.is_some_and(|deadline| due.checked_add(deadline).is_ok_and(|end| end < now)) {
            let at = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
            return self.warn("MissSchedule", format!("Missed scheduled time to start a job: {at}"));
        }
        let name = format!("{}-{}", object::name(self.cron), due.as_second() / 60);
        if self.last() == Some(due) {
            return;
        }
        if self.jobs.iter().any(|job| object::name(job) == name) {
            self.status["lastScheduleTime"] = conditions::stamp(due);
            return;
        }
        if self.refused() {
            return;
        }
        let running = |job: &&Arc<Value>| !is_finished(job) && self.is_ours(job);
        let running: Vec<_> = self.jobs.iter().filter(running).cloned().collect();
        match object::text(self.cron, &["spec", "concurrencyPolicy"]) {
            "Forbid" if !running.is_empty() => {
                let text =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                return self.tell("JobAlreadyActive", text.to_owned());
            }
            "Replace" => running.iter().for_each(|job| self.delete(job)),
            _ => {}
        }
        let job = self.job(&name, due, zone);
        self.out.mutations.push(Mutation::Create(served(JOBS), job));
        self.tell("SuccessfulCreate", format!("Created job {name}"));
        self.status["lastScheduleTime"] = conditions::stamp(due);
    }

    /// Whether the server has just refused a job; people are told.
    fn refused(&mut self) -> bool {
        let Some(refused) = self.world.refused else { return false };
        let Mutation::Create(..) = refused.mutation else { return false };
        if !write::ends_with_namespace(&refused.status) {
            self.warn("FailedCreate", format!("Error creating job: {}", refused.status.message));
        }
        true
    }

    fn job(&self, name: &str, due: Timestamp, zone: &TimeZone) -> Value {
        let template = &self.cron["spec"]["jobTemplate"];
        let mut job = json!({
            "metadata": {
                "name": name,
                "namespace": object::namespace(self.cron),
                "ownerReferences": [owner::reference(CRON_JOBS, self.cron)],
            },
            "spec": template["spec"],
        });
        for map in ["labels", "annotations"] {
            if let Some(value) = object::at(template, &["metadata", map]) {
                job["metadata"][map] = value.clone();
            }
        }
        let at = due.to_zoned(zone.clone());
        let at = if at.offset().is_zero() { at.strftime("%FT%TZ") } else { at.strftime("%FT%T%:z") };
        object::member(&mut job["metadata"], "annotations")
            .insert(SCHEDULED.to_owned(), at.to_string().into());
        job
    }

    fn delete(&mut self, job: &Arc<Value>) {
        let mut delete = owner::delete(JOBS, job);
        if let Mutation::Delete(_, _, options) = &mut delete {
            options["propagationPolicy"] = "Background".into();
        }
        self.out.mutations.push(delete);
        self.tell("SuccessfulDelete", format!("Deleted job {}", object::name(job)));
        self.gone.insert(object::uid(job).to_owned());
    }

    /// Of the jobs that are over, only so many are kept.
    fn clean_up(&mut self) {
        for (kind, limit) in
            [("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")]
        {
            let Some(limit) = object::number(self.cron, &["spec", limit]) else { continue };
            let over =
                |job: &&Arc<Value>| conditions::is_true(&job["status"], kind) && !object::is_terminating(job);
            let mut over: Vec<_> = self.jobs.iter().filter(over).cloned().collect();
            over.sort_by_cached_key(|job| {
                let start = object::time(job, &["status", "startTime"]);
                (start.is_none(), start, object::name(job).to_owned())
            });
            let surplus = over.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            over.iter().take(surplus).for_each(|job| self.delete(job));
        }
    }

    /// The status lists the jobs that are not over.
    fn list_active(&mut self) {
        let resource = served(JOBS);
        let lists = |job: &&Arc<Value>| {
            self.is_ours(job) && !is_finished(job) && !self.gone.contains(object::uid(job))
        };
        let known = |uid: &str| {
            object::items(self.cron, &["status", "active"]).find(|job| job["uid"] == uid).cloned()
        };
        let refer = |job: &Arc<Value>| {
            known(object::uid(job)).unwrap_or_else(|| {
                json!({
                    "apiVersion": resource.api_version(),
                    "kind": resource.kind,
                    "namespace": object::namespace(job),
                    "name": object::name(job),
                    "uid": object::uid(job),
                    "resourceVersion": job["metadata"]["resourceVersion"],
                })
            })
        };
        let active: Vec<Value> = self.jobs.iter().filter(lists).map(refer).collect();
        if active.is_empty() {
            drop(self.status.as_object_mut().and_then(|status| status.remove("active")));
        } else {
            self.status["active"] = active.into();
        }
    }
}

#[cfg(test)]
mod tests;
