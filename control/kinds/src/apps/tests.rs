//! Defaults, rules, strategies and rows of the workloads.

use jiff::Timestamp;
use proto_kube::field::Errors;
use proto_kube::resource;
use serde_json::{Value, json};

use crate::{Kind, meta};

fn kind(plural: &str) -> &'static dyn Kind {
    crate::of(resource::find("apps", "v1", plural).unwrap())
}

fn texts(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// A workload that is right, with some members of its spec changed.
fn workload(plural: &str, change: Value) -> Value {
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}, {"name": "log", "image": "log:1"}]},
    });
    let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
    for (key, value) in change.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let mut object = json!({"metadata": {"name": "web", "namespace": "ns", "generation": 1}, "spec": spec});
    kind(plural).default(&mut object);
    object
}

fn faults(plural: &str, change: Value) -> Vec<String> {
    texts(kind(plural).validate(&workload(plural, change)))
}

const ALL: [&str; 4] = ["deployments", "replicasets", "daemonsets", "statefulsets"];

#[test]
fn right_ones_are_right() {
    for plural in ALL {
        assert_eq!(faults(plural, json!({})), Vec::<String>::new(), "{plural}");
    }
}

#[test]
fn defaults() {
    let spec = |plural, path: &str| workload(plural, json!({})).pointer(&format!("/spec/{path}")).cloned();
    for (plural, path, value) in [
        ("deployments", "replicas", json!(1)),
        (
            "deployments",
            "strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
        ),
        ("deployments", "revisionHistoryLimit", json!(10)),
        ("deployments", "progressDeadlineSeconds", json!(600)),
        ("replicasets", "replicas", json!(1)),
        (
            "daemonsets",
            "updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        ),
        ("statefulsets", "podManagementPolicy", json!("OrderedReady")),
        (
            "statefulsets",
            "updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
        ),
        (
            "statefulsets",
            "persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
        ),
        ("statefulsets", "template/spec/restartPolicy", json!("Always")),
    ] {
        assert_eq!(spec(plural, path), Some(value), "{plural} {path}");
    }
    let claims = workload(
        "statefulsets",
        json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}),
    );
    assert_eq!(
        claims["spec"]["volumeClaimTemplates"][0],
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}})
    );
    let recreate = workload("deployments", json!({"strategy": {"type": "Recreate"}}));
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn selectors_must_fit() {
    let other = json!({"selector": {"matchLabels": {"app": "db"}}});
    let fit = "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`";
    for plural in ALL {
        assert_eq!(faults(plural, other.clone()), [fit], "{plural}");
    }
    assert_eq!(faults("deployments", json!({"selector": null})), ["spec.selector: Required value", fit]);
    assert_eq!(faults("daemonsets", json!({"selector": null})), [fit]);
    for (plural, word) in [
        ("deployments", "deployment"),
        ("replicasets", "deployment"),
        ("daemonsets", "daemonset"),
        ("statefulsets", "statefulset"),
    ] {
        let text = format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {word}");
        assert_eq!(faults(plural, json!({"selector": {}})), [text]);
    }
    let wrong = json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Is"}]}});
    assert_eq!(
        faults("deployments", wrong),
        [
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator",
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Is\"}]}: invalid label selector",
        ]
    );
}

#[test]
fn selectors_stay() {
    for plural in ["deployments", "replicasets", "daemonsets"] {
        let old = workload(plural, json!({}));
        let mut new = old.clone();
        new["spec"]["selector"]["matchLabels"] = json!({"app": "web", "b": "c"});
        new["spec"]["template"]["metadata"]["labels"]["b"] = "c".into();
        let text = "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"b\":\"c\"}}: field is immutable";
        assert_eq!(texts(kind(plural).validate_update(&new, &old)), [text], "{plural}");
    }
}

#[test]
fn deployments() {
    let rolling = |missing: Value, extra: Value| json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": missing, "maxSurge": extra}}});
    let at = "spec.strategy.rollingUpdate.maxUnavailable: Invalid value:";
    for (change, expected) in [
        (
            json!({"replicas": -1}),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0".to_owned(),
        ),
        (rolling(json!(0), json!(0)), format!("{at} 0: may not be 0 when `maxSurge` is 0")),
        (rolling(json!("0%"), json!("0%")), format!("{at} \"0%\": may not be 0 when `maxSurge` is 0")),
        (rolling(json!("101%"), json!(0)), format!("{at} \"101%\": must not be greater than 100%")),
        (
            rolling(json!("1x"), json!(1)),
            format!(
                "{at} \"1x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
            ),
        ),
        (
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
                .to_owned(),
        ),
        (
            json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5}),
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds".to_owned(),
        ),
    ] {
        assert_eq!(faults("deployments", change), [expected]);
    }
    let unknown = faults("deployments", json!({"strategy": {"type": "Blue"}}));
    assert_eq!(
        unknown,
        [
            "spec.strategy: Unsupported value: {\"type\":\"Blue\"}: supported values: \"Recreate\", \"RollingUpdate\""
        ]
    );
}

