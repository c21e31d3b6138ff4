//! CronJobs: texts, times, and what kills leave.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::Cluster;

fn cluster(spec: &Value) -> Cluster {
    let mut cluster = Cluster::new(vec![(Box::new(CronJobs), CRON_JOBS)]);
    let mut cron = json!({
        "metadata": {"name": "tick", "namespace": "ns", "uid": "c", "creationTimestamp": "2026-01-01T12:00:00Z"},
        "spec": {
            "schedule": "*/5 * * * *", "concurrencyPolicy": "Allow", "suspend": false,
            "successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {}}}},
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        cron["spec"][key] = value.clone();
    }
    cluster.objects.put(CRON_JOBS, cron);
    cluster
}

fn names(cluster: &Cluster) -> Vec<String> {
    cluster.objects.list(JOBS, "ns").iter().map(|job| object::name(job).to_owned()).collect()
}

fn end(cluster: &mut Cluster, job: &str, kind: &str) {
    let at = conditions::stamp(cluster.now);
    let done = cluster.objects.change(JOBS, "ns", job, |job| {
        job["status"] = json!({"startTime": at, "conditions": [{"type": kind, "status": "True"}]});
        if kind == "Complete" {
            job["status"]["completionTime"] = at;
        }
    });
    assert!(done, "{job}");
}

fn minute(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap().as_second() / 60
}

#[test]
fn a_job_at_each_time() {
    let mut cluster = cluster(&json!({"timeZone": "Europe/Berlin"}));
    let again = cluster.settle().unwrap();
    assert_eq!(again.duration_since(cluster.now), SignedDuration::from_millis(300_100));
    assert!(names(&cluster).is_empty());
    cluster.pass(300);
    cluster.settle();
    let name = format!("tick-{}", minute("2026-01-01T12:05:00Z"));
    assert_eq!(names(&cluster), std::slice::from_ref(&name));
    let job = cluster.get(JOBS, &name);
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(object::annotation(&job, SCHEDULED), Some("2026-01-01T13:05:00+01:00"));
    let status = &cluster.get(CRON_JOBS, "tick")["status"];
    assert_eq!(status["lastScheduleTime"], "2026-01-01T12:05:00Z");
    assert_eq!(status["active"][0]["name"], name);
    assert_eq!(status["active"][0]["uid"], job["metadata"]["uid"]);
    end(&mut cluster, &name, "Complete");
    cluster.settle();
    let status = &cluster.get(CRON_JOBS, "tick")["status"];
    assert_eq!(
        *status,
        json!({"lastScheduleTime": "2026-01-01T12:05:00Z", "lastSuccessfulTime": "2026-01-01T12:05:00Z"})
    );
    assert_eq!(
        cluster.told(),
        [
            ("SuccessfulCreate".to_owned(), format!("Created job {name}")),
            ("SawCompletedJob".to_owned(), format!("Saw completed job: {name}, condition: Complete")),
        ]
    );
}

#[test]
fn a_kill_after_the_creation_makes_no_second_job() {
    let mut cluster = cluster(&json!({}));
    cluster.pass(300);
    let outcome = cluster.ask(0, &("ns".to_owned(), "tick".to_owned()), None);
    cluster.apply(&outcome.mutations, 1);
    cluster.settle();
    assert_eq!(names(&cluster).len(), 1);
    let status = &cluster.get(CRON_JOBS, "tick")["status"];
    assert_eq!(status["lastScheduleTime"], "2026-01-01T12:05:00Z");
    assert_eq!(status["active"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_else_runs_is_allowed_forbidden_or_replaced() {
    for (policy, jobs) in [("Allow", 2), ("Forbid", 1), ("Replace", 1)] {
        let mut cluster = cluster(&json!({"concurrencyPolicy": policy}));
        cluster.pass(300);
        cluster.settle();
        let first = names(&cluster);
        cluster.pass(300);
        cluster.round();
        cluster.round();
        assert_eq!(names(&cluster).len(), jobs, "{policy}");
        assert_eq!(names(&cluster).contains(&first[0]), policy != "Replace");
        if policy == "Forbid" {
            let told = cluster.told();
            assert_eq!(told.last().unwrap().0, "JobAlreadyActive");
            end(&mut cluster, &first[0], "Failed");
            cluster.settle();
            assert_eq!(names(&cluster).len(), 2);
        }
    }
}

#[test]
fn history_is_kept_short() {
    let mut cluster = cluster(&json!({}));
    for n in 0..6 {
        cluster.pass(300);
        cluster.settle();
        let last = names(&cluster).pop().unwrap();
        end(&mut cluster, &last, if n % 2 == 0 { "Complete" } else { "Failed" });
        cluster.settle();
    }
    let minutes: Vec<String> = ["12:15", "12:25", "12:30"]
        .map(|at| format!("tick-{}", minute(&format!("2026-01-01T{at}:00Z"))))
        .into();
    assert_eq!(names(&cluster), minutes);
}

#[test]
fn late_missed_and_wrong() {
    let mut late = cluster(&json!({"startingDeadlineSeconds": 10, "schedule": "0 * * * *"}));
    late.pass(3700);
    late.settle();
    assert!(names(&late).is_empty());

    let mut missed = cluster(&json!({"schedule": "* * * * *"}));
    missed.pass(86_400);
    missed.settle();
    assert_eq!(names(&missed), [format!("tick-{}", minute("2026-01-02T12:00:00Z"))]);
    assert_eq!(missed.told()[0].0, "TooManyMissedTimes");

    for (spec, reason, text) in [
        (
            json!({"schedule": "x"}),
            "UnparseableSchedule",
            "unparseable schedule: \"x\" : expected exactly 5 fields, found 1: [x]",
        ),
        (
            json!({"timeZone": "Mars/X"}),
            "UnknownTimeZone",
            "invalid timeZone: \"Mars/X\": unknown time zone Mars/X",
        ),
        (
            json!({"schedule": "59 23 31 2 *"}),
            "InvalidSchedule",
            "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second",
        ),
    ] {
        let mut wrong = cluster(&spec);
        wrong.pass(300);
        wrong.round();
        assert_eq!(wrong.told(), [(reason.to_owned(), text.to_owned())]);
        assert!(names(&wrong).is_empty());
    }
    let mut suspended = cluster(&json!({"suspend": true}));
    suspended.pass(300);
    assert_eq!(suspended.settle(), None);
    assert!(names(&suspended).is_empty());
}

#[test]
fn jobs_that_went_missing_or_came_from_elsewhere() {
    let mut cluster = cluster(&json!({}));
    cluster.pass(300);
    cluster.settle();
    let name = names(&cluster).remove(0);
    cluster.objects.remove(JOBS, "ns", &name);
    cluster.told();
    cluster.settle();
    assert_eq!(cluster.told(), [("MissingJob".to_owned(), format!("Active job went missing: {name}"))]);
    let cron = cluster.get(CRON_JOBS, "tick");
    assert_eq!(cron["status"].get("active"), None);
    cluster.objects.put(
        JOBS,
        json!({"metadata": {"name": "by-hand", "namespace": "ns", "ownerReferences": [owner::reference(CRON_JOBS, &cron)]}}),
    );
    cluster.round();
    let text = "Saw a job that the controller did not create or forgot: by-hand";
    assert_eq!(cluster.told(), [("UnexpectedJob".to_owned(), text.to_owned())]);
}

/// A job that is told to be nobody's runs on, and the next is made all the same.
#[test]
fn a_job_that_is_taken_away_is_not_missing() {
    let mut cluster = cluster(&json!({"concurrencyPolicy": "Forbid"}));
    cluster.pass(300);
    cluster.settle();
    let first = names(&cluster).remove(0);
    let free = |job: &mut Value| {
        job["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    };
    assert!(cluster.objects.change(JOBS, "ns", &first, free));
    cluster.told();
    cluster.settle();
    assert_eq!(cluster.get(CRON_JOBS, "tick")["status"].get("active"), None);
    assert_eq!(cluster.told(), []);
    cluster.pass(300);
    cluster.settle();
    assert_eq!(names(&cluster).len(), 2);
    assert!(names(&cluster).contains(&first));
}

/// What somebody else has made for a cron job neither keeps it from making its own nor goes for it.
#[test]
fn jobs_from_elsewhere_are_not_counted() {
    for policy in ["Forbid", "Replace"] {
        let mut cluster = cluster(&json!({"concurrencyPolicy": policy}));
        let cron = cluster.get(CRON_JOBS, "tick");
        cluster.objects.put(
            JOBS,
            json!({"metadata": {"name": "by-hand", "namespace": "ns", "ownerReferences": [owner::reference(CRON_JOBS, &cron)]}}),
        );
        cluster.pass(300);
        cluster.round();
        cluster.round();
        let made = format!("tick-{}", minute("2026-01-01T12:05:00Z"));
        assert_eq!(names(&cluster), ["by-hand".to_owned(), made], "{policy}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever happens: no time has two jobs, not even after one is gone; none comes early; no more run side by side
    /// than the policy says; and no more are kept than asked for.
    #[test]
    fn each_time_has_one_job_at_most(
        policy in 0usize..3,
        steps in proptest::collection::vec((0usize..6, any::<prop::sample::Index>()), 10..80),
    ) {
        let policy = ["Allow", "Forbid", "Replace"][policy];
        let mut cluster = cluster(&json!({"concurrencyPolicy": policy}));
        let mut made: BTreeMap<String, String> = BTreeMap::new();
        for (act, which) in steps {
            match act {
                0 | 1 => {
                    cluster.round();
                }
                2 => cluster.pass(i64::try_from(which.index(1000)).unwrap()),
                3 => {
                    let outcome = cluster.ask(0, &("ns".to_owned(), "tick".to_owned()), None);
                    cluster.apply(&outcome.mutations, which.index(4));
                }
                _ => {
                    let running: Vec<_> =
                        cluster.objects.list(JOBS, "ns").into_iter().filter(|job| !is_finished(job)).collect();
                    if !running.is_empty() {
                        let name = object::name(&running[which.index(running.len())]).to_owned();
                        end(&mut cluster, &name, if act == 4 { "Complete" } else { "Failed" });
                    }
                }
            }
            let jobs = cluster.objects.list(JOBS, "ns");
            for job in &jobs {
                let time = object::annotation(job, SCHEDULED).unwrap().to_owned();
                prop_assert!(time.parse::<Timestamp>().unwrap() <= cluster.now);
                let uid = made.entry(time.clone()).or_insert_with(|| object::uid(job).to_owned());
                prop_assert_eq!(&*uid, object::uid(job), "{} has two jobs", time);
            }
            let running = jobs.iter().filter(|job| !is_finished(job)).count();
            prop_assert!(policy == "Allow" || running <= 1, "{running} run");
        }
        // While one runs, a policy that forbids another tells so at each look.
        for job in cluster.objects.list(JOBS, "ns").iter().filter(|job| !is_finished(job)) {
            end(&mut cluster, object::name(job), "Complete");
        }
        cluster.settle();
        let ended = |kind: &str| {
            let jobs = cluster.objects.list(JOBS, "ns");
            jobs.iter().filter(|job| conditions::is_true(&job["status"], kind)).count()
        };
        prop_assert!(ended("Complete") <= 2 && ended("Failed") <= 1);
    }
}
