//! The STATUS, READY and RESTARTS columns against what kubectl prints for the same objects.

use serde_json::json;

use super::*;

#[test]
fn status_column() {
    let check = |pod: Value, expected: &str| assert_eq!(summary(&pod), expected, "{pod}");
    let containers = |states: Value| json!({ "status": { "phase": "Running", "containerStatuses": states } });
    check(json!({ "status": { "phase": "Pending" } }), "Pending");
    check(containers(json!([{ "state": { "running": {} } }])), "Running");
    check(
        containers(json!([{ "state": { "waiting": { "reason": "CrashLoopBackOff" } } }])),
        "CrashLoopBackOff",
    );
    check(containers(json!([{ "state": { "terminated": { "exitCode": 3 } } }])), "ExitCode:3");
    check(
        containers(
            json!([{ "state": { "terminated": { "reason": "Completed", "exitCode": 0 } } }, { "state": { "running": {} } }]),
        ),
        "Running",
    );
    check(
        json!({ "metadata": { "deletionTimestamp": "x" }, "status": { "phase": "Running" } }),
        "Terminating",
    );
    check(json!({ "status": { "phase": "Failed", "reason": "Evicted" } }), "Evicted");
    check(
        json!({ "spec": { "initContainers": [{ "name": "a" }, { "name": "b" }] }, "status": { "phase": "Pending", "initContainerStatuses": [
            { "name": "a", "state": { "terminated": { "exitCode": 0 } } }, { "name": "b", "state": { "running": {} } } ] } }),
        "Init:1/2",
    );
    check(
        json!({ "spec": { "initContainers": [{ "name": "a" }] }, "status": { "phase": "Pending", "initContainerStatuses": [
            { "name": "a", "state": { "waiting": { "reason": "ErrImagePull" } } } ] } }),
        "Init:ErrImagePull",
    );
}

#[test]
fn ready_counts_sidecars() {
    let pod = json!({
        "spec": { "initContainers": [{ "name": "setup" }, { "name": "side", "restartPolicy": "Always" }], "containers": [{ "name": "app" }] },
        "status": {
            "initContainerStatuses": [{ "name": "setup", "ready": true, "restartCount": 1 }, { "name": "side", "ready": true }],
            "containerStatuses": [{ "name": "app", "ready": false, "restartCount": 2 }],
        },
    });
    assert_eq!((ready(&pod), restarts(&pod)), ("1/2".into(), "3".into()));
}

#[test]
fn images_without_tags_show_their_digest() {
    let images =
        [json!({ "id": "sha256:0123456789abcdef", "tags": [], "digests": ["r/x@sha256:1"], "size": 1000 })];
    assert_eq!(image_table(&images).1, [["r/x@sha256:1", "0123456789abc", "1kB"]]);
}
