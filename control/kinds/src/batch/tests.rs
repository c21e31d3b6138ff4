//! Defaults, rules, strategies and rows of jobs and cron jobs.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::resource;
use serde_json::{Value, json};

use super::cron_job::CronJob;
use super::job::Job;
use crate::{Kind, Propagation, meta};

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "work", "image": "work:1"}]}})
}

/// A job as it is stored, with some members of its spec changed before it is made.
fn job(change: Value) -> Value {
    let mut spec = json!({"template": template()});
    for (key, value) in change.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let mut object = json!({"metadata": {"name": "work", "namespace": "ns"}, "spec": spec});
    Job.default(&mut object);
    let resource = resource::find("batch", "v1", "jobs").unwrap();
    meta::prepare_create(resource, &mut object, "uid-1", 1, Timestamp::UNIX_EPOCH);
    object
}

fn faults(change: Value) -> Vec<String> {
    texts(Job.validate(&job(change)))
}

#[test]
fn a_job_is_filled_in() {
    let object = job(json!({}));
    assert_eq!(texts(Job.validate(&object)), Vec::<String>::new());
    let spec = &object["spec"];
    for (member, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("manualSelector", json!(false)),
        ("selector", json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "uid-1"}})),
    ] {
        assert_eq!(spec[member], value, "{member}");
    }
    let labels = json!({
        "batch.kubernetes.io/controller-uid": "uid-1", "batch.kubernetes.io/job-name": "work",
        "controller-uid": "uid-1", "job-name": "work",
    });
    assert_eq!(spec["template"]["metadata"]["labels"], labels);
    assert_eq!(object["metadata"]["labels"], labels);
    assert_eq!(job(json!({"parallelism": 2}))["spec"]["completions"], Value::Null);
    assert_eq!(job(json!({"backoffLimitPerIndex": 1}))["spec"]["backoffLimit"], i32::MAX);
    assert_eq!(Job.default_propagation(), Propagation::Orphan);
}

#[test]
fn the_selector_of_a_job_is_made_up() {
    let mut taken = template();
    taken["metadata"] = json!({"labels": {"controller-uid": "other"}});
    let found = faults(json!({"template": taken}));
    assert!(
        found[0].starts_with("spec.template.metadata.labels[controller-uid]: Invalid value:"),
        "{found:?}"
    );
    assert!(found[0].ends_with("must be 'uid-1'"), "{found:?}");
    let found = faults(json!({"selector": {"matchLabels": {"a": "b"}}}));
    assert!(found[0].ends_with("`selector` not auto-generated"), "{found:?}");
    let mut own = template();
    own["metadata"] = json!({"labels": {"a": "b"}});
    let manual = json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "template": own});
    assert_eq!(faults(manual), Vec::<String>::new());
    assert_eq!(
        faults(json!({"manualSelector": true})),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
        ]
    );
}

