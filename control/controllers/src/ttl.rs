//! Jobs that are over are deleted a while after, where they say so.

use jiff::SignedDuration;
use proto_kube::{GroupResource, object, view::View};
use serde_json::Value;

use crate::job::is_finished;
use crate::resources::JOBS;
use crate::{Controller, Key, Mutation, Outcome, World, conditions, owner};

pub(crate) struct TtlAfterFinished;

impl Controller for TtlAfterFinished {
    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    fn watches(&self) -> &'static [(&'static str, &'static str)] {
        &[("batch", "jobs")]
    }

    fn keys(&self, _: &dyn View, _: GroupResource<'_>, old: Option<&Value>, new: Option<&Value>) -> Vec<Key> {
        new.or(old).map(owner::key).into_iter().collect()
    }

    fn reconcile(&self, world: &World<'_>, (namespace, name): &Key) -> Outcome {
        let mut out = Outcome::default();
        let Some(job) = world.view.get(JOBS, namespace, name) else { return out };
        let ttl = object::number(&job, &["spec", "ttlSecondsAfterFinished"]);
        let Some(ttl) = ttl.filter(|_| is_finished(&job) && !object::is_terminating(&job)) else {
            return out;
        };
        let end = ["Complete", "Failed"]
            .into_iter()
            .filter_map(|kind| conditions::get(&job["status"], kind))
            .find(|condition| condition["status"] == "True")
            .and_then(|condition| object::time(condition, &["lastTransitionTime"]));
        let Some(expiry) = end.and_then(|end| end.checked_add(SignedDuration::from_secs(ttl)).ok()) else {
            return out;
        };
        if expiry > world.now {
            out.wake(expiry);
            return out;
        }
        let mut delete = owner::delete(JOBS, &job);
        if let Mutation::Delete(_, _, options) = &mut delete {
            options["propagationPolicy"] = "Foreground".into();
            // Somebody may be giving it a longer life just now.
            options["preconditions"]["resourceVersion"] = job["metadata"]["resourceVersion"].clone();
        }
        out.mutations.push(delete);
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Cluster;

    #[test]
    fn a_job_lives_on_for_as_long_as_it_says() {
        let mut cluster = Cluster::new(vec![(Box::new(TtlAfterFinished), JOBS)]);
        let job = |name: &str, ttl: Option<i64>, end: Option<&str>| {
            let end = end.map(
                |kind| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T11:59:50Z"}),
            );
            json!({
                "metadata": {"name": name, "namespace": "ns"},
                "spec": {"ttlSecondsAfterFinished": ttl},
                "status": {"conditions": end.into_iter().collect::<Vec<_>>()},
            })
        };
        for (name, ttl, end) in [
            ("kept", None, Some("Complete")),
            ("running", Some(0), None),
            ("complete", Some(10), Some("Complete")),
            ("failed", Some(30), Some("Failed")),
        ] {
            cluster.objects.put(JOBS, job(name, ttl, end));
        }
        let names = |cluster: &Cluster| -> Vec<String> {
            let all = cluster.objects.list(JOBS, "");
            let stays = all.iter().filter(|job| !object::is_terminating(job));
            stays.map(|job| object::name(job).to_owned()).collect()
        };
        let again = cluster.settle().unwrap();
        assert_eq!(again.duration_since(cluster.now).as_secs(), 20);
        assert_eq!(names(&cluster), ["failed", "kept", "running"]);
        cluster.pass(20);
        cluster.settle();
        assert_eq!(names(&cluster), ["kept", "running"]);
    }
}
