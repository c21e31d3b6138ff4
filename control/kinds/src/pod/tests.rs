//! Tables of the pod.

use serde_json::{Value, json};

use crate::cases::{cells, check_create, check_update, create, created, decoded, now, pod, update, with};

mod containers;
mod rows;
mod specs;

/// The pod with members in its only container.
fn container(change: &Value) -> Value {
    json!({"spec": {"containers": [with(&pod()["spec"]["containers"][0], change)]}})
}

#[test]
fn defaults() {
    let made = created(&pod());
    assert_eq!(
        made["spec"],
        json!({
            "containers": [{
                "name": "main", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        })
    );
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
}

#[test]
fn defaults_of_parts() {
    let parts = json!({
        "image": "r.io/nginx:1.2",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "livenessProbe": {"httpGet": {"port": 80}},
        "readinessProbe": {"grpc": {"port": 1}, "failureThreshold": 5},
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}},
        "volumeMounts": [{"name": "t", "mountPath": "/t"}],
    });
    let volumes = json!([
        {"name": "e"},
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "h", "hostPath": {"path": "/"}},
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ]);
    let object = with(&pod(), &container(&parts));
    let object =
        with(&object, &json!({"spec": {"volumes": volumes, "hostNetwork": true, "serviceAccountName": "a"}}));
    let made = created(&object);
    let container = &made["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["ports"], json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]));
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(
        container["livenessProbe"],
        json!({
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1,
        })
    );
    assert_eq!(container["readinessProbe"]["grpc"], json!({"port": 1, "service": ""}));
    assert_eq!(container["readinessProbe"]["failureThreshold"], 5);
    assert_eq!(container["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
    assert_eq!(
        made["spec"]["volumes"],
        json!([
            {"name": "e", "emptyDir": {}},
            {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}},
            {"name": "h", "hostPath": {"path": "/", "type": ""}},
            {"name": "t", "projected": {
                "defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
            }},
        ])
    );
    assert_eq!(made["spec"]["serviceAccount"], "a");
    assert_eq!(made["status"]["qosClass"], "Burstable");
}

#[test]
fn amounts_are_rounded_up_to_thousandths() {
    let made = created(&with(
        &pod(),
        &container(&json!({"resources": {"requests": {"cpu": "0.0001", "memory": "1500m"}}})),
    ));
    assert_eq!(
        made["spec"]["containers"][0]["resources"]["requests"],
        json!({"cpu": "1m", "memory": "1500m"})
    );
}

#[test]
fn quality_of_service() {
    let class = |resources: Value| {
        created(&with(&pod(), &container(&json!({"resources": resources}))))["status"]["qosClass"].clone()
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Mi"}})), "Guaranteed");
    assert_eq!(class(json!({"limits": {"cpu": "1"}})), "Burstable");
    assert_eq!(
        class(json!({"limits": {"cpu": "1", "memory": "2Mi"}, "requests": {"cpu": "1", "memory": "1Mi"}})),
        "Burstable"
    );
    assert_eq!(class(json!({"requests": {"ephemeral-storage": "1Gi"}})), "BestEffort");
}

#[test]
fn what_a_pod_needs() {
    let spec = json!({
        "overhead": {"cpu": "10m"},
        "initContainers": [
            {"resources": {"requests": {"cpu": "100m"}}, "restartPolicy": "Always"},
            {"resources": {"requests": {"cpu": "2"}}},
        ],
        "containers": [
            {"resources": {"requests": {"cpu": "500m", "memory": "64Mi"}}},
            {"resources": {"requests": {"cpu": "250m"}}},
        ],
    });
    let sum = super::resources::of_pod(&spec, "requests");
    assert_eq!(sum["cpu"].to_string(), "2110m");
    assert_eq!(sum["memory"].to_string(), "64Mi");
}

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
                &[
                    "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                    "spec.containers[0].resources.limits[memory]: Forbidden: memory limits cannot be added unless resizePolicy is RestartContainer",
                ],
            ),
            (
                container(&json!({"resources": {"requests": {"cpu": "1"}}})),
                &["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"],
            ),
        ],
    );
}

#[test]
fn faults_come_in_upstreams_order() {
    let bad = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad", "namespace": "a"},
        "spec": {
            "restartPolicy": "Sometimes",
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "hostPath": {"path": "/x"}}, {"name": "w"}],
            "containers": [{
                "name": "c", "image": "x",
                "volumeMounts": [{"name": "nope", "mountPath": "/x"}, {"name": "v", "mountPath": ""}],
                "env": [{"name": "a=b", "value": "x"}, {"name": "X", "valueFrom": {}}],
                "livenessProbe": {"httpGet": {"port": 0, "path": "/"}, "periodSeconds": -1},
                "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}},
                "lifecycle": {"preStop": {}},
            }],
        },
    });
    assert_eq!(
        create(&bad).1,
        [
            "spec.volumes[1].name: Duplicate value: \"v\"",
            "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            "spec.containers[0].volumeMounts[0].name: Not found: \"nope\"",
            "spec.containers[0].volumeMounts[1].mountPath: Required value",
            "spec.containers[0].resources.requests: Invalid value: \"2Gi\": must be less than or equal to memory limit of 1Gi",
            "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type",
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ]
    );
}

