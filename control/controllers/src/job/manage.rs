//! Which pods a job starts and which it stops.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proto_kube::object;
use serde_json::{Value, json};

use super::indexes::{self, INDEX, Indexes};
use super::policy::{self, Verdict};
use super::sync::Sync;
use super::{FINALIZER, backoff, is_tracked};
use crate::names::fresh;
use crate::resources::{JOBS, PODS, served};
use crate::{Mutation, pods, write};

/// How many pods are created or deleted at a time.
const BURST: usize = 500;
/// Annotations of a pod: how often its index has failed before, and how often that did not count.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The variable that tells a container the index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// How often a pod's index had failed before: what counted, what did not.
pub(super) fn failures(pod: &Value) -> (i64, i64) {
    let count = |key| {
        object::annotation(pod, key)
            .and_then(|text| text.parse::<i32>().ok())
            .map_or(0, |count| i64::from(count.max(0)))
    };
    (count(FAILURES), count(IGNORED))
}

impl Sync<'_> {
    pub(super) fn manage(&mut self) {
        if self.is_suspended() {
            return self.stop(self.running);
        }
        let parallelism = self.spec("parallelism").unwrap_or(1);
        let wanted = match self.spec("completions") {
            // Once one has succeeded, the others may end, but none is started any more.
            None if self.succeeded > 0 => self.running,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).min(parallelism).max(0),
        };
        let before = self.running;
        self.stop((before - wanted).max(0));
        if self.running == before {
            let terminating = if self.waits_for_end() { self.terminating } else { 0 };
            self.start(usize::try_from(wanted - terminating - self.running).unwrap_or(0).min(BURST));
        }
    }

    /// Stops so many pods, and those that double another's index or have none. They do not count as failed.
    fn stop(&mut self, least: i64) {
        let mut left = self.active.clone();
        pods::by_loss(&mut left, &[], self.world.now);
        let mut stopped = Vec::new();
        if self.is_indexed() {
            // The last of the order is the one worth most.
            let mut kept = BTreeMap::new();
            for pod in left {
                match indexes::of(&pod, self.completions()) {
                    Some(index) => stopped.extend(kept.insert(index, pod)),
                    None => stopped.push(pod),
                }
            }
            left = kept.into_values().collect();
            pods::by_loss(&mut left, &[], self.world.now);
        }
        let more = usize::try_from(least).unwrap_or(0).saturating_sub(stopped.len());
        stopped.extend(left.into_iter().take(more));
        for pod in stopped.into_iter().take(BURST) {
            self.drop(&pod, false);
        }
    }

    fn start(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let per_index = self.failed_indexes.is_some();
        if !per_index {
            // What was stopped without being counted is no failure.
            let counts = |pod: &Value| is_tracked(pod) || !object::is_terminating(pod);
            let until = backoff::of_job(&self.pods, |pod| self.is_failed(pod) && counts(pod));
            if until > self.world.now {
                return self.out.wake(until);
            }
        }
        let seed = pods::seed(self.job, &self.pods);
        if !self.is_indexed() {
            let names: Vec<String> = pods::names(self.world, self.job, seed).take(count).collect();
            for name in names {
                let pod = self.pod(&name);
                self.create(pod, &name);
            }
            return;
        }
        let before = self.awaiting();
        for index in self.pending(count) {
            let last = before.get(&index);
            let until = last.filter(|_| per_index).map_or(Timestamp::MIN, |pod| {
                let (counted, ignored) = failures(pod);
                backoff::until(counted + ignored + 1, backoff::ended_at(pod))
            });
            if until > self.world.now {
                self.out.wake(until);
                continue;
            }
            let (job, part) = (object::name(self.job), format!("-{index}-"));
            let prefix = format!("{}{part}", &job[..job.len().min(58 - part.len())]);
            let taken = |name: &str| self.world.view.get(PODS, object::namespace(self.job), name).is_some();
            let Some(name) = fresh(&prefix, seed.text(&part), taken).next() else { continue };
            let mut pod = self.pod(&name);
            pod["metadata"]["generateName"] = prefix.into();
            self.index(&mut pod, index, last);
            self.create(pod, &name);
        }
    }

    /// The lowest indexes that have neither ended nor a pod.
    fn pending(&self, count: usize) -> Vec<i64> {
        let busy = |pod: &&Arc<Value>| pods::is_active(pod) || (self.waits_for_end() && pods::is_ending(pod));
        let busy = Indexes::of(self.pods.iter().filter(busy).filter_map(|pod| indexes::any(pod)));
        let mut taken = self.succeeded_indexes.with(&busy);
        if let Some(failed) = &self.failed_indexes {
            taken = taken.with(failed);
        }
        taken.missing(self.completions()).take(count).collect()
    }

    /// By index, the failed pod that stays until another takes its place, as it knows how often the index has failed.
    pub(super) fn awaiting(&self) -> BTreeMap<i64, Arc<Value>> {
        let Some(failed) = &self.failed_indexes else { return BTreeMap::new() };
        let active: Vec<i64> = self
            .pods
            .iter()
            .filter(|pod| pods::is_active(pod))
            .filter_map(|pod| indexes::of(pod, self.completions()))
            .collect();
        let mut last = BTreeMap::<i64, Arc<Value>>::new();
        for pod in self.pods.iter().filter(|pod| self.is_valid(pod) && self.is_failed(pod)) {
            let Some(index) = indexes::of(pod, self.completions()) else { continue };
            if self.succeeded_indexes.has(index) || failed.has(index) || active.contains(&index) {
                continue;
            }
            let weight = |pod: &Value| (failures(pod).0 + failures(pod).1, backoff::ended_at(pod));
            if last.get(&index).is_none_or(|other| weight(pod) >= weight(other)) {
                last.insert(index, pod.clone());
            }
        }
        last
    }

    fn pod(&self, name: &str) -> Value {
        let mut pod = pods::from_template(JOBS, self.job, &self.job["spec"]["template"], name);
        object::default(&mut pod["metadata"], "finalizers", json!([]));
        if let Some(finalizers) = pod["metadata"]["finalizers"].as_array_mut()
            && !finalizers.iter().any(|f| f == FINALIZER)
        {
            finalizers.push(FINALIZER.into());
        }
        pod
    }

    /// Tells a pod which part of the work is its own, and what came of the one before.
    fn index(&self, pod: &mut Value, index: i64, before: Option<&Arc<Value>>) {
        let text = index.to_string();
        for map in ["annotations", "labels"] {
            object::member(&mut pod["metadata"], map).insert(INDEX.to_owned(), text.as_str().into());
        }
        if self.failed_indexes.is_some() {
            let (mut counted, mut ignored) = before.map_or((0, 0), |before| failures(before));
            match before.map(|before| policy::verdict(self.job, before)) {
                Some(Verdict::Ignore) => ignored += 1,
                Some(_) => counted += 1,
                None => {}
            }
            let notes = object::member(&mut pod["metadata"], "annotations");
            notes.insert(FAILURES.to_owned(), counted.to_string().into());
            if ignored > 0 {
                notes.insert(IGNORED.to_owned(), ignored.to_string().into());
            }
        }
        pod["spec"]["hostname"] = format!("{}-{index}", object::name(self.job)).into();
        for list in ["initContainers", "containers"] {
            for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                object::default(container, "env", json!([]));
                let env = container["env"].as_array_mut();
                if let Some(env) = env.filter(|env| !env.iter().any(|variable| variable["name"] == VARIABLE))
                {
                    let field = json!({"fieldPath": format!("metadata.labels['{INDEX}']")});
                    env.push(json!({"name": VARIABLE, "valueFrom": {"fieldRef": field}}));
                }
            }
        }
    }

    fn create(&mut self, pod: Value, name: &str) {
        self.out.mutations.push(Mutation::Create(served(PODS), pod));
        self.out.mutations.push(write::tell(self.job, "SuccessfulCreate", format!("Created pod: {name}")));
        self.running += 1;
    }
}
