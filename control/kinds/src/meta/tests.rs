//! The metadata of objects on their way through a request.

use serde_json::{Value, json};

use super::*;
use crate::cases::{check_create, check_update, create, created, now, update, with};
use crate::deletion::{self, Deletion};

fn map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}})
}

#[test]
fn a_new_object_has_what_the_server_sets() {
    let sent = json!({"metadata": {
        "uid": "mine", "resourceVersion": "5", "selfLink": "/x", "generation": 7,
        "creationTimestamp": "2020-01-01T00:00:00Z", "deletionTimestamp": "2020-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 3,
    }});
    let made = created(&with(&map(), &sent));
    assert_eq!(
        made["metadata"],
        json!({"name": "a", "namespace": "default", "uid": "uid-1", "creationTimestamp": "2026-11-21T10:00:00Z"})
    );
}

#[test]
fn names_are_generated() {
    let object = with(&map(), &json!({"metadata": {"name": null, "generateName": "web-"}}));
    assert_eq!(created(&object)["metadata"]["name"], "web-cbbbb");
    let long = json!({"metadata": {"name": null, "generateName": "a".repeat(80)}});
    let name = created(&with(&map(), &long))["metadata"]["name"].clone();
    assert_eq!(name.as_str().map(str::len), Some(63));
    assert_eq!(suffix(u64::MAX).len(), 5);
}

#[test]
fn metadata_of_new_objects() {
    const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let owner =
        |change: Value| with(&json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}), &change);
    let meta = |change: Value| json!({"metadata": change});
    let bad = format!("metadata.name: Invalid value: \"A\": {SUBDOMAIN}");
    check_create(
        &map(),
        &[
            (meta(json!({"name": "A"})), &[&bad]),
            (
                meta(json!({"name": null})),
                &["metadata.name: Required value: name or generateName is required"],
            ),
            (meta(json!({"namespace": null})), &["metadata.namespace: Required value"]),
            (
                meta(json!({"labels": {"a/b/c": "x"}})),
                &[
                    "metadata.labels: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                ],
            ),
            (
                meta(json!({"labels": {"a": "-"}})),
                &[
                    "metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                ],
            ),
            (meta(json!({"annotations": {"Upper.IO/x": "any thing"}})), &[]),
            (
                meta(json!({"annotations": {"a": "x".repeat(256 << 10)}})),
                &["metadata.annotations: Too long: may not be more than 262144 bytes"],
            ),
            (
                meta(json!({"finalizers": ["mine"]})),
                &[
                    "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
                ],
            ),
            (
                meta(json!({"finalizers": ["orphan", "foregroundDeletion"]})),
                &[
                    "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set",
                ],
            ),
            (
                meta(json!({"ownerReferences": [owner(json!({"uid": ""}))]})),
                &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
            ),
            (
                meta(json!({"ownerReferences": [owner(json!({"kind": "Event"}))]})),
                &[
                    "metadata.ownerReferences: Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"p\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
                ],
            ),
            (
                meta(json!({"managedFields": [{"operation": "Delete", "manager": "x\ny"}]})),
                &[
                    "metadata.managedFields[0].operation: Invalid value: \"Delete\": must be `Apply` or `Update`",
                    "metadata.managedFields[0].manager: Invalid value: \"x\\ny\": invalid character \"\\\\n\" (at position 1)",
                ],
            ),
        ],
    );
    let two =
        [owner(json!({"controller": true})), owner(json!({"controller": true, "name": "q", "uid": "v"}))];
    let (_, found) = create(&with(&map(), &meta(json!({"ownerReferences": two}))));
    assert!(found[0].ends_with(
        "Only one reference can have Controller set to true. Found \"true\" in references for Pod/p and Pod/q"
    ));
}

#[test]
fn metadata_of_changed_objects() {
    let old = created(&with(&map(), &json!({"metadata": {"finalizers": ["x.io/a"]}})));
    check_update(
        "",
        &old,
        &[
            (json!({}), &[]),
            (json!({"metadata": {"uid": null, "creationTimestamp": null}}), &[]),
            (
                json!({"metadata": {"uid": "other"}}),
                &["metadata.uid: Invalid value: \"other\": field is immutable"],
            ),
            (
                json!({"metadata": {"namespace": "b"}}),
                &["metadata.namespace: Invalid value: \"b\": field is immutable"],
            ),
            (
                json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}),
                &["metadata.deletionTimestamp: Invalid value: \"2020-01-01T00:00:00Z\": field is immutable"],
            ),
        ],
    );
    let mut going = old.clone();
    let kind = crate::of(crate::cases::of(&old));
    assert_eq!(deletion::delete(kind, &mut going, &json!({}), now()), Deletion::Waits);
    check_update(
        "",
        &going,
        &[
            (json!({"metadata": {"deletionTimestamp": null, "deletionGracePeriodSeconds": null}}), &[]),
            (
                json!({"metadata": {"finalizers": ["x.io/a", "x.io/b"]}}),
                &[
                    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.io/b\"}",
                ],
            ),
        ],
    );
    let (done, _) = update("", &going, &json!({"metadata": {"finalizers": null}}));
    assert!(deletion::is_due(kind, &done));
}