#[test]
fn pods_run_for_ever() {
    for (plural, word) in [
        ("deployments", "ReplicaSet"),
        ("replicasets", "ReplicaSet"),
        ("daemonsets", "DaemonSet"),
        ("statefulsets", "StatefulSet"),
    ] {
        let mut object = workload(plural, json!({}));
        object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
        object["spec"]["template"]["spec"]["activeDeadlineSeconds"] = 5.into();
        assert_eq!(
            texts(kind(plural).validate(&object)),
            [
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"".to_owned(),
                format!("spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {word} is not Supported"),
            ],
            "{plural}"
        );
    }
}

#[test]
fn daemon_sets() {
    let rolling = |missing: Value, extra: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": missing, "maxSurge": extra}}});
    let at = "spec.updateStrategy.rollingUpdate";
    assert_eq!(
        faults("daemonsets", rolling(json!(1), json!(1))),
        [format!("{at}.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero")]
    );
    assert_eq!(
        faults("daemonsets", rolling(json!(0), json!(0))),
        [format!("{at}.maxUnavailable: Required value: cannot be 0 when maxSurge is 0")]
    );
    let annotation = "/metadata/annotations/deprecated.daemonset.template.generation";
    let mut old = workload("daemonsets", json!({}));
    assert_eq!(old.pointer(annotation), Some(&json!("0")), "before the object is made");
    kind("daemonsets").prepare_create(&mut old);
    assert_eq!(old.pointer(annotation), Some(&json!("1")));
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    kind("daemonsets").prepare_update(&mut new, &old);
    assert_eq!(new.pointer(annotation), Some(&json!("2")));
}