#[test]
fn bindings() {
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web", "annotations": {"a": "b"}},
        "target": {"kind": "Node", "name": "n1"}});
    assert!(super::binding::validate(&binding).is_empty());
    let wrong = with(&binding, &json!({"target": {"kind": "Pod", "name": ""}}));
    assert_eq!(
        crate::cases::texts(&super::binding::validate(&wrong)),
        [
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
            "target.name: Required value",
        ]
    );
    let mut pod = created(&pod());
    assert_eq!(super::binding::bind(&mut pod, &binding, now()), Ok(()));
    assert_eq!((&pod["spec"]["nodeName"], &pod["metadata"]["annotations"]["a"]), (&json!("n1"), &json!("b")));
    assert_eq!(pod["status"]["conditions"][0]["status"], "True");
    assert_eq!(
        super::binding::bind(&mut pod, &binding, now()),
        Err("pod web is already assigned to node \"n1\"".to_owned())
    );
}

#[test]
fn evictions() {
    use super::eviction::{budget, take};
    let mut pod = created(&with(&pod(), &json!({"metadata": {"labels": {"app": "web"}}})));
    let about = json!({
        "metadata": {"name": "b", "generation": 1}, "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3},
    });
    assert_eq!(budget(&pod, [&about]), Ok(None), "pending");
    pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    assert_eq!(budget(&pod, [&about]), Ok(Some(&about)));
    let other = with(&about, &json!({"spec": {"selector": {"matchLabels": {"app": "db"}}}}));
    assert_eq!(budget(&pod, [&other]), Ok(None));
    assert_eq!(budget(&pod, [&about, &about]).unwrap_err().code, 500);
    pod["status"]["conditions"] = json!([]);
    assert_eq!(budget(&pod, [&about]), Ok(None), "not ready, and enough others are");

    let mut counted = about.clone();
    assert_eq!(take(&mut counted, "web", now()), Ok(()));
    assert_eq!(counted["status"]["disruptionsAllowed"], 0);
    assert_eq!(counted["status"]["disruptedPods"], json!({"web": "2026-11-21T10:00:00Z"}));
    assert_eq!(counted["status"]["conditions"][0]["reason"], "InsufficientPods");
    let refused = take(&mut counted, "web", now()).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    );
    let cause = &refused.details["causes"][0]["message"];
    assert_eq!(*cause, "The disruption budget b needs 2 healthy pods and has 3 currently");
    let mut stale = with(&about, &json!({"metadata": {"generation": 2}}));
    assert_eq!(take(&mut stale, "web", now()).unwrap_err().code, 429);
}

#[test]
fn warnings() {
    let warned = |change: Value| {
        let made = created(&with(&pod(), &change));
        crate::of(crate::cases::of(&made)).warnings(&made, None)
    };
    assert_eq!(warned(json!({})), Vec::<String>::new());
    assert_eq!(warned(json!({"metadata": {"name": "a.b"}}))[0].split(':').next(), Some("metadata.name"));
    assert_eq!(
        warned(json!({"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}})),
        [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead"
        ]
    );
    assert_eq!(
        warned(container(
            &json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}]})
        )),
        [
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply"
        ]
    );
    assert_eq!(
        warned(container(&json!({"ports": [{"containerPort": 80}, {"containerPort": 80}]}))),
        ["spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"]
    );
    assert_eq!(
        warned(json!({"spec": {"terminationGracePeriodSeconds": -1}})),
        [
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ]
    );
}

#[test]
fn fields_for_selectors() {
    let mut made = created(&with(&pod(), &json!({"spec": {"nodeName": "n"}})));
    made["status"]["podIPs"] = json!([{"ip": "10.0.0.1"}]);
    let kind = crate::of(crate::cases::of(&made));
    let fields = kind.fields(&made);
    let get = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
    assert_eq!(get("spec.nodeName"), Some("n"));
    assert_eq!(get("spec.hostNetwork"), Some("false"));
    assert_eq!(get("status.phase"), Some("Pending"));
    assert_eq!(get("status.podIP"), Some("10.0.0.1"));
    assert_eq!(fields.iter().map(|(name, _)| *name).collect::<Vec<_>>(), kind.selectable());
}

#[test]
fn pod_templates_are_stored_alone() {
    let object = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t", "namespace": "default"},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let made = created(&object);
    assert_eq!(made["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(cells(&made), ["t", "c", "i", "a=b"]);
    let (_, found) = create(&with(&object, &json!({"template": {"metadata": {"labels": {"-": ""}}}})));
    assert!(found[0].starts_with("template.labels: Invalid value: \"-\""), "{found:?}");
}