#[test]
fn a_changed_wish_is_a_new_generation() {
    let pod = created(&crate::cases::pod());
    assert_eq!(pod["metadata"]["generation"], 1);
    let (same, _) = update("", &pod, &json!({"metadata": {"labels": {"a": "b"}, "generation": 9}}));
    assert_eq!(same["metadata"]["generation"], 1);
    let (changed, _) = update("", &pod, &json!({"spec": {"activeDeadlineSeconds": 5}}));
    assert_eq!(changed["metadata"]["generation"], 2);
    let (status, _) =
        update("status", &pod, &json!({"spec": {"nodeName": "x"}, "status": {"phase": "Running"}}));
    assert_eq!((&status["metadata"]["generation"], &status["spec"]["nodeName"]), (&json!(1), &Value::Null));
}

#[test]
fn deletions() {
    let kind = |object: &Value| crate::of(crate::cases::of(object));
    let delete = |object: &Value, options: Value| {
        let mut object = object.clone();
        (deletion::delete(kind(&object), &mut object, &options, now()), object)
    };
    let map = created(&map());
    assert_eq!(delete(&map, json!({})).0, Deletion::Now);
    let (how, waits) = delete(&map, json!({"propagationPolicy": "Foreground"}));
    assert_eq!(how, Deletion::Waits);
    assert_eq!(waits["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(waits["metadata"]["deletionTimestamp"], "2026-11-21T10:00:00Z");
    assert_eq!(delete(&waits, json!({})).0, Deletion::Unchanged);
    assert_eq!(delete(&waits, json!({"propagationPolicy": "Background"})).0, Deletion::Now);
    assert_eq!(
        delete(&map, json!({"orphanDependents": true})).1["metadata"]["finalizers"],
        json!(["orphan"])
    );

    let mut pod = created(&crate::cases::pod());
    assert_eq!(delete(&pod, json!({})).0, Deletion::Now);
    pod["spec"]["nodeName"] = "n".into();
    let (how, going) = delete(&pod, json!({}));
    assert_eq!(how, Deletion::Waits);
    let meta = &going["metadata"];
    assert_eq!(meta["deletionTimestamp"], "2026-11-21T10:00:30Z");
    assert_eq!((&meta["deletionGracePeriodSeconds"], &meta["generation"]), (&json!(30), &json!(2)));
    assert_eq!(delete(&going, json!({"gracePeriodSeconds": 60})).0, Deletion::Unchanged);
    let (how, hurried) = delete(&going, json!({"gracePeriodSeconds": 5}));
    assert_eq!(how, Deletion::Waits);
    assert_eq!(hurried["metadata"]["deletionTimestamp"], "2026-11-21T10:00:05Z");
    assert_eq!(delete(&going, json!({"gracePeriodSeconds": 0})).0, Deletion::Now);
    assert_eq!(
        delete(&pod, json!({"gracePeriodSeconds": -3})).1["metadata"]["deletionGracePeriodSeconds"],
        1
    );
}