#[test]
fn numbers_of_a_job() {
    for (change, expected) in [
        (
            json!({"completions": -1}),
            "spec.completions: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"completionMode": "Indexed", "parallelism": 1}),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            json!({"completionMode": "x"}),
            "spec.completionMode: Unsupported value: \"x\": supported values: \"NonIndexed\", \"Indexed\"",
        ),
        (
            json!({"completionMode": "Indexed", "completions": 2, "parallelism": 100_001}),
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
        ),
        (
            json!({"backoffLimitPerIndex": 1}),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
        (
            json!({"completionMode": "Indexed", "completions": 2, "maxFailedIndexes": 1}),
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ),
        (
            json!({"completionMode": "Indexed", "completions": 100_001, "backoffLimitPerIndex": 1}),
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
        ),
        (
            json!({"managedBy": "x"}),
            "spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (
            json!({"podReplacementPolicy": "x"}),
            "spec.podReplacementPolicy: Unsupported value: \"x\": supported values: \"Failed\", \"TerminatingOrFailed\"",
        ),
    ] {
        assert_eq!(faults(change), [expected]);
    }
    let mut object = job(json!({"completionMode": "Indexed", "completions": 10}));
    object["metadata"]["name"] = "a".repeat(62).into();
    let found = texts(Job.validate(&object));
    assert!(
        found.iter().any(|f| f.contains("will not able to create pod with invalid DNS label: aaa")),
        "{found:?}"
    );
}

#[test]
fn restarts_of_a_job() {
    let with = |policy: Value| {
        let mut template = template();
        template["spec"]["restartPolicy"] = policy;
        faults(json!({"template": template}))
    };
    let at = "spec.template.spec.restartPolicy";
    let required = format!("{at}: Required value: valid values: \"OnFailure\", \"Never\"");
    assert_eq!(with(json!("Always")), std::slice::from_ref(&required));
    assert_eq!(with(Value::Null), [required]);
    assert_eq!(with(json!("OnFailure")), Vec::<String>::new());
    assert!(
        with(json!("x"))
            .contains(&format!("{at}: Unsupported value: \"x\": supported values: \"OnFailure\", \"Never\""))
    );
}

#[test]
fn policies_of_a_job() {
    let failure = |rule: Value| faults(json!({"podFailurePolicy": {"rules": [rule]}}));
    let at = "spec.podFailurePolicy.rules[0]";
    assert_eq!(
        failure(json!({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1, 2]}})),
        Vec::<String>::new()
    );
    assert_eq!(
        failure(
            json!({"onExitCodes": {"operator": "In", "values": [2, 0, 2], "containerName": "x"}, "onPodConditions": [{"type": "A"}]})
        ),
        [
            format!(
                "{at}.action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"
            ),
            format!(
                "{at}.onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template"
            ),
            format!("{at}.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator"),
            format!("{at}.onExitCodes.values[2]: Duplicate value: 2"),
            format!("{at}.onExitCodes.values: Invalid value: [2,0,2]: must be ordered"),
            format!("{at}: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported"),
        ]
    );
    assert_eq!(
        failure(json!({"action": "FailIndex"})),
        [
            format!("{at}.action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set"),
            format!("{at}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
        ]
    );
    let success = |rule: Value| {
        faults(json!({"completionMode": "Indexed", "completions": 3, "successPolicy": {"rules": [rule]}}))
    };
    let at = "spec.successPolicy.rules[0]";
    assert_eq!(success(json!({"succeededIndexes": "0-1", "succeededCount": 2})), Vec::<String>::new());
    assert_eq!(
        success(json!({})),
        [format!(
            "{at}: Required value: at least one of succeededCount or succeededIndexes must be specified"
        )]
    );
    assert_eq!(
        success(json!({"succeededIndexes": "0,5"})),
        [format!(
            "{at}.succeededIndexes: Invalid value: \"0,5\": error parsing succeededIndexes: too large index: \"5\""
        )]
    );
    assert_eq!(
        success(json!({"succeededIndexes": "0-1", "succeededCount": 3})),
        [format!(
            "{at}.succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"
        )]
    );
}

#[test]
fn a_job_hardly_changes() {
    let update = |old: &Value, change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        let immutable = |text: String| text.split(": ").next().unwrap_or_default().to_owned();
        texts(Job.validate_update(&new, old)).into_iter().map(immutable).collect::<Vec<_>>()
    };
    let old = job(json!({}));
    assert_eq!(update(&old, &|new| new["spec"]["parallelism"] = 5.into()), Vec::<String>::new());
    assert_eq!(update(&old, &|new| new["spec"]["completions"] = 5.into()), ["spec.completions"]);
    assert_eq!(
        update(&old, &|new| new["spec"]["completionMode"] = "x".into()),
        ["spec.completionMode", "spec.completionMode"]
    );
    let image = |new: &mut Value| new["spec"]["template"]["spec"]["containers"][0]["image"] = "b".into();
    assert_eq!(update(&old, &image), ["spec.template"]);
    let move_it = |new: &mut Value| {
        let spec = &mut new["spec"]["template"]["spec"];
        spec["nodeSelector"] = json!({"a": "b"});
        spec["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}});
    };
    assert_eq!(update(&old, &move_it), ["spec.template"]);
    let suspended = job(json!({"suspend": true}));
    assert_eq!(update(&suspended, &move_it), Vec::<String>::new());
    assert_eq!(update(&suspended, &image), ["spec.template.spec"]);
    let label = |new: &mut Value| new["spec"]["template"]["metadata"]["labels"]["a"] = "b".into();
    assert_eq!(update(&suspended, &label), Vec::<String>::new());
    assert_eq!(update(&old, &label), ["spec.template"]);
    let mut started = suspended.clone();
    started["status"] = json!({"startTime": "2026-11-21T07:00:00Z"});
    assert_eq!(update(&started, &move_it), ["spec.template"]);
    let indexed = job(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}));
    assert_eq!(update(&indexed, &|new| new["spec"]["completions"] = 3.into()), ["spec.completions"]);
    assert_eq!(
        update(&indexed, &|new| {
            new["spec"]["completions"] = 3.into();
            new["spec"]["parallelism"] = 3.into();
        }),
        Vec::<String>::new()
    );
}

