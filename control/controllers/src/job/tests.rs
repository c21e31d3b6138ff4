//! Jobs: texts, ends, and the law of counting.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::Cluster;
use crate::pods;

fn cluster(spec: &Value) -> Cluster {
    let mut cluster = Cluster::new(vec![(Box::new(Jobs), JOBS)]);
    let labels = json!({"job-name": "sum"});
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "sum", "namespace": "ns", "uid": "j"},
        "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
            "suspend": false, "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]},
            },
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    cluster.objects.put(JOBS, job);
    cluster
}

fn edit(cluster: &mut Cluster, how: impl FnOnce(&mut Value)) {
    cluster.objects.change(JOBS, "ns", "sum", |job| how(&mut job["spec"]));
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(JOBS, "sum")["status"].clone()
}

fn active(cluster: &Cluster) -> Vec<Arc<Value>> {
    cluster.pods().into_iter().filter(|pod| pods::is_active(pod)).collect()
}

/// A pod ends with a code.
fn exit(cluster: &mut Cluster, pod: &Value, code: i64) {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let at = conditions::stamp(cluster.now);
    cluster.objects.change(PODS, "ns", object::name(pod), |pod| {
        pod["status"] = json!({
            "phase": phase,
            "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": at}}}],
        });
    });
}

/// The conditions that are true, with their reasons.
fn told(cluster: &Cluster) -> Vec<(String, String)> {
    let status = status(cluster);
    object::items(&status, &["conditions"])
        .filter(|c| c["status"] == "True")
        .map(|c| (object::text(c, &["type"]).to_owned(), object::text(c, &["reason"]).to_owned()))
        .collect()
}

fn condition(kind: &str, reason: &str) -> (String, String) {
    (kind.to_owned(), reason.to_owned())
}

fn number(cluster: &Cluster, member: &str) -> i64 {
    status(cluster)[member].as_i64().unwrap_or(0)
}

/// A pod that was noted as failed, as it was told to go, is not counted twice when it says that it has succeeded.
#[test]
fn a_pod_ends_once() {
    let mut cluster = cluster(&json!({}));
    cluster.settle();
    let pod = cluster.pods()[0].clone();
    cluster.objects.change(JOBS, "ns", "sum", |job| {
        job["status"]["uncountedTerminatedPods"] = json!({"failed": [object::uid(&pod)]});
    });
    exit(&mut cluster, &pod, 0);
    cluster.settle();
    assert_eq!((number(&cluster, "failed"), number(&cluster, "succeeded")), (1, 0));
    assert!(told(&cluster).is_empty());
}

#[test]
fn one_pod_to_its_end() {
    let mut cluster = cluster(&json!({}));
    cluster.settle();
    assert_eq!(
        status(&cluster),
        json!({
            "startTime": "2026-01-01T12:00:00Z", "active": 1, "ready": 0, "terminating": 0,
            "uncountedTerminatedPods": {},
        })
    );
    let pod = cluster.pods()[0].clone();
    assert_eq!(pod["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(pod["metadata"]["generateName"], "sum-");
    cluster.run(object::name(&pod), true);
    cluster.settle();
    assert_eq!(status(&cluster)["ready"], 1);
    cluster.pass(5);
    exit(&mut cluster, &pod, 0);
    cluster.settle();
    let at = "2026-01-01T12:00:05Z";
    let end = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "CompletionsReached",
            "message": "Reached expected number of succeeded pods", "lastProbeTime": at, "lastTransitionTime": at,
        })
    };
    assert_eq!(
        status(&cluster),
        json!({
            "startTime": "2026-01-01T12:00:00Z", "completionTime": at, "succeeded": 1, "ready": 0, "terminating": 0,
            "uncountedTerminatedPods": {}, "conditions": [end("SuccessCriteriaMet"), end("Complete")],
        })
    );
    assert!(!is_tracked(&cluster.pods()[0]));
    let events = cluster.told();
    assert!(events[0].1.starts_with("Created pod: sum-"));
    assert_eq!(events[1..], [("Completed".to_owned(), "Job completed".to_owned())]);
}