#[test]
fn stateful_sets() {
    let set = resource::find("apps", "v1", "statefulsets").unwrap();
    let old = workload("statefulsets", json!({"serviceName": "web"}));
    let update = |change: Value| {
        let mut new = old.clone();
        for (key, value) in change.as_object().into_iter().flatten() {
            new["spec"][key] = value.clone();
        }
        texts(crate::of(set).validate_update(&new, &old))
    };
    assert_eq!(
        update(json!({"replicas": 5, "minReadySeconds": 1, "revisionHistoryLimit": 2})),
        Vec::<String>::new()
    );
    let text = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    assert_eq!(update(json!({"serviceName": "other"})), [text]);
    assert_eq!(update(json!({"podManagementPolicy": "Parallel"})), [text]);
    assert_eq!(
        faults(
            "statefulsets",
            json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}, "podManagementPolicy": "x"})
        ),
        [
            "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
        ]
    );
    // A claim is a volume of the pods.
    let mut with_claim = workload(
        "statefulsets",
        json!({"volumeClaimTemplates": [{"metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}),
    );
    with_claim["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    assert_eq!(texts(crate::of(set).validate(&with_claim)), Vec::<String>::new());
}

#[test]
fn statuses() {
    let status = |plural: &str, status: Value, old: Value| {
        texts(kind(plural).validate_status(&json!({"status": status}), &json!({"status": old})))
    };
    assert_eq!(
        status(
            "deployments",
            json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3, "collisionCount": 1}),
            json!({"collisionCount": 2})
        ),
        [
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        ]
    );
    assert_eq!(
        status("replicasets", json!({"replicas": -1}), json!({})),
        [
            "status.replicas: Invalid value: -1: must be greater than or equal to 0",
            "status.fullyLabeledReplicas: Invalid value: 0: cannot be greater than status.replicas",
            "status.readyReplicas: Invalid value: 0: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 0: cannot be greater than status.replicas",
        ]
    );
    assert_eq!(
        status("daemonsets", json!({"numberReady": -1}), json!({})),
        ["status.numberReady: Invalid value: -1: must be greater than or equal to 0"]
    );
    assert_eq!(
        status("statefulsets", json!({"replicas": 3, "readyReplicas": 1, "availableReplicas": 2}), json!({})),
        ["status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas"]
    );
}

#[test]
fn strategies() {
    let deployment = resource::find("apps", "v1", "deployments").unwrap();
    let mut object = workload("deployments", json!({}));
    object["status"] = json!({"replicas": 5});
    meta::prepare_create(deployment, &mut object, "u", 1, Timestamp::UNIX_EPOCH);
    assert_eq!((&object["status"], &object["metadata"]["generation"]), (&json!({}), &json!(1)));

    let generation = |subresource: &str, change: &dyn Fn(&mut Value)| {
        let mut new = object.clone();
        change(&mut new);
        meta::prepare_update(deployment, subresource, &mut new, &object);
        (new["metadata"]["generation"].clone(), new)
    };
    assert_eq!(generation("", &|new| new["spec"]["replicas"] = 2.into()).0, 2);
    assert_eq!(generation("", &|new| new["metadata"]["annotations"] = json!({"a": "b"})).0, 2);
    assert_eq!(generation("", &|new| new["metadata"]["labels"] = json!({"a": "b"})).0, 1);
    let (same, new) = generation("", &|new| new["status"] = json!({"replicas": 2}));
    assert_eq!((same, &new["status"]), (json!(1), &json!({})));
    let (same, new) = generation("status", &|new| {
        new["status"] = json!({"replicas": 2});
        new["spec"]["replicas"] = 7.into();
        new["metadata"]["labels"] = json!({"a": "b"});
    });
    assert_eq!((same, &new["status"], &new["spec"]), (json!(1), &json!({"replicas": 2}), &object["spec"]));
    assert_eq!(new["metadata"]["labels"], Value::Null);
}

#[test]
fn warnings() {
    let mut object = workload("deployments", json!({}));
    assert_eq!(kind("deployments").warnings(&object, None), Vec::<String>::new());
    object["metadata"]["name"] = "a.b".into();
    let found = kind("deployments").warnings(&object, None);
    assert!(found[0].starts_with("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"), "{found:?}");
    assert_eq!(kind("deployments").warnings(&object, Some(&object)), Vec::<String>::new());
    let claim = json!({"metadata": {"name": "a"}, "spec": {"resources": {"requests": {"storage": "500m"}}}});
    let set = workload("statefulsets", json!({"revisionHistoryLimit": -1, "volumeClaimTemplates": [claim]}));
    assert_eq!(
        kind("statefulsets").warnings(&set, None),
        [
            "spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value \"500m\" is invalid, must be an integer",
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
        ]
    );
}

#[test]
fn scales() {
    for plural in ["deployments", "replicasets", "statefulsets"] {
        let mut object = workload(plural, json!({"replicas": 3}));
        object["status"] = json!({"replicas": 2});
        let scale = kind(plural).scale(&object).unwrap();
        assert_eq!(scale["spec"], json!({"replicas": 3}));
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
        assert_eq!(scale["metadata"]["name"], "web");
    }
    assert_eq!(kind("daemonsets").scale(&workload("daemonsets", json!({}))), None);
}

#[test]
fn rows() {
    let row = |plural: &str, status: Value| {
        let mut object = workload(plural, json!({"replicas": 3}));
        object["metadata"]["creationTimestamp"] = "2026-11-21T07:00:00Z".into();
        object["status"] = status;
        let cells = kind(plural).cells(&object, "2026-11-21T07:05:00Z".parse::<Timestamp>().unwrap());
        assert_eq!(cells.len(), kind(plural).columns().len());
        Value::from(cells)
    };
    let header = |plural: &str| {
        let columns = kind(plural).columns().iter();
        columns
            .map(|c| format!("{}{}", c.name, if c.priority == 0 { "" } else { "*" }))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(header("deployments"), "Name Ready Up-to-date Available Age Containers* Images* Selector*");
    assert_eq!(
        row("deployments", json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1})),
        json!(["web", "1/3", 2, 1, "5m", "web,log", "web:1,log:1", "app=web"])
    );
    assert_eq!(header("replicasets"), "Name Desired Current Ready Age Containers* Images* Selector*");
    assert_eq!(
        row("replicasets", json!({"replicas": 2})),
        json!(["web", 3, 2, 0, "5m", "web,log", "web:1,log:1", "app=web"])
    );
    assert_eq!(header("statefulsets"), "Name Ready Age Containers* Images*");
    assert_eq!(
        row("statefulsets", json!({"readyReplicas": 2})),
        json!(["web", "2/3", "5m", "web,log", "web:1,log:1"])
    );
    assert_eq!(
        header("daemonsets"),
        "Name Desired Current Ready Up-to-date Available Node Selector Age Containers* Images* Selector*"
    );
    assert_eq!(
        row("daemonsets", json!({"desiredNumberScheduled": 2, "numberReady": 1})),
        json!(["web", 2, 0, 1, 0, 0, "<none>", "5m", "web,log", "web:1,log:1", "app=web"])
    );
}

#[test]
fn controller_revisions() {
    let revision = kind("controllerrevisions");
    assert_eq!(texts(revision.validate(&json!({"data": {}, "revision": 1}))), Vec::<String>::new());
    assert_eq!(
        texts(revision.validate(&json!({"revision": -1}))),
        [
            "revision: Invalid value: -1: must be greater than or equal to 0",
            "data: Required value: data is mandatory"
        ]
    );
    assert_eq!(
        texts(revision.validate(&json!({"data": []}))),
        ["data: Required value: data must be a valid JSON object"]
    );
    assert_eq!(
        texts(revision.validate_update(&json!({"data": {"a": 1}}), &json!({"data": {}}))),
        ["data: Invalid value: {\"a\":1}: field is immutable"]
    );
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true});
    let object = json!({"metadata": {"name": "web-1", "ownerReferences": [owner]}, "revision": 1});
    let cells = Value::from(revision.cells(&object, Timestamp::UNIX_EPOCH));
    assert_eq!(cells, json!(["web-1", "statefulset.apps/web", 1, "<unknown>"]));
}
