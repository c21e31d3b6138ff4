//! Volumes and claims.

use super::*;

fn volume() -> Value {
    cluster(
        "PersistentVolume",
        &json!({"spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "hostPath": {"path": "/data"},
        }}),
    )
}

#[test]
fn volumes() {
    let made = created(&volume());
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(
        (&made["spec"]["volumeMode"], &made["status"]["phase"]),
        (&json!("Filesystem"), &json!("Pending"))
    );
    let mut bound = made.clone();
    bound["spec"]["claimRef"] = json!({"namespace": "n", "name": "c"});
    bound["status"]["phase"] = "Bound".into();
    assert_eq!(
        cells(&bound),
        ["a", "1Gi", "RWO,ROX", "Retain", "Bound", "n/c", "", "<unset>", "", "0s", "Filesystem"]
    );
    check_create(
        &volume(),
        &[
            (
                json!({"spec": {"capacity": null}}),
                &[
                    "spec.capacity: Required value",
                    "spec.capacity: Unsupported value: null: supported values: \"storage\"",
                ],
            ),
            (
                json!({"spec": {"capacity": {"storage": "0"}}}),
                &["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"],
            ),
            (json!({"spec": {"accessModes": null}}), &["spec.accessModes: Required value"]),
            (
                json!({"spec": {"accessModes": ["X"]}}),
                &[
                    "spec.accessModes: Unsupported value: \"X\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                ],
            ),
            (
                json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]}}),
                &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
            ),
            (json!({"spec": {"hostPath": null}}), &["spec: Required value: must specify a volume type"]),
            (
                json!({"spec": {"nfs": {"server": "s", "path": "/p"}}}),
                &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                json!({"spec": {"hostPath": null, "local": {"path": "/d"}}}),
                &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
            ),
            (
                json!({"spec": {"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}}),
                &[
                    "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
                ],
            ),
        ],
    );
}

#[test]
fn changed_volumes() {
    let made = created(&volume());
    check_update(
        "",
        &made,
        &[
            (
                json!({"spec": {"hostPath": {"path": "/other"}}}),
                &[
                    "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
                ],
            ),
            (
                json!({"spec": {"volumeMode": "Block"}}),
                &["volumeMode: Invalid value: \"Block\": field is immutable"],
            ),
            (json!({"spec": {"capacity": {"storage": "2Gi"}}}), &[]),
        ],
    );
}

fn claim() -> Value {
    object(
        "PersistentVolumeClaim",
        &json!({"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }}),
    )
}

#[test]
fn claims() {
    let made = created(&claim());
    assert_eq!(
        (&made["spec"]["volumeMode"], &made["status"]),
        (&json!("Filesystem"), &json!({"phase": "Pending"}))
    );
    assert_eq!(cells(&made), ["a", "Pending", "", "", "", "", "<unset>", "0s", "Filesystem"]);
    check_create(
        &claim(),
        &[
            (
                json!({"spec": {"accessModes": null}}),
                &["spec.accessModes: Required value: at least 1 access mode is required"],
            ),
            (json!({"spec": {"resources": null}}), &["spec.resources[storage]: Required value"]),
            (
                json!({"spec": {"resources": {"requests": {"storage": "-1"}}}}),
                &["spec.resources[storage]: Invalid value: \"-1\": must be greater than zero"],
            ),
            (
                json!({"spec": {"volumeMode": "X"}}),
                &["spec.volumeMode: Unsupported value: \"X\": supported values: \"Block\", \"Filesystem\""],
            ),
            (
                json!({"spec": {"dataSourceRef": {"kind": "X", "name": "n"}}}),
                &[
                    "spec.dataSource: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                    "spec.dataSourceRef: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                ],
            ),
        ],
    );
    let (dropped, _) = create(&with(&claim(), &json!({"spec": {"dataSource": {"kind": "X", "name": "n"}}})));
    assert_eq!(dropped["spec"]["dataSource"], Value::Null);
    let (sourced, _) = create(&with(
        &claim(),
        &json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "n"}}}),
    ));
    assert_eq!(sourced["spec"]["dataSourceRef"], sourced["spec"]["dataSource"]);
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let size = |text: &str| json!({"spec": {"resources": {"requests": {"storage": text}}}});
    check_update(
        "",
        &made,
        &[
            (json!({"spec": {"volumeName": "v"}}), &[]),
            (json!({"spec": {"storageClassName": "c"}}), &[]),
            (json!({"spec": {"accessModes": ["ReadWriteMany"]}}), &[immutable]),
            (size("2Gi"), &[immutable]),
        ],
    );
    let mut bound = made.clone();
    bound["spec"]["volumeName"] = "v".into();
    bound["status"] =
        json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
    assert_eq!(cells(&bound)[1..5], ["Bound", "v", "1Gi", "RWO"]);
    check_update(
        "",
        &bound,
        &[
            (size("2Gi"), &[]),
            (
                size("512Mi"),
                &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
            ),
            (json!({"spec": {"volumeName": "w"}}), &[immutable]),
        ],
    );
}

#[test]
fn warnings() {
    let warned = |object: &Value| crate::of(of(object)).warnings(&created(object), None);
    assert_eq!(warned(&volume()), Vec::<String>::new());
    let old = with(&volume(), &json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}}));
    assert!(warned(&old)[0].starts_with("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy"));
    let class = json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "c"}}});
    assert_eq!(
        warned(&with(&claim(), &class)),
        [
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ]
    );
    let part = json!({"spec": {"resources": {"requests": {"storage": "1500m"}}}});
    assert_eq!(
        warned(&with(&claim(), &part)),
        ["spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer"]
    );
}
