//! What may change in a pod, and through which subresource.

use super::*;

#[test]
fn updates() {
    let old = created(&with(
        &pod(),
        &json!({"spec": {
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        }}),
    ));
    let image = |image: &str| json!({"spec": {"containers": [with(&old["spec"]["containers"][0], &json!({"image": image}))]}});
    let other = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    check_update(
        "",
        &old,
        &[
            (image("busybox"), &[]),
            (
                image(" x"),
                &[
                    "spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace",
                ],
            ),
            (json!({"spec": {"activeDeadlineSeconds": 5}}), &[]),
            (json!({"spec": {"nodeName": "n"}}), &[other]),
            (json!({"spec": {"restartPolicy": "Never"}}), &[other]),
            (
                json!({"spec": {"containers": [old["spec"]["containers"][0], {"name": "b", "image": "b"}]}}),
                &["spec.containers: Forbidden: pod updates may not add or remove containers"],
            ),
            (
                json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 6}, {"operator": "Exists"}]}}),
                &[],
            ),
            (
                json!({"spec": {"tolerations": null}}),
                &[
                    "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
                ],
            ),
            (
                json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}),
                &[
                    "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
                    "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
                ],
            ),
        ],
    );
    let (_, found) = update("", &old, &json!({"spec": {"nodeName": "n"}}));
    assert!(found[0].ends_with("\n+ nodeName: \"n\"\n"), "{found:?}");
    let (late, _) = update("", &old, &json!({"spec": {"activeDeadlineSeconds": 5}}));
    check_update(
        "",
        &late,
        &[
            (json!({"spec": {"activeDeadlineSeconds": 4}}), &[]),
            (
                json!({"spec": {"activeDeadlineSeconds": 6}}),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value",
                ],
            ),
            (
                json!({"spec": {"activeDeadlineSeconds": null}}),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
                ],
            ),
        ],
    );
}

#[test]
fn gated_pods_may_be_narrowed() {
    let old = created(&with(
        &pod(),
        &json!({"spec": {"schedulingGates": [{"name": "x.io/g"}], "nodeSelector": {"a": "b"}}}),
    ));
    assert_eq!(old["status"]["conditions"][0]["reason"], "SchedulingGated");
    assert_eq!(cells(&old)[2], "SchedulingGated");
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}],
    }}});
    check_update(
        "",
        &old,
        &[
            (json!({"spec": {"schedulingGates": null}}), &[]),
            (json!({"spec": {"nodeSelector": {"c": "d"}}}), &[]),
            (
                json!({"spec": {"nodeSelector": {"a": "x"}}}),
                &[
                    "spec.nodeSelector: Invalid value: {\"a\":\"x\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
                ],
            ),
            (json!({"spec": {"affinity": affinity}}), &[]),
            (
                json!({"spec": {"schedulingGates": [{"name": "x.io/h"}]}}),
                &[
                    "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x.io/h'",
                ],
            ),
        ],
    );
}

#[test]
fn status_updates() {
    let mut old = created(&with(&pod(), &json!({"spec": {"restartPolicy": "Never"}})));
    old["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]);
    old["status"]["containerStatuses"] =
        decoded(&with(&old, &json!({"status": {"containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": 1}}}]}})))["status"]["containerStatuses"].clone();
    let (new, errors) = update(
        "status",
        &old,
        &json!({
            "metadata": {"ownerReferences": null, "labels": {"a": "b"}},
            "spec": {"nodeName": "n"}, "status": {"phase": "Failed", "qosClass": null},
        }),
    );
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        (&new["spec"], &new["metadata"]["ownerReferences"]),
        (&old["spec"], &old["metadata"]["ownerReferences"])
    );
    assert_eq!(
        (&new["status"]["qosClass"], &new["metadata"]["labels"]["a"]),
        (&json!("BestEffort"), &json!("b"))
    );
    check_update(
        "status",
        &old,
        &[
            (
                json!({"status": {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}}),
                &[
                    "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
                ],
            ),
            (
                json!({"status": {"qosClass": "Burstable"}}),
                &["status.qosClass: Invalid value: \"Burstable\": field is immutable"],
            ),
            (
                json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}}),
                &[
                    "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family",
                ],
            ),
            (
                json!({"status": {"podIP": "x"}}),
                &[
                    "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
        ],
    );
}

#[test]
fn ephemeral_containers() {
    let old = created(&pod());
    let debug = json!({"name": "debug", "image": "busybox", "targetContainerName": "main"});
    let (new, errors) = update(
        "ephemeralcontainers",
        &old,
        &json!({"spec": {"ephemeralContainers": [debug], "nodeName": "n"}}),
    );
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!((&new["spec"]["nodeName"], &new["metadata"]["generation"]), (&Value::Null, &json!(2)));
    let add = |change: Value| json!({"spec": {"ephemeralContainers": [with(&debug, &change)]}});
    check_update(
        "ephemeralcontainers",
        &old,
        &[
            (add(json!({"name": "main"})), &["spec.ephemeralContainers[0].name: Duplicate value: \"main\""]),
            (
                add(json!({"targetContainerName": "x"})),
                &["spec.ephemeralContainers[0].targetContainerName: Not found: \"x\""],
            ),
            (
                add(json!({"ports": [{"containerPort": 1}]})),
                &["spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"],
            ),
            (
                add(json!({"resources": {"limits": {"cpu": "1"}}})),
                &[
                    "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
                ],
            ),
        ],
    );
    check_update(
        "ephemeralcontainers",
        &new,
        &[
            (
                json!({"spec": {"ephemeralContainers": null}}),
                &[
                    "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed",
                ],
            ),
            (
                add(json!({"image": "other"})),
                &[
                    "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be changed",
                ],
            ),
        ],
    );
}

#[test]
fn resizes() {
    let resources = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}}});
    let old = created(&with(&pod(), &container(&resources("1"))));
    let (new, errors) = update("resize", &old, &container(&resources("1500m")));
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(new["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1500m");
    assert_eq!(new["spec"]["containers"][0]["image"], "nginx");
    check_update(
        "resize",
        &old,
        &[
            (
                container(
                    &json!({"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1", "ephemeral-storage": "1"}}}),
                ),
                &["spec: Forbidden: only cpu and memory resources are mutable"],
            ),
            (
                container(
                    &json!({"resources": {"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "1", "memory": "1Mi"}}}),
                ),
                &["spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"],
            ),
            (
                container(&json!({"resources": {"requests": {"cpu": "1"}}})),
                &["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"],
            ),
        ],
    );
}
