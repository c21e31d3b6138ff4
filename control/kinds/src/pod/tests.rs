//! Tables of the pod.

use serde_json::{Value, json};

use crate::cases::{cells, check_create, check_update, create, created, decoded, now, pod, update, with};

mod changes;
mod containers;
mod laws;
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
    assert_eq!(warned(json!({"spec": {"terminationGracePeriodSeconds": -1}})), [] as [&str; 0]);
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