#[test]
fn the_status_of_a_job() {
    let status = |old: Value, new: Value| {
        let with = |status: Value| {
            let mut object = job(json!({}));
            object["status"] = status;
            object
        };
        texts(Job.validate_status(&with(new), &with(old)))
    };
    let is =
        |kinds: &[&str]| kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect::<Value>();
    let (start, end) = ("2026-11-21T07:00:00Z", "2026-11-21T07:01:00Z");
    let done = json!({"startTime": start, "completionTime": end, "succeeded": 1, "conditions": is(&["SuccessCriteriaMet", "Complete"])});
    let running = json!({"startTime": start, "active": 1});
    assert_eq!(status(running.clone(), done.clone()), Vec::<String>::new());
    assert_eq!(
        status(
            running.clone(),
            json!({"startTime": start, "active": 1, "conditions": is(&["Complete", "Failed"])})
        ),
        [
            "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ]
    );
    assert_eq!(
        status(done, json!({"startTime": start})),
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ]
    );
    assert_eq!(
        status(running, json!({"active": 1, "ready": 2})),
        [
            "status.startTime: Invalid value: null: field is immutable for unsuspended job once set",
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
        ]
    );
}

#[test]
fn rows_of_jobs() {
    let row = |spec: Value, status: Value| {
        let mut object = job(spec);
        object["metadata"]["creationTimestamp"] = "2026-11-21T07:00:00Z".into();
        object["status"] = status;
        let cells = Job.cells(&object, "2026-11-21T07:05:00Z".parse().unwrap());
        assert_eq!(cells.len(), Job.columns().len());
        Value::from(cells[..5].to_vec())
    };
    let start = "2026-11-21T07:00:00Z";
    assert_eq!(row(json!({}), json!({})), json!(["work", "Running", "0/1", "", "5m"]));
    assert_eq!(
        row(json!({"parallelism": 3}), json!({"startTime": start, "succeeded": 1})),
        json!(["work", "Running", "1/1 of 3", "5m", "5m"])
    );
    let complete = json!({"startTime": start, "completionTime": "2026-11-21T07:00:07Z", "succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]});
    assert_eq!(row(json!({}), complete), json!(["work", "Complete", "1/1", "7s", "5m"]));
    assert_eq!(
        row(json!({}), json!({"conditions": [{"type": "Suspended", "status": "True"}]})),
        json!(["work", "Suspended", "0/1", "", "5m"])
    );
}

fn cron_job(change: Value) -> Value {
    let mut spec = json!({"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template()}}});
    for (key, value) in change.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let mut object = json!({"metadata": {"name": "often"}, "spec": spec});
    CronJob.default(&mut object);
    object
}

#[test]
fn cron_jobs() {
    let object = cron_job(json!({}));
    for (member, value) in [
        ("concurrencyPolicy", json!("Allow")),
        ("suspend", json!(false)),
        ("successfulJobsHistoryLimit", json!(3)),
        ("failedJobsHistoryLimit", json!(1)),
    ] {
        assert_eq!(object["spec"][member], value, "{member}");
    }
    assert_eq!(texts(CronJob.validate(&object)), Vec::<String>::new());
    let job_template = json!({"spec": {"manualSelector": true, "selector": {}, "template": template()}});
    for (change, expected) in [
        (json!({"schedule": ""}), &["spec.schedule: Required value"][..]),
        (
            json!({"schedule": "61 * * * *"}),
            &["spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"],
        ),
        (
            json!({"schedule": "TZ=UTC * * * * *"}),
            &[
                "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ],
        ),
        (
            json!({"timeZone": "Mars/X"}),
            &["spec.timeZone: Invalid value: \"Mars/X\": unknown time zone Mars/X"],
        ),
        (
            json!({"concurrencyPolicy": "x"}),
            &[
                "spec.concurrencyPolicy: Unsupported value: \"x\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ],
        ),
        (
            json!({"jobTemplate": job_template, "failedJobsHistoryLimit": -1}),
            &[
                "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
                "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
    ] {
        assert_eq!(texts(CronJob.validate(&cron_job(change))), expected);
    }
    let mut long = cron_job(json!({}));
    long["metadata"]["name"] = "a".repeat(53).into();
    assert!(texts(CronJob.validate(&long))[0].ends_with("must be no more than 52 characters"));
    assert_eq!(texts(CronJob.validate_update(&long, &long)), Vec::<String>::new());
    let zoned = cron_job(json!({"schedule": "TZ=UTC * * * * *"}));
    assert_eq!(texts(CronJob.validate_update(&zoned, &zoned)), Vec::<String>::new());
    assert_eq!(CronJob.warnings(&zoned, Some(&zoned)).len(), 1);
}

#[test]
fn rows_of_cron_jobs() {
    let mut object = cron_job(json!({"timeZone": "UTC"}));
    object["status"] = json!({"active": [{}], "lastScheduleTime": "2026-11-21T07:00:00Z"});
    let cells = CronJob.cells(&object, "2026-11-21T07:05:00Z".parse().unwrap());
    assert_eq!(cells.len(), CronJob.columns().len());
    assert_eq!(
        Value::from(cells),
        json!(["often", "*/5 * * * *", "UTC", "False", 1, "5m", "<unknown>", "work", "work:1", "<none>"])
    );
}