#[test]
fn failures_are_retried_ever_more_slowly_up_to_the_limit() {
    let mut cluster = cluster(&json!({"backoffLimit": 2}));
    for wait in [10, 20] {
        cluster.settle();
        let pod = active(&cluster)[0].clone();
        exit(&mut cluster, &pod, 1);
        let again = cluster.settle().unwrap();
        assert_eq!(again.duration_since(cluster.now).as_secs(), wait);
        assert!(active(&cluster).is_empty());
        cluster.pass(wait);
    }
    cluster.settle();
    let pod = active(&cluster)[0].clone();
    exit(&mut cluster, &pod, 1);
    cluster.settle();
    assert_eq!(
        told(&cluster),
        [condition("FailureTarget", "BackoffLimitExceeded"), condition("Failed", "BackoffLimitExceeded")]
    );
    assert_eq!(number(&cluster, "failed"), 3);
    let last = cluster.told().pop().unwrap();
    assert_eq!(last, condition("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
}

#[test]
fn so_many_side_by_side_and_no_more_than_are_left() {
    let mut cluster = cluster(&json!({"parallelism": 3, "completions": 5}));
    for expected in [3, 3, 3, 2, 1] {
        cluster.settle();
        assert_eq!(active(&cluster).len(), expected);
        let pod = active(&cluster)[0].clone();
        exit(&mut cluster, &pod, 0);
    }
    cluster.settle();
    assert_eq!(number(&cluster, "succeeded"), 5);
    assert!(is_finished(&cluster.get(JOBS, "sum")));

    let mut cluster = self::cluster(&json!({"parallelism": 4, "completions": null}));
    cluster.settle();
    assert_eq!(active(&cluster).len(), 4);
    edit(&mut cluster, |spec| spec["parallelism"] = 2.into());
    cluster.settle();
    assert_eq!(active(&cluster).len(), 2);
    assert_eq!(number(&cluster, "failed"), 0);
    let pod = active(&cluster)[0].clone();
    exit(&mut cluster, &pod, 0);
    cluster.settle();
    assert_eq!(active(&cluster).len(), 1);
    assert!(!is_finished(&cluster.get(JOBS, "sum")));
    let pod = active(&cluster)[0].clone();
    exit(&mut cluster, &pod, 1);
    cluster.settle();
    assert_eq!((number(&cluster, "succeeded"), number(&cluster, "failed")), (1, 1));
    assert!(is_finished(&cluster.get(JOBS, "sum")));
}

#[test]
fn each_index_once() {
    let mut cluster = cluster(&json!({"parallelism": 2, "completions": 4, "completionMode": "Indexed"}));
    cluster.settle();
    let pods = active(&cluster);
    let pod = pods.iter().find(|pod| indexes::any(pod) == Some(0)).unwrap();
    assert!(object::name(pod).starts_with("sum-0-"));
    assert_eq!(pod["spec"]["hostname"], "sum-0");
    assert_eq!(pod["metadata"]["labels"][indexes::INDEX], "0");
    assert_eq!(
        pod["spec"]["containers"][0]["env"],
        json!([{"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {
            "fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}}}])
    );
    let last = pods.iter().find(|pod| indexes::any(pod) == Some(1)).unwrap();
    exit(&mut cluster, last, 0);
    cluster.settle();
    assert_eq!(status(&cluster)["completedIndexes"], "1");
    let on: BTreeSet<_> = active(&cluster).iter().map(|pod| indexes::any(pod)).collect();
    assert_eq!(on, BTreeSet::from([Some(0), Some(2)]));
    for _ in 0..3 {
        let pod = active(&cluster)[0].clone();
        exit(&mut cluster, &pod, 0);
        cluster.settle();
    }
    assert_eq!(status(&cluster)["completedIndexes"], "0-3");
    assert_eq!(number(&cluster, "succeeded"), 4);
    assert!(is_finished(&cluster.get(JOBS, "sum")));
}

#[test]
fn a_limit_for_each_index() {
    let mut cluster = cluster(&json!({
        "parallelism": 2, "completions": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1,
        "backoffLimit": i32::MAX,
    }));
    cluster.settle();
    let of = |cluster: &Cluster, index: i64| {
        active(cluster).into_iter().find(|pod| indexes::any(pod) == Some(index)).unwrap()
    };
    let first = of(&cluster, 0);
    exit(&mut cluster, &first, 1);
    let again = cluster.settle().unwrap();
    assert_eq!(again.duration_since(cluster.now).as_secs(), 10);
    // The failed pod stays, as it tells how often the index has failed.
    assert!(is_tracked(&cluster.get(PODS, object::name(&first))));
    cluster.pass(10);
    cluster.settle();
    assert!(!is_tracked(&cluster.get(PODS, object::name(&first))));
    let second = of(&cluster, 0);
    assert_eq!(object::annotation(&second, "batch.kubernetes.io/job-index-failure-count"), Some("1"));
    exit(&mut cluster, &second, 1);
    cluster.settle();
    assert_eq!(status(&cluster)["failedIndexes"], "0");
    assert!(told(&cluster).is_empty());
    let other = of(&cluster, 1);
    exit(&mut cluster, &other, 0);
    cluster.settle();
    assert_eq!(
        told(&cluster),
        [condition("FailureTarget", "FailedIndexes"), condition("Failed", "FailedIndexes")]
    );
    assert_eq!((number(&cluster, "failed"), number(&cluster, "succeeded")), (2, 1));
}

#[test]
fn policies() {
    let rules = json!({"rules": [
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [4]}},
    ]});
    let mut cluster =
        cluster(&json!({"podFailurePolicy": rules, "parallelism": 2, "completions": 2, "backoffLimit": 0}));
    cluster.settle();
    let pod = active(&cluster)[0].clone();
    exit(&mut cluster, &pod, 3);
    cluster.settle();
    assert_eq!(number(&cluster, "failed"), 0);
    cluster.pass(60);
    cluster.settle();
    let pods = active(&cluster);
    assert_eq!(pods.len(), 2);
    exit(&mut cluster, &pods[0], 4);
    cluster.settle();
    assert_eq!(told(&cluster)[0], condition("FailureTarget", "PodFailurePolicy"));
    assert!(active(&cluster).is_empty());
    cluster.bury();
    cluster.settle();
    assert_eq!(told(&cluster)[1], condition("Failed", "PodFailurePolicy"));
    assert_eq!(number(&cluster, "failed"), 2);

    let content = json!({"rules": [{"succeededIndexes": "1"}]});
    let mut cluster = self::cluster(&json!({
        "successPolicy": content, "parallelism": 3, "completions": 3, "completionMode": "Indexed",
    }));
    cluster.settle();
    let pod = active(&cluster).into_iter().find(|pod| indexes::any(pod) == Some(1)).unwrap();
    exit(&mut cluster, &pod, 0);
    cluster.settle();
    cluster.bury();
    cluster.settle();
    assert_eq!(
        told(&cluster),
        [condition("SuccessCriteriaMet", "SuccessPolicy"), condition("Complete", "SuccessPolicy")]
    );
    assert_eq!((number(&cluster, "failed"), number(&cluster, "succeeded")), (0, 1));
}

#[test]
fn suspended_and_resumed() {
    let mut cluster = cluster(&json!({"parallelism": 2, "completions": 2, "activeDeadlineSeconds": 60}));
    let again = cluster.settle().unwrap();
    assert_eq!(again.duration_since(cluster.now).as_secs(), 60);
    edit(&mut cluster, |spec| spec["suspend"] = true.into());
    assert_eq!(cluster.settle(), None);
    cluster.bury();
    cluster.settle();
    assert!(cluster.pods().is_empty());
    assert_eq!(told(&cluster), [condition("Suspended", "JobSuspended")]);
    assert_eq!(status(&cluster).get("startTime"), None);
    cluster.pass(100);
    edit(&mut cluster, |spec| spec["suspend"] = false.into());
    cluster.settle();
    assert_eq!(active(&cluster).len(), 2);
    assert_eq!(status(&cluster)["startTime"], conditions::stamp(cluster.now));
    assert_eq!(number(&cluster, "failed"), 0);
    let events: Vec<String> = cluster.told().into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(events.iter().filter(|reason| *reason == "Suspended" || *reason == "Resumed").count(), 2);
    cluster.pass(60);
    cluster.settle();
    assert_eq!(
        told(&cluster),
        [condition("FailureTarget", "DeadlineExceeded"), condition("Failed", "DeadlineExceeded")]
    );
    assert_eq!(number(&cluster, "failed"), 2);
}

#[test]
fn a_pod_that_goes_is_replaced_now_or_when_it_is_gone() {
    for (policy, running) in [("TerminatingOrFailed", 1), ("Failed", 0)] {
        let mut cluster = cluster(&json!({"podReplacementPolicy": policy}));
        cluster.settle();
        let pod = active(&cluster)[0].clone();
        cluster.run(object::name(&pod), true);
        let delete = owner::delete(PODS, &pod);
        cluster.objects.apply(&delete, cluster.now).unwrap();
        cluster.settle();
        cluster.pass(20);
        cluster.settle();
        assert_eq!(active(&cluster).len(), running, "{policy}");
        assert_eq!(number(&cluster, "terminating"), 1);
        exit(&mut cluster, &pod, 143);
        cluster.settle();
        cluster.bury();
        cluster.pass(20);
        cluster.settle();
        assert_eq!(active(&cluster).len(), 1, "{policy}");
        assert_eq!(number(&cluster, "failed"), 1, "{policy}");
    }
}

#[test]
fn what_a_job_leaves_behind_may_go() {
    let mut cluster = cluster(&json!({"parallelism": 2, "completions": 2}));
    cluster.settle();
    cluster.objects.remove(JOBS, "ns", "sum");
    let key = ("ns".to_owned(), "sum".to_owned());
    let pod = cluster.pods()[0].clone();
    assert_eq!(Jobs.keys(&cluster.objects, PODS, None, Some(&pod)), std::slice::from_ref(&key));
    let outcome = cluster.ask(0, &key, None);
    cluster.apply(&outcome.mutations, usize::MAX);
    assert!(!cluster.pods().iter().any(|pod| is_tracked(pod)));

    let lone = json!({"metadata": {"name": "lone", "namespace": "ns", "finalizers": [FINALIZER, "other"]}});
    cluster.objects.put(PODS, lone.clone());
    let keys = Jobs.keys(&cluster.objects, PODS, None, Some(&lone));
    assert_eq!(keys, [("ns".to_owned(), "pod/lone".to_owned())]);
    let outcome = cluster.ask(0, &keys[0], None);
    cluster.apply(&outcome.mutations, usize::MAX);
    assert_eq!(cluster.get(PODS, "lone")["metadata"]["finalizers"], json!(["other"]));
}

/// A job that comes under the name of one that is gone does not keep its pods.
#[test]
fn what_an_earlier_job_of_the_name_leaves_behind_may_go() {
    for (spec, end) in [
        (json!({}), json!({})),
        (json!({}), json!({"conditions": [{"type": COMPLETE, "status": "True"}]})),
        (json!({"managedBy": "example.com/queue"}), json!({})),
    ] {
        let mut cluster = cluster(&json!({"parallelism": 2, "completions": 2}));
        cluster.settle();
        let old = cluster.pods();
        assert!(old.len() == 2 && old.iter().all(|pod| is_tracked(pod)));
        let mut job = (*cluster.objects.remove(JOBS, "ns", "sum").unwrap()).clone();
        job["metadata"]["uid"] = "j2".into();
        job["status"] = end;
        for (key, value) in spec.as_object().unwrap() {
            job["spec"][key] = value.clone();
        }
        cluster.objects.put(JOBS, job);
        let key = ("ns".to_owned(), "sum".to_owned());
        let outcome = cluster.ask(0, &key, None);
        cluster.apply(&outcome.mutations, usize::MAX);
        for pod in old {
            assert!(!is_tracked(&cluster.get(PODS, object::name(&pod))), "{spec}");
        }
        // Those of the new one are its own.
        let new = |pod: &Arc<Value>| object::controller(pod).is_some_and(|controller| controller.uid == "j2");
        assert!(cluster.pods().iter().filter(|pod| new(pod)).all(|pod| is_tracked(pod)));
    }
}

#[test]
fn the_business_of_others_is_left_alone() {
    let mut cluster = cluster(&json!({"managedBy": "example.com/queue"}));
    cluster.settle();
    assert!(cluster.pods().is_empty());
    assert_eq!(cluster.get(JOBS, "sum").get("status"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    /// Whatever happens to the pods, and wherever the controller is killed: each pod is counted once, no more run than
    /// may, and in the end the job is complete.
    #[test]
    fn each_pod_is_counted_once(
        completions in 1i64..6, parallelism in 1i64..5, indexed: bool, waits: bool,
        steps in proptest::collection::vec((0usize..10, any::<prop::sample::Index>(), 0usize..7), 10..160),
    ) {
        let mut cluster = cluster(&json!({
            "completions": completions, "parallelism": parallelism, "backoffLimit": 1_000_000,
            "completionMode": if indexed { "Indexed" } else { "NonIndexed" },
            "podReplacementPolicy": if waits { "Failed" } else { "TerminatingOrFailed" },
        }));
        let (mut succeeded, mut failed) = (BTreeSet::new(), BTreeSet::new());
        let key = ("ns".to_owned(), "sum".to_owned());
        let mut last = None;
        for (act, which, most) in steps {
            let pods = active(&cluster);
            let pod = (!pods.is_empty()).then(|| pods[which.index(pods.len())].clone());
            match (act, pod) {
                (0, _) => {
                    cluster.settle();
                    last = None;
                }
                (1..=3, _) => {
                    let outcome = cluster.ask(0, &key, None);
                    cluster.apply(&outcome.mutations, most);
                    last = Some(outcome);
                }
                // A decision that has been carried out in part is carried out again.
                (4, _) => drop(last.take().map(|outcome| cluster.apply(&outcome.mutations, usize::MAX))),
                (5, _) => {
                    cluster.bury();
                    cluster.pass(300);
                }
                (6, Some(pod)) => {
                    cluster.run(object::name(&pod), true);
                }
                (7, Some(pod)) => {
                    exit(&mut cluster, &pod, 0);
                    let name = object::uid(&pod).to_owned();
                    succeeded.insert(if indexed { indexes::any(&pod).unwrap().to_string() } else { name });
                }
                (8, Some(pod)) => {
                    exit(&mut cluster, &pod, 1);
                    failed.insert(object::uid(&pod).to_owned());
                }
                (9, Some(pod)) => {
                    let delete = owner::delete(PODS, &pod);
                    cluster.objects.apply(&delete, cluster.now).unwrap();
                    if waits {
                        exit(&mut cluster, &pod, 137);
                    }
                    failed.insert(object::uid(&pod).to_owned());
                }
                _ => {}
            }
            prop_assert!(active(&cluster).len() <= usize::try_from(parallelism).unwrap());
            let of: Vec<_> = active(&cluster).iter().filter_map(|pod| indexes::any(pod)).collect();
            prop_assert_eq!(of.iter().collect::<BTreeSet<_>>().len(), of.len());
        }
        for _ in 0..100 {
            cluster.react();
            prop_assert!(!cluster.round().0, "a change was not understood");
            cluster.bury();
            for pod in active(&cluster) {
                exit(&mut cluster, &pod, 0);
                let name = object::uid(&pod).to_owned();
                succeeded.insert(if indexed { indexes::any(&pod).unwrap().to_string() } else { name });
            }
            cluster.pass(700);
        }
        let job = cluster.get(JOBS, "sum");
        prop_assert!(conditions::is_true(&job["status"], COMPLETE), "{}", job["status"]);
        prop_assert_eq!(number(&cluster, "failed"), i64::try_from(failed.len()).unwrap());
        prop_assert_eq!(number(&cluster, "succeeded"), i64::try_from(succeeded.len()).unwrap());
        prop_assert!(!cluster.pods().iter().any(|pod| is_tracked(pod)));
    }
}
