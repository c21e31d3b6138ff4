//! A pod's row in each of its states.

use super::*;

/// The `Ready`, `Status` and `Restarts` of a pod with a status.
fn shown(change: Value) -> [String; 3] {
    let made = with(&created(&pod()), &change);
    let cells = cells(&made);
    [cells[1].clone(), cells[2].clone(), cells[3].clone()]
}

fn status(states: Value) -> Value {
    json!({"status": {"phase": "Running", "containerStatuses": states}})
}

#[test]
fn what_containers_do() {
    let last = json!({"terminated": {"finishedAt": "2026-11-21T09:58:00Z"}});
    for (change, expected) in [
        (json!({}), ["0/1", "Pending", "0"]),
        (status(json!([{"name": "main", "ready": true, "state": {"running": {}}}])), ["1/1", "Running", "0"]),
        (
            status(
                json!([{"name": "main", "restartCount": 3, "lastState": last, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
            ),
            ["0/1", "CrashLoopBackOff", "3 (2m ago)"],
        ),
        (
            status(json!([{"name": "main", "state": {"terminated": {"exitCode": 2}}}])),
            ["0/1", "ExitCode:2", "0"],
        ),
        (status(json!([{"name": "main", "state": {"terminated": {"signal": 9}}}])), ["0/1", "Signal:9", "0"]),
        (
            status(json!([{"name": "main", "state": {"terminated": {"reason": "OOMKilled"}}}])),
            ["0/1", "OOMKilled", "0"],
        ),
        (json!({"status": {"phase": "Failed", "reason": "Evicted"}}), ["0/1", "Evicted", "0"]),
        (json!({"metadata": {"deletionTimestamp": "2026-11-21T10:00:00Z"}}), ["0/1", "Terminating", "0"]),
        (
            json!({"metadata": {"deletionTimestamp": "2026-11-21T10:00:00Z"}, "status": {"reason": "NodeLost"}}),
            ["0/1", "Unknown", "0"],
        ),
    ] {
        assert_eq!(shown(change.clone()), expected, "{change}");
    }
}

#[test]
fn what_runs_before() {
    let init = |states: Value| {
        json!({
            "spec": {"initContainers": [{"name": "a"}, {"name": "side", "restartPolicy": "Always"}]},
            "status": {"initContainerStatuses": states},
        })
    };
    let done = json!({"name": "a", "state": {"terminated": {"exitCode": 0}}});
    for (states, expected) in [
        (json!([{"name": "a", "state": {"running": {}}}]), ["0/2", "Init:0/2", "0"]),
        (json!([{"name": "a", "state": {"terminated": {"exitCode": 1}}}]), ["0/2", "Init:ExitCode:1", "0"]),
        (
            json!([{"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}]),
            ["0/2", "Init:ErrImagePull", "0"],
        ),
        (
            json!([done, {"name": "side", "state": {"waiting": {"reason": "PodInitializing"}}}]),
            ["0/2", "Init:1/2", "0"],
        ),
        (
            json!([done, {"name": "side", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}]),
            ["1/2", "Pending", "1"],
        ),
    ] {
        assert_eq!(shown(init(states.clone())), expected, "{states}");
    }
}

#[test]
fn wide_cells() {
    let made = with(
        &created(&pod()),
        &json!({
            "spec": {"nodeName": "n1", "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]},
            "status": {"podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "x", "status": "True"}]},
        }),
    );
    assert_eq!(cells(&made)[4..], ["0s", "10.0.0.1", "n1", "<none>", "1/2"]);
    let kind = crate::of(crate::cases::of(&made));
    let wide: Vec<&str> = kind.columns().iter().filter(|c| c.priority == 1).map(|c| c.name).collect();
    assert_eq!(wide, ["IP", "Node", "Nominated Node", "Readiness Gates"]);
}
